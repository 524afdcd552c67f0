//! Formats of the access log, compiled: what stands in a line before each of its values, and where the values come
//! from. Everything that a line does not decide is decided here, once.

use http::HeaderName;
use weft_core::access_log::template::{Operator, Piece, Simple, Source, Template};
use weft_core::model::telemetry::LogFormat;

use super::kept::{Text, text_of_header};
use super::room::Constant;

/// Istio's line, with reason and policy at its end.
const TEXT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% "#,
    r#"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" "#,
    r#"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "#,
    r#""%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% "#,
    r#"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "#,
    r#"%ROUTE_NAME% %REASON% %POLICY%"#,
);

/// Istio's fields, with the client's identity, the gRPC status, reason and policy.
const FIELDS: [(&str, &str); 28] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("grpc_status", "%GRPC_STATUS_NUMBER%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("policy", "%POLICY%"),
    ("protocol", "%PROTOCOL%"),
    ("reason", "%REASON%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("source_principal", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// A format, ready to be filled in.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) steps: Vec<Step>,
    /// What stands behind the last value, with the end of the line.
    pub(super) end: Constant,
}

/// A value, and what stands before it.
#[derive(Debug)]
pub(super) struct Step {
    /// Stands before a value that is there, with the quote that begins it.
    pub(super) before: Constant,
    pub(super) value: Value,
    /// Whether a quote ends it.
    pub(super) quoted: bool,
    /// A text is cut to so many bytes.
    pub(super) most: usize,
    pub(super) style: Style,
    /// Shown where there is no value.
    pub(super) other: Option<Box<Step>>,
    /// Stands for value and all before it where there is none.
    pub(super) absent: Constant,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Simple(Simple),
    Text(Text),
    RequestHeader(HeaderName),
    ResponseHeader(HeaderName),
    Scheme,
    ServiceTime,
    Nothing,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// In a line of text.
    Text,
    /// As a value of JSON, which keeps its type.
    Json,
    /// Inside the quotes of a text of JSON.
    Part,
}

/// What is known of a step's value in all lines of a kind.
#[derive(Debug)]
pub(super) enum Known {
    /// The value, or that there is none: the bytes of the whole step.
    Value(Vec<u8>),
    /// There is one in each of them.
    Present,
    Nothing,
}

/// A format, as far as it is compiled.
#[derive(Default)]
struct Draft {
    steps: Vec<Step>,
    /// What has to stand before the next value.
    before: Vec<u8>,
}

// === impl Format ===

impl Format {
    /// Compiles a format.
    pub(super) fn of(format: &LogFormat) -> Self {
        let mut draft = Draft::default();
        match format {
            LogFormat::DefaultText => draft.text(&constant(TEXT)),
            LogFormat::Text(template) => draft.text(template),
            LogFormat::DefaultJson => {
                draft.json(FIELDS.iter().map(|(name, source)| (*name, constant(source))))
            }
            LogFormat::Json(fields) => draft.json(fields.iter().map(|(name, t)| (&**name, t.clone()))),
        }
        draft.before.push(b'\n');
        Self { steps: draft.steps, end: Constant::of(&draft.before) }
    }

    /// The format of lines of which more is known: what is the same in all of them is part of what stands between the
    /// values, and so are the quotes of values that all of them have.
    pub(super) fn knowing(&self, mut known: impl FnMut(&Step) -> Known) -> Self {
        let mut draft = Draft::default();
        for step in &self.steps {
            match known(step) {
                Known::Value(bytes) => draft.before.extend(bytes),
                Known::Present => {
                    let before = std::mem::take(&mut draft.before);
                    draft.steps.push(Step { quoted: false, ..step.behind(&before) });
                    draft.before.extend(step.quoted.then_some(b'"'));
                }
                Known::Nothing => {
                    let before = std::mem::take(&mut draft.before);
                    draft.steps.push(step.behind(&before));
                }
            }
        }
        draft.before.extend(self.end.bytes());
        Self { steps: draft.steps, end: Constant::of(&draft.before) }
    }
}

fn constant(source: &str) -> Template {
    Template::parse(source).expect("a constant that a test reads")
}

impl Draft {
    fn text(&mut self, template: &Template) {
        for piece in template.pieces() {
            match piece {
                Piece::Text(text) => self.before.extend_from_slice(text.as_bytes()),
                Piece::Value(operator, limit) => self.value(operator, *limit, Style::Text),
            }
        }
    }

    fn json<'a>(&mut self, fields: impl Iterator<Item = (&'a str, Template)>) {
        let mut separator = "{";
        for (name, template) in fields {
            self.before.extend_from_slice(separator.as_bytes());
            separator = ",";
            self.before.push(b'"');
            escape(&mut self.before, name);
            self.before.extend_from_slice(b"\":");
            match template.single() {
                Some(operator) => self.value(operator, None, Style::Json),
                None => self.composed(&template),
            }
        }
        self.before.extend_from_slice(if separator == "{" { b"{}" } else { b"}" });
    }

    fn composed(&mut self, template: &Template) {
        self.before.push(b'"');
        for piece in template.pieces() {
            match piece {
                Piece::Text(text) => escape(&mut self.before, text),
                Piece::Value(operator, limit) => self.value(operator, *limit, Style::Part),
            }
        }
        self.before.push(b'"');
    }

    fn value(&mut self, operator: &Operator, limit: Option<usize>, style: Style) {
        let (value, other) = match operator {
            Operator::Simple(simple) => (simple_value(*simple), None),
            Operator::Request(first, other) => (request(first), other.as_ref().map(request)),
            Operator::Response(first, other) => (response(first), other.as_ref().map(response)),
        };
        if let (Value::Nothing, None) = (&value, &other) {
            self.before.extend_from_slice(nothing(style));
            return;
        }
        let (before, most) = (std::mem::take(&mut self.before), limit.unwrap_or(usize::MAX));
        let other = other.map(|other| Box::new(Step::new(&before, other, most, style, None)));
        self.steps.push(Step::new(&before, value, most, style, other));
    }
}

