//! Templates with Envoy's command operators: `"%REQ(:METHOD)% %RESPONSE_CODE%"`.

use std::sync::Arc;

use http::HeaderName;

/// A line, or one field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: Arc<str>,
    pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Stands as it is.
    Text(Arc<str>),
    /// A value, cut to so many bytes where a limit is written.
    Value(Operator, Option<usize>),
}

/// What stands between two `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// A value that every request has, or may have.
    Simple(Simple),
    /// `REQ(NAME?OTHER)`.
    Request(Source, Option<Source>),
    /// `RESP(NAME?OTHER)`.
    Response(Source, Option<Source>),
}

/// Where `REQ` and `RESP` look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `:method`.
    Method,
    /// `:path`, with its query.
    Path,
    /// `:authority`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// `:status`.
    Status,
    /// A header.
    Header(HeaderName),
}

macro_rules! operators {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The operators without arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Simple { $($(#[$doc])* $variant,)* }

        impl Simple {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written between two `%`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

operators! {
    /// When the request began, RFC 3339 with milliseconds.
    StartTime = "START_TIME",
    /// `HTTP/1.1`, `HTTP/2`.
    Protocol = "PROTOCOL",
    /// The status; 0 where none was sent.
    ResponseCode = "RESPONSE_CODE",
    /// `via_upstream`, or the mesh's reason.
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS",
    /// Envoy's letters.
    ResponseFlags = "RESPONSE_FLAGS",
    /// Always `-`: told by the reason.
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS",
    /// What went wrong with the upstream's connection.
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON",
    /// Bytes of the request's body.
    BytesReceived = "BYTES_RECEIVED",
    /// Bytes of the response's body.
    BytesSent = "BYTES_SENT",
    /// From the request's head to the end, in milliseconds.
    Duration = "DURATION",
    /// The endpoint.
    UpstreamHost = "UPSTREAM_HOST",
    /// The endpoint, by its other name.
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS",
    /// The cluster.
    UpstreamCluster = "UPSTREAM_CLUSTER",
    /// The cluster; Istio's default line has it by this name.
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW",
    /// Our end of the connection to the endpoint.
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS",
    /// What the client dialled.
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS",
    /// The client.
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS",
    /// The client, without its port.
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    /// The client's SPIFFE identity.
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN",
    /// The SNI of the client's handshake.
    RequestedServerName = "REQUESTED_SERVER_NAME",
    /// The route rule's name.
    RouteName = "ROUTE_NAME",
    /// gRPC's status, as a number.
    GrpcStatusNumber = "GRPC_STATUS_NUMBER",
    /// The same: a number, not a name.
    GrpcStatus = "GRPC_STATUS",
    /// The trace, where the request carries one.
    TraceId = "TRACE_ID",
    /// Ours: the reason of an answer that the mesh made.
    Reason = "REASON",
    /// Ours: the policy that refused.
    Policy = "POLICY",
}

/// A template that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `%` without its other one.
    #[error("the `%` at byte {0} has no other end; write `%%` for the character itself")]
    Open(usize),
    /// Not an operator that is known.
    #[error("`%{0}%` is not honoured; what is known are {known}, REQ(..) and RESP(..)", known = known())]
    Unknown(Arc<str>),
    /// The name of no header.
    #[error("`{0}` is no header's name")]
    Header(Arc<str>),
    /// Too long.
    #[error("{0} bytes, more than {MAX_SOURCE}")]
    Long(usize),
}

/// The longest template, in bytes.
pub const MAX_SOURCE: usize = 8 << 10;

fn known() -> String {
    Simple::ALL.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ")
}

// === impl Template ===

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What of it is not understood.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::Long(source.len()));
        }
        Ok(Self { source: source.into(), pieces: pieces(source)? })
    }

    /// As it was written.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Its parts in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The operator, where it is all of the template: its value keeps its type in JSON.
    pub fn single(&self) -> Option<&Operator> {
        match self.pieces.as_slice() {
            [Piece::Value(operator, None)] => Some(operator),
            _ => None,
        }
    }

    /// The request headers that it shows.
    pub fn request_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.sources(|operator| match operator {
            Operator::Request(first, other) => Some((first, other.as_ref())),
            _ => None,
        })
    }

    /// The response headers that it shows.
    pub fn response_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.sources(|operator| match operator {
            Operator::Response(first, other) => Some((first, other.as_ref())),
            _ => None,
        })
    }

    fn sources<'a>(
        &'a self,
        of: impl Fn(&'a Operator) -> Option<(&'a Source, Option<&'a Source>)>,
    ) -> impl Iterator<Item = &'a HeaderName> {
        let operators = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(operator, _) => Some(operator),
            Piece::Text(_) => None,
        });
        let sources = operators.filter_map(of).flat_map(|(first, other)| std::iter::once(first).chain(other));
        sources.filter_map(|source| match source {
            Source::Header(name) => Some(name),
            _ => None,
        })
    }
}

