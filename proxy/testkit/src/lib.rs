//! What tests of several crates share. Never linked into a program.

/// Generators of models for property tests.
pub mod generate;
/// A certificate authority.
pub mod ca;
/// A controller that says what the test sets.
pub mod controller;