impl Step {
    fn new(before: &[u8], value: Value, most: usize, style: Style, other: Option<Box<Self>>) -> Self {
        let json = style == Style::Json;
        let quoted = json && !value.is_number();
        let quote = if quoted { &b"\""[..] } else { &[] };
        let absent = Constant::of(&[before, nothing(style)].concat());
        Self { before: Constant::of(&[before, quote].concat()), value, quoted, most, style, other, absent }
    }

    /// The same behind more bytes.
    fn behind(&self, bytes: &[u8]) -> Self {
        let constant =
            |of: &Constant| Constant::of(&bytes.iter().copied().chain(of.bytes()).collect::<Vec<_>>());
        Self {
            before: constant(&self.before),
            value: self.value.clone(),
            other: self.other.as_ref().map(|other| Box::new(other.behind(bytes))),
            absent: constant(&self.absent),
            ..*self
        }
    }
}

/// What stands where there is no value.
fn nothing(style: Style) -> &'static [u8] {
    if style == Style::Json { b"null" } else { b"-" }
}

impl Value {
    /// Whether requests of a kind have it in common.
    pub(super) fn is_of_the_kind(&self) -> bool {
        use Simple::{GrpcStatus, GrpcStatusNumber, Protocol, Reason, ResponseCode, ResponseCodeDetails};
        use Simple::{ResponseFlags, RouteName, UpstreamCluster, UpstreamClusterRaw};
        let of_outcome = |simple| {
            matches!(
                simple,
                GrpcStatus | GrpcStatusNumber | Reason | ResponseCode | ResponseCodeDetails | ResponseFlags
            )
        };
        let told = |simple| matches!(simple, Protocol | RouteName | UpstreamCluster | UpstreamClusterRaw);
        match self {
            Self::Simple(simple) => of_outcome(*simple) || told(*simple),
            value => matches!(value, Self::Scheme | Self::Nothing),
        }
    }

    /// Whether it is a header of the user's choice, of which nothing is known.
    pub(super) fn is_chosen(&self) -> bool {
        matches!(self, Self::RequestHeader(_) | Self::ResponseHeader(_))
    }

    /// Whether JSON shows it without quotes.
    fn is_number(&self) -> bool {
        use Simple::{BytesReceived, BytesSent, Duration, GrpcStatus, GrpcStatusNumber, ResponseCode};
        let counts = |simple| {
            matches!(
                simple,
                ResponseCode | BytesReceived | BytesSent | Duration | GrpcStatus | GrpcStatusNumber
            )
        };
        matches!(self, Self::ServiceTime) || matches!(self, Self::Simple(simple) if counts(*simple))
    }
}

fn simple_value(simple: Simple) -> Value {
    match simple {
        Simple::UpstreamTransportFailureReason => Value::Text(Text::TransportFailure),
        Simple::RequestedServerName => Value::Text(Text::ServerName),
        Simple::ConnectionTerminationDetails => Value::Nothing,
        simple => Value::Simple(simple),
    }
}

fn request(source: &Source) -> Value {
    match source {
        Source::Method => Value::Text(Text::Method),
        Source::Path => Value::Text(Text::Path),
        Source::Authority => Value::Text(Text::Authority),
        Source::Scheme => Value::Scheme,
        Source::Status => Value::Nothing,
        Source::Header(name) => {
            text_of_header(name).map_or_else(|| Value::RequestHeader(name.clone()), Value::Text)
        }
    }
}

fn response(source: &Source) -> Value {
    match source {
        Source::Status => Value::Simple(Simple::ResponseCode),
        Source::Header(name) if name == "x-envoy-upstream-service-time" => Value::ServiceTime,
        Source::Header(name) => Value::ResponseHeader(name.clone()),
        _ => Value::Nothing,
    }
}

/// Appends a text as it stands between the quotes of JSON.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    // Into memory: it cannot fail.
    let _ = serde_json::to_writer(&mut *out, text);
    out.pop();
    out.remove(start);
}
