//! From compiled resources to sidecars: one stream for each, and an account of what each was told.

/// Resource versions that never go back, also when the controller starts again.
pub mod epoch;
/// What is compiled now, and what has changed since.
pub mod publisher;
/// Every sidecar that is connected.
pub mod registry;
/// One sidecar's stream.
pub mod stream;
/// The server of streams.
pub mod service;
