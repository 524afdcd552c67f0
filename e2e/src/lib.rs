//! What the end-to-end suites share.

/// `kubectl` in tests.
pub mod kubectl;
/// Kubernetes in tests.
pub mod cluster;
/// Local meshes in tests.
pub mod local;
