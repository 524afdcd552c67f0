//! What a policy is asked about, and how it is read.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method};

use crate::http::host::Authority;
use crate::http::path::without_parameters;
use crate::identity::SpiffeId;
use crate::matching::Wildcard;
use crate::text::{with_header, without_port};

/// A request or a connection as policies see it.
#[derive(Clone, Debug)]
pub struct RequestFacts<'a> {
    /// Who the peer is, by its certificate; `None` for plaintext: conditions on who it is do not match, their
    /// opposites do.
    pub peer: Option<&'a SpiffeId>,
    /// The address of the connection's peer.
    pub source_ip: IpAddr,
    /// The address of the original client, as far as that is trusted; else the peer's.
    pub remote_ip: IpAddr,
    /// The address that was dialled.
    pub destination_ip: IpAddr,
    /// The workload's own port that was dialled (not the service's).
    pub destination_port: u16,
    /// The server name of the TLS hello.
    pub sni: Option<&'a str>,
    /// The request; `None` on opaque connections.
    pub http: Option<HttpFacts<'a>>,
}

/// What only HTTP requests have.
#[derive(Clone, Debug)]
pub struct HttpFacts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The normalised path, without the query.
    pub path: &'a str,
    /// Host or `:authority`.
    pub authority: NormalAuthority<'a>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// An authority as policies see it: in normal form, with its port unless that is HTTP's default. Few policies ask.
#[derive(Clone, Debug)]
pub struct NormalAuthority<'a> {
    text: &'a str,
    /// `None`: the text is in normal form.
    normal: OnceCell<Option<String>>,
}

impl<'a> NormalAuthority<'a> {
    /// Of an authority as it was sent.
    pub fn of(text: &'a str) -> Self {
        Self { text, normal: OnceCell::new() }
    }

    /// In normal form.
    pub fn get(&self) -> &str {
        self.normal.get_or_init(|| normal(self.text)).as_deref().unwrap_or(self.text)
    }
}

fn normal(text: &str) -> Option<String> {
    match Authority::parse(text, Some(80)).ok()?.rendered(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(normal) => Some(normal),
    }
}

/// How a text that can be read in two ways is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it stands: what lets in must match this.
    Plain,
    /// In any way that someone behind could read it: what keeps out needs to match one of them.
    Any,
}

impl<'a> HttpFacts<'a> {
    /// Whether the authority is a host; also read without its port.
    pub(super) fn host_is(&self, reading: Reading, host: &Wildcard) -> bool {
        let authority = self.authority.get();
        host.matches_ignoring_case(authority)
            || (reading == Reading::Any && host.matches_ignoring_case(without_port(authority)))
    }

    /// Whether the path fulfils a condition; also read without `;parameters`, as some servers do.
    pub(super) fn path_is(&self, reading: Reading, matches: impl Fn(&str) -> bool) -> bool {
        matches(self.path)
            || (reading == Reading::Any && self.path.contains(';') && matches(&without_parameters(self.path)))
    }

    /// Whether a header has a value; also read as any member of a list. A header that is absent has none.
    pub(super) fn header_is(&self, reading: Reading, name: &HeaderName, value: &Wildcard) -> bool {
        with_header(self.headers, name, |text| match text {
            None => false,
            Some(text) => value.matches(text) || (reading == Reading::Any && any_member_is(text, value)),
        })
    }
}

fn any_member_is(text: &str, value: &Wildcard) -> bool {
    *value == Wildcard::Present
        || text.split(',').any(|member| value.matches(member.trim_matches([' ', '\t'])))
}
