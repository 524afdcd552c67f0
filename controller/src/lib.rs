//! The controller: watches what users write, and tells every sidecar what it means for it.
//!
//! The path of a configuration, in the order of the modules:
//! source -> validate -> world -> compile -> push.

/// From the world to what one sidecar is told.
pub mod compile;
/// Objects as they are once understood.
pub mod fragment;
/// Where objects come from: a directory of manifests.
pub mod source;
/// All that is known, joined.
pub mod world;
