//! The controller: watches what users write, and tells every sidecar what it means for it.
//!
//! The path of a configuration, in the order of the modules:
//! source -> validate -> world -> compile -> push.

/// Where objects come from: a directory of manifests.
pub mod source;
/// Objects as they are once understood.
pub mod fragment;
