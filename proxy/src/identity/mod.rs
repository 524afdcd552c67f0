//! The sidecar's identity: a key made here, certified by the mesh's authority, renewed at half life.

/// The key and certificate in use.
pub mod credentials;

pub use credentials::{Credentials, Issued};
