//! What a connection carries, from its first bytes; and when the upstream may be dialled before that is known.
//!
//! A timer is never a verdict. A client that stays silent may be waiting for a server that speaks first, so after a
//! while the upstream *may* be dialled, no more: whichever side speaks first decides, and client bytes that come first
//! are classified however late. A port declared HTTP is parsed as HTTP always.

/// Names of protocols inside mesh TLS.
pub mod alpn;
/// The first message of TLS.
pub mod hello;
/// A prefix of bytes, classified.
pub mod sniff;

use std::time::Duration;

use crate::detect::sniff::{Detected, Sniff};
use crate::model::protocol::Protocol;

/// Silence of the client after which the upstream may be dialled, where nothing declares the protocol.
pub const SILENCE: Duration = Duration::from_millis(200);

/// What is known of a connection before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The port's declared protocol.
    pub protocol: Protocol,
    /// Whether TLS of the mesh may arrive here, in clear or declared whatever else: before TLS, on inbound ports.
    pub tls: bool,
    /// Whether the upstream may be dialled before the client has said anything. False where the connection would be
    /// refused in the end if it brought no TLS (STRICT).
    pub may_dial: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for bytes of either side; if the client has been silent for so long (since its last byte, or since it
    /// connected), call [`Detection::silence`].
    Wait(Option<Duration>),
    /// Dial the upstream, forward nothing yet, and wait for both sides. Said at most once.
    Dial,
    /// The connection is this. The upstream may have been dialled, or not.
    Decided(Detected),
}

/// Detection on one connection.
#[derive(Clone, Debug)]
pub struct Detection {
    rules: Rules,
    dialled: bool,
}

impl Detection {
    /// Starts it.
    pub fn new(rules: Rules) -> Self {
        Detection { rules, dialled: false }
    }

    /// The first step, when the client has just connected.
    pub fn start(&mut self) -> Step {
        let opaque = matches!(self.rules.protocol, Protocol::Tcp | Protocol::Udp);
        if opaque && !self.rules.tls { Step::Decided(Detected::Opaque) } else { self.silence(Duration::ZERO) }
    }

    /// The client has sent `bytes`: all that it sent so far, at least one.
    pub fn client(&mut self, bytes: &[u8]) -> Step {
        match self.classify(bytes) {
            Sniff::Known(detected) => Step::Decided(detected),
            Sniff::More => self.wait(),
        }
    }

    /// The client has been silent for so long.
    pub fn silence(&mut self, quiet: Duration) -> Step {
        match self.patience() {
            Some(patience) if quiet >= patience => {
                self.dialled = true;
                Step::Dial
            }
            _ => self.wait(),
        }
    }

    /// The upstream, which was dialled, spoke before the client could be classified.
    pub fn server(&mut self) -> Step {
        Step::Decided(Detected::Opaque)
    }

    /// The client has closed its side after `bytes`, which may be none: nothing more will tell.
    pub fn client_end(&mut self, bytes: &[u8]) -> Step {
        match self.classify(bytes) {
            Sniff::Known(detected) => Step::Decided(detected),
            Sniff::More if self.rules.protocol.is_http() => Step::Decided(Detected::Http1),
            Sniff::More => Step::Decided(Detected::Opaque),
        }
    }

    fn classify(&self, bytes: &[u8]) -> Sniff {
        match self.rules.protocol {
            Protocol::Auto => sniff::sniff(bytes),
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => sniff::http(bytes, self.rules.tls),
            Protocol::Tls | Protocol::Tcp | Protocol::Udp => sniff::tls(bytes),
        }
    }

    fn wait(&self) -> Step {
        Step::Wait(self.patience())
    }

    /// The silence after which to dial, if that is still to be done.
    fn patience(&self) -> Option<Duration> {
        if self.dialled || !self.rules.may_dial {
            return None;
        }
        match self.rules.protocol {
            Protocol::Auto => Some(SILENCE),
            Protocol::Tcp | Protocol::Udp => Some(Duration::ZERO),
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(protocol: Protocol, tls: bool, may_dial: bool) -> Detection {
        Detection::new(Rules { protocol, tls, may_dial })
    }

    #[test]
    fn g19_server_first_on_an_undeclared_port() {
        let mut auto = detection(Protocol::Auto, false, true);
        assert_eq!(auto.start(), Step::Wait(Some(SILENCE)));
        assert_eq!(auto.silence(SILENCE / 2), Step::Wait(Some(SILENCE)));
        assert_eq!(auto.silence(SILENCE), Step::Dial);
        assert_eq!(auto.silence(SILENCE * 9), Step::Wait(None));
        assert_eq!(auto.server(), Step::Decided(Detected::Opaque));
    }

    #[test]
    fn g19_a_late_client_is_still_classified() {
        let mut auto = detection(Protocol::Auto, false, true);
        assert_eq!(auto.silence(SILENCE), Step::Dial);
        assert_eq!(auto.client(b"GET / HT"), Step::Wait(None));
        assert_eq!(auto.client(b"GET / HTTP/1.1\r\n"), Step::Decided(Detected::Http1));
    }

    #[test]
    fn g19_a_declared_port_does_not_wait() {
        assert_eq!(detection(Protocol::Tcp, false, true).start(), Step::Decided(Detected::Opaque));
        let mut inbound = detection(Protocol::Tcp, true, true);
        assert_eq!(inbound.start(), Step::Dial);
        assert_eq!(inbound.client(b"\x16"), Step::Wait(None));
        assert_eq!(inbound.client(b"\x16x"), Step::Decided(Detected::Opaque));
        assert_eq!(inbound.client(b"GET / HTTP/1.1\r\n"), Step::Decided(Detected::Opaque));
    }

    #[test]
    fn d1_nothing_is_dialled_where_clear_text_is_refused() {
        for protocol in [Protocol::Auto, Protocol::Tcp] {
            let mut strict = detection(protocol, true, false);
            assert_eq!(strict.start(), Step::Wait(None));
            assert_eq!(strict.silence(SILENCE * 100), Step::Wait(None));
        }
    }

    #[test]
    fn a_port_declared_http_is_http_whatever_comes() {
        for protocol in [Protocol::Http, Protocol::Http2, Protocol::Grpc] {
            let mut declared = detection(protocol, false, true);
            assert_eq!(declared.start(), Step::Wait(None));
            assert_eq!(declared.client(b"PRI * "), Step::Wait(None));
            assert_eq!(declared.client(sniff::PREFACE), Step::Decided(Detected::Http2));
            assert_eq!(declared.client(b"\x16\x03\x01"), Step::Decided(Detected::Http1));
            assert_eq!(declared.client(b"\0"), Step::Decided(Detected::Http1));
            assert_eq!(declared.client_end(b"PRI"), Step::Decided(Detected::Http1));
        }
        assert_eq!(detection(Protocol::Http, true, false).client(b"\x16\x03\x01"), Step::Wait(None));
    }

    #[test]
    fn the_end_of_the_client_decides() {
        let mut auto = detection(Protocol::Auto, false, true);
        assert_eq!(auto.client_end(b"GET"), Step::Decided(Detected::Opaque));
        assert_eq!(auto.client_end(b""), Step::Decided(Detected::Opaque));
        assert_eq!(auto.client_end(b"GET / HTTP/1.0\r\n"), Step::Decided(Detected::Http1));
    }
}
