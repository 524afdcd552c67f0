//! mTLS between sidecars: TLS 1.3 only, X25519MLKEM768 preferred, a certificate on both sides, SPIFFE identities.
//!
//! Every handshake takes the certificate that `identity` holds then and the roots that `Tls::set_trust` was last
//! given: a rotation needs no restart and cuts no connection. Sessions are never resumed, so that every connection
//! is judged by the trust of its own day.

/// Why a handshake failed.
pub mod fault;
/// Whose certificates are believed, and for whom they speak.
pub mod trust;
/// Certificate and trust, as handshakes use them.
pub mod context;
/// Handshakes, on both sides.
pub mod handshake;

pub use context::Tls;
pub use fault::TlsFault;
pub use weft_core::detect::alpn::Inside as Alpn;

pub use handshake::{HANDSHAKE_TIMEOUT, Peer, accept, connect};
