//! The API server as a source of objects.
//!
//! Each kind is followed on its own (`follow`), cut down to the fields that are read while it is decoded (`fields`), and
//! sent as it comes: nothing is kept here. The first world is told once every kind has been listed (`progress`); from
//! then on each kind goes its own way, and one that fails stands still where it was without holding the others up.

/// Which fields of an object are kept.
pub mod fields;
/// What is watched.
pub mod kinds;
/// How far the source has come with each kind.
pub mod progress;
/// Follows one resource.
pub mod follow;
/// All resources as one source.
pub mod cluster;
/// The way to the API server.
pub mod connect;
