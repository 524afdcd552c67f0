//! The sidecar's identity: a key made here, certified by the mesh's authority, renewed at half life.
//!
//! Handshakes read the certificate from `Credentials`; `keeper::IdentityKeeper` fills it and never touches
//! a live connection.

/// The key and certificate in use.
pub mod credentials;
/// The call to the certificate authority.
pub mod authority;
/// Keys, requests, and the check of what comes back.
pub mod request;
/// When to renew.
pub mod schedule;
/// Gets, keeps and renews the certificate.
pub mod keeper;

pub use credentials::{CertificateFacts, Credentials, Issued};
pub use keeper::{IdentityKeeper, KeeperParts};

#[cfg(test)]
mod tests;
