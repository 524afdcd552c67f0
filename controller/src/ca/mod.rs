//! The certificate authority: a root made once, and certificates for the pods of tokens.

/// The root key and certificate, and what they sign.
pub mod authority;
/// The root on disk.
pub mod store;
/// The root in a Secret.
pub mod secret;
/// Who may be believed, told to every namespace.
pub mod bundle;
/// The call by which workloads ask for certificates.
pub mod service;
