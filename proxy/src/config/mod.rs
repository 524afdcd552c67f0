//! The configuration as the sidecar holds it: one snapshot for all threads, and the stream that brings it.
//!
//! `Mesh` is what everybody asks; each worker makes itself a `MeshReader`, whose look at the snapshot costs a
//! comparison of pointers. A name that nobody has asked for yet is asked of the controller, and the caller waits.
//!
//! ```text
//!   workers -- Ask --> ConfigStream -- requests --> controller
//!      ^                   |  ^------ responses -------'
//!      '--- Snapshot ------'  (decoded, refused one by one, built, swapped once)
//! ```

/// What workers and the control plane share.
pub mod mesh;
/// One worker's view.
pub mod reader;
/// What is kept for a restart.
mod saved;
/// What is held, wanted and refused.
mod holdings;
/// How long to wait before the controller is tried again.
mod pause;
/// The task that talks to the controller.
pub mod stream;

pub use mesh::{Ask, ConfigUnavailable, Link, Mesh, SyncStatus};
pub use reader::MeshReader;
pub use stream::{ConfigStream, StreamParts};
