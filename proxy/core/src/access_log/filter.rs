//! Expressions that say which requests are logged: the part of CEL that people write in `filter.expression`.
//!
//! Comparisons, `in`, `has()`, `startsWith`, `endsWith` and `contains` on Envoy's attributes, joined by `&&`, `||`,
//! `!` and brackets. A value that a request does not have makes its comparison neither true nor false, as in CEL;
//! an expression that is not true logs nothing.

use std::sync::Arc;
use std::time::Duration;

mod parse;

/// An expression, as it was written and as it is decided by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    source: Arc<str>,
    expression: Expression,
    headers: Vec<http::HeaderName>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    Has(Attribute),
    True(Attribute),
    Compare(Attribute, Comparison, Literal),
    In(Attribute, Vec<Literal>),
    Text(Attribute, TextTest, Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Number(i64),
    Text(Arc<str>),
    Flag(bool),
    Time(Duration),
}

/// A value that an expression names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// One of a request's or connection's own.
    Simple(Simple),
    /// `request.headers['name']`.
    RequestHeader(http::HeaderName),
}

/// What kind of value an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A duration.
    Time,
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// A whole number.
    Number(i64),
    /// A text.
    Text(&'a str),
    /// True or false.
    Flag(bool),
    /// A duration.
    Time(Duration),
}

macro_rules! attributes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $kind:ident,)*) => {
        /// The attributes without an argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Simple { $($(#[$doc])* $variant,)* }

        impl Simple {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The kind of its value.
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }
        }
    };
}

attributes! {
    /// The status.
    ResponseCode = "response.code" Number,
    /// `via_upstream`, or the mesh's reason.
    ResponseCodeDetails = "response.code_details" Text,
    /// gRPC's status.
    GrpcStatus = "response.grpc_status" Number,
    /// Bytes of the response's body.
    ResponseSize = "response.size" Number,
    /// Bytes of the request's body.
    RequestSize = "request.size" Number,
    /// The request's method.
    Method = "request.method" Text,
    /// The path with its query.
    Path = "request.path" Text,
    /// The path without its query.
    UrlPath = "request.url_path" Text,
    /// `Host` or `:authority`.
    Host = "request.host" Text,
    /// `HTTP/1.1`, `HTTP/2`.
    Protocol = "request.protocol" Text,
    /// `User-Agent`.
    UserAgent = "request.useragent" Text,
    /// `X-Request-Id`.
    Id = "request.id" Text,
    /// From the request's head to the end.
    Duration = "request.duration" Time,
    /// Whether the client came by mTLS.
    Mtls = "connection.mtls" Flag,
    /// The SNI of the client's handshake.
    ServerName = "connection.requested_server_name" Text,
    /// The client's identity.
    Peer = "connection.uri_san_peer_certificate" Text,
    /// The route rule.
    Route = "xds.route_name" Text,
    /// Ours: why the mesh answered itself.
    Reason = "weft.reason" Text,
    /// Ours: the policy that refused.
    Policy = "weft.policy" Text,
}

/// An expression that cannot be read: what, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct FilterError {
    at: usize,
    what: String,
}

// === impl Filter ===

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// What of it is not understood, and where.
    pub fn parse(source: &str) -> Result<Self, FilterError> {
        let expression = parse::expression(source)?;
        let mut headers = Vec::new();
        expression.collect(&mut headers);
        Ok(Self { source: source.into(), expression, headers })
    }

    /// As it was written.
    pub fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Whether a request with these values is logged; a value that it does not have is `None`.
    pub fn admits<'a>(&self, facts: impl Fn(&Attribute) -> Option<Fact<'a>>) -> bool {
        self.expression.decide(&facts) == Some(true)
    }

    /// The request headers that it asks for.
    pub fn request_headers(&self) -> &[http::HeaderName] {
        &self.headers
    }
}

impl Expression {
    /// `None` where a value is missing and decides.
    fn decide<'a>(&self, facts: &impl Fn(&Attribute) -> Option<Fact<'a>>) -> Option<bool> {
        match self {
            Self::Any(all) => decisive(all.iter().map(|one| one.decide(facts)), true),
            Self::All(all) => decisive(all.iter().map(|one| one.decide(facts)), false),
            Self::Not(one) => one.decide(facts).map(|is| !is),
            Self::Has(attribute) => Some(facts(attribute).is_some()),
            Self::True(attribute) => facts(attribute).map(|fact| fact == Fact::Flag(true)),
            Self::Compare(attribute, how, with) => Some(how.holds(facts(attribute)?, with)),
            Self::In(attribute, list) => {
                let fact = facts(attribute)?;
                Some(list.iter().any(|literal| Comparison::Equal.holds(fact, literal)))
            }
            Self::Text(attribute, test, with) => match facts(attribute)? {
                Fact::Text(text) => Some(test.holds(text, with)),
                _ => None,
            },
        }
    }

    fn collect(&self, names: &mut Vec<http::HeaderName>) {
        let attribute = match self {
            Self::Any(all) | Self::All(all) => return all.iter().for_each(|one| one.collect(names)),
            Self::Not(one) => return one.collect(names),
            Self::Has(a) | Self::True(a) | Self::Compare(a, ..) | Self::In(a, _) | Self::Text(a, ..) => a,
        };
        if let Attribute::RequestHeader(name) = attribute {
            names.push(name.clone());
        }
    }
}

