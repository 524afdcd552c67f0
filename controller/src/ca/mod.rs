//! The certificate authority: signs the keys of workloads for the identities that their tokens prove.

/// The root key and certificate, and what they sign.
pub mod authority;
/// The root on disk.
pub mod store;
/// The call by which workloads ask.
pub mod service;
