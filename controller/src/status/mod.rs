//! What becomes of objects, written into their `status`: whether they are accepted, and on how many sidecars they are in
//! force.
//!
//! Every replica counts its own sidecars; the leader adds the counts up and writes, only what differs, at a bounded rate.

/// On how many sidecars objects are in force.
pub mod tally;
/// Conditions: what they say, and how they stand beside those of others.
pub mod condition;
/// What is written when.
pub mod desk;
/// What the other replicas count.
pub mod peers;
/// The writer.
pub mod writer;
