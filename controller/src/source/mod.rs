//! Where objects come from: every source yields the same events.

/// YAML text to JSON values that remember their lines.
pub mod yaml;
/// An object as it was found, and where.
pub mod object;
/// A directory of manifests as a set of objects.
pub mod directory;
/// The manifest files below a directory, as they are.
pub mod files;
/// Watches directories and sends what changes.
pub mod watch;
/// The API server as a source.
pub mod kubernetes;
