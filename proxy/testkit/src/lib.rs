//! What tests of several crates share. Never linked into a program.

/// Generators of models for property tests.
pub mod generate;
/// A certificate authority.
pub mod ca;
/// A controller that says what the test sets.
pub mod controller;
/// A client of HTTP/2 that sends any frame.
pub mod frames;
/// Both ends of HTTP/2.
pub mod http2;
/// Both ends of HTTP/1 as bytes.
pub mod wire;
/// A configuration made by hand.
pub mod world;