fn pieces(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while let Some(found) = source[at..].find('%') {
        text.push_str(&source[at..at + found]);
        let start = at + found + 1;
        let end = operator_end(source, start).ok_or(TemplateError::Open(start - 1))?;
        if end == start {
            text.push('%');
        } else {
            flush(&mut text, &mut pieces);
            pieces.push(value(&source[start..end])?);
        }
        at = end + 1;
    }
    text.push_str(&source[at..]);
    flush(&mut text, &mut pieces);
    Ok(pieces)
}

/// Where an operator ends: at the next `%` that is not inside brackets.
fn operator_end(source: &str, start: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (i, c) in source[start..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '%' if depth <= 0 => return Some(start + i),
            _ => {}
        }
    }
    None
}

fn flush(text: &mut String, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text).into()));
    }
}

/// `NAME`, `NAME(ARGUMENT)`, each with `:LENGTH` behind it.
fn value(written: &str) -> Result<Piece, TemplateError> {
    let unknown = || TemplateError::Unknown(written.into());
    let (body, limit) = match written.rsplit_once(':') {
        Some((body, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (body, Some(digits.parse().map_err(|_| unknown())?))
        }
        _ => (written, None),
    };
    let operator = match body.strip_suffix(')').and_then(|body| body.split_once('(')) {
        Some(("REQ", argument)) => {
            let (first, other) = sources(argument)?;
            Operator::Request(first, other)
        }
        Some(("RESP", argument)) => {
            let (first, other) = sources(argument)?;
            Operator::Response(first, other)
        }
        Some(_) => return Err(unknown()),
        None => {
            let simple = Simple::ALL.iter().copied().find(|simple| simple.name() == body);
            Operator::Simple(simple.ok_or_else(unknown)?)
        }
    };
    Ok(Piece::Value(operator, limit))
}

fn sources(argument: &str) -> Result<(Source, Option<Source>), TemplateError> {
    match argument.split_once('?') {
        Some((first, other)) => Ok((source(first)?, Some(source(other)?))),
        None => Ok((source(argument)?, None)),
    }
}

fn source(name: &str) -> Result<Source, TemplateError> {
    let lower = name.to_ascii_lowercase();
    Ok(match lower.as_str() {
        ":method" => Source::Method,
        ":path" => Source::Path,
        ":authority" | "host" => Source::Authority,
        ":scheme" => Source::Scheme,
        ":status" => Source::Status,
        _ => {
            let name = HeaderName::try_from(lower).map_err(|_| TemplateError::Header(name.into()))?;
            Source::Header(name)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(source: &str) -> Vec<Piece> {
        Template::parse(source).unwrap().pieces().to_vec()
    }

    #[test]
    fn operators_and_text_take_turns() {
        let pieces = parts("[%START_TIME%] 100%% %REQ(X-Original-Path?:PATH):20%\n");
        let other = HeaderName::from_static("x-original-path");
        let path = Operator::Request(Source::Header(other), Some(Source::Path));
        assert_eq!(
            pieces,
            [
                Piece::Text("[".into()),
                Piece::Value(Operator::Simple(Simple::StartTime), None),
                Piece::Text("] 100% ".into()),
                Piece::Value(path, Some(20)),
                Piece::Text("\n".into()),
            ]
        );
    }

    #[test]
    fn headers_that_are_shown_are_known() {
        let template = Template::parse("%REQ(A?B)%%RESP(C)%%REQ(:METHOD)%").unwrap();
        assert_eq!(template.request_headers().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(template.response_headers().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn one_operator_alone_keeps_its_type() {
        assert!(Template::parse("%RESPONSE_CODE%").unwrap().single().is_some());
        assert!(
            ["%RESPONSE_CODE% ", "%PROTOCOL:3%", ""]
                .iter()
                .all(|t| Template::parse(t).unwrap().single().is_none())
        );
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let error = |source: &str| Template::parse(source).unwrap_err();
        assert_eq!(error("a %PROTOCOL"), TemplateError::Open(2));
        assert_eq!(error("%FILTER_STATE(x:PLAIN)%"), TemplateError::Unknown("FILTER_STATE(x:PLAIN)".into()));
        assert_eq!(error("%START_TIME(%s)%"), TemplateError::Unknown("START_TIME(%s)".into()));
        assert_eq!(error("%REQ(a b)%"), TemplateError::Header("a b".into()));
        assert_eq!(
            error("%PROTOCOL:99999999999999999999999%"),
            TemplateError::Unknown("PROTOCOL:99999999999999999999999".into())
        );
        assert_eq!(error(&"x".repeat(9000)), TemplateError::Long(9000));
    }
}
