//! Sockets: gRPC over TLS for sidecars, HTTP for people.

/// The server's own certificate.
pub mod certificate;
/// Connections, from TCP to TLS.
pub mod accept;
/// gRPC for sidecars: certificates and configuration.
pub mod grpc;
/// HTTP on loopback for people: how it stands.
pub mod admin;
