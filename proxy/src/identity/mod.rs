//! The sidecar's identity: a key made here, certified by the mesh's authority, renewed at half life.
//!
//! Handshakes read the certificate from `Credentials`; `keeper::IdentityKeeper` fills it and never touches
//! a live connection.

/// The key and certificate in use.
pub mod credentials;
/// The call to the certificate authority.
pub mod authority;
/// Gets, keeps and renews the certificate.
pub mod keeper;
/// Keys, requests, and the check of what comes back.
pub mod request;
/// When to renew.
pub mod schedule;

pub use credentials::{CertificateFacts, Credentials, Issued};
pub use keeper::{IdentityKeeper, KeeperParts};

#[cfg(test)]
mod tests;
