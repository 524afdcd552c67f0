//! What tests of several crates share. Never linked into a program.

/// Generators of models for property tests.
pub mod generate;
