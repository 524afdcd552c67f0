//! Where objects come from: every source yields the same events.

/// A directory of manifests as a set of objects.
pub mod directory;
/// An object as it was found, and where.
pub mod object;
/// Watches directories and sends what changes.
pub mod watch;
/// YAML text to JSON values that remember their lines.
pub mod yaml;