/// `by` where one decides so, its opposite where all do, nothing where a missing value leaves it open.
fn decisive(all: impl Iterator<Item = Option<bool>>, by: bool) -> Option<bool> {
    let mut open = false;
    for one in all {
        match one {
            Some(is) if is == by => return Some(by),
            Some(_) => {}
            None => open = true,
        }
    }
    (!open).then_some(!by)
}

impl Comparison {
    fn holds(self, fact: Fact<'_>, with: &Literal) -> bool {
        let order = match (fact, with) {
            (Fact::Number(a), Literal::Number(b)) => a.cmp(b),
            (Fact::Text(a), Literal::Text(b)) => a.cmp(b),
            (Fact::Flag(a), Literal::Flag(b)) => a.cmp(b),
            (Fact::Time(a), Literal::Time(b)) => a.cmp(b),
            _ => return false,
        };
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl TextTest {
    fn holds(self, text: &str, with: &str) -> bool {
        match self {
            Self::StartsWith => text.starts_with(with),
            Self::EndsWith => text.ends_with(with),
            Self::Contains => text.contains(with),
        }
    }
}

impl Attribute {
    /// The kind of its value.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Simple(simple) => simple.kind(),
            Self::RequestHeader(_) => Kind::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(attribute: &Attribute) -> Option<Fact<'static>> {
        match attribute {
            Attribute::Simple(Simple::ResponseCode) => Some(Fact::Number(404)),
            Attribute::Simple(Simple::Path) => Some(Fact::Text("/api/x?y")),
            Attribute::Simple(Simple::Mtls) => Some(Fact::Flag(true)),
            Attribute::Simple(Simple::Duration) => Some(Fact::Time(Duration::from_millis(250))),
            Attribute::RequestHeader(name) if name == "x-debug" => Some(Fact::Text("it's")),
            _ => None,
        }
    }

    fn admits(source: &str) -> bool {
        Filter::parse(source).unwrap_or_else(|e| panic!("{source}: {e}")).admits(facts)
    }

    #[test]
    fn what_people_write_decides() {
        for (source, admitted) in [
            ("response.code >= 400", true),
            ("response.code >= 400 && response.code < 404", false),
            ("response.code >= 500 || response.code == 404", true),
            ("response.code in [401, 404]", true),
            ("400 <= response.code", true),
            ("!(response.code == 404)", false),
            ("connection.mtls", true),
            ("connection.mtls == false", false),
            ("!connection.mtls || request.path.startsWith('/api')", true),
            ("request.path.contains(\"?\") && request.path.endsWith('y')", true),
            ("request.headers['X-Debug'] == 'it\\'s'", true),
            ("has(request.headers['x-other'])", false),
            ("'x-debug' in request.headers", true),
            ("request.duration > duration('0.2s')", true),
            ("request.duration > duration('1m')", false),
        ] {
            assert_eq!(admits(source), admitted, "{source}");
        }
    }

    #[test]
    fn a_missing_value_is_neither_true_nor_false() {
        assert!(!admits("response.grpc_status == 0"));
        assert!(!admits("response.grpc_status != 0"));
        assert!(!admits("!(response.grpc_status == 0)"));
        assert!(admits("response.grpc_status == 0 || response.code == 404"));
        assert!(admits("!(response.grpc_status == 0 && response.code == 200)"));
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_place() {
        for (source, at, said) in [
            ("response.cod >= 400", 0, "`response.cod` is not known"),
            ("response.code >= '400'", 17, "number"),
            ("response.code >= ", 17, "value"),
            ("response.code", 13, "compare"),
            ("response.code = 4", 14, "`=`"),
            ("(response.code == 4", 19, "`)`"),
            ("request.path.matches('x')", 13, "`matches` is not honoured"),
            ("response.code == 4 4", 19, "&& or ||"),
            ("request.path == 'x", 16, "end"),
            ("connection.mtls > true", 16, "order"),
            ("", 0, "value"),
        ] {
            let error = Filter::parse(source).unwrap_err();
            assert_eq!(error.at, at, "{source}: {error}");
            assert!(error.what.contains(said), "{source}: {error}");
        }
    }

    #[test]
    fn g24_depth_and_length_are_bounded() {
        assert!(Filter::parse(&"(".repeat(100_000)).is_err());
        assert!(Filter::parse(&"!".repeat(4_000)).is_err());
        assert!(Filter::parse(&"response.code == 1 || ".repeat(1_000)).is_err());
    }

    #[test]
    fn headers_that_are_asked_for_are_known() {
        let filter = Filter::parse("request.headers['a'] == 'x' || !('b' in request.headers)").unwrap();
        assert_eq!(filter.request_headers(), ["a", "b"]);
    }
}
