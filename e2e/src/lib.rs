//! What the end-to-end suites share.

/// Local meshes in tests.
pub mod local;
