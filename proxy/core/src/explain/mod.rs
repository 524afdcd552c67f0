//! Why a request goes where it goes, or nowhere: each step from the client to the application, in words and as data.
//!
//! Nothing is decided here. The functions that decide on the request path (`meaning`, `detect`, `http::request::check`,
//! `route::find`, `route::apply`, `balance::candidates`, `transport`, `peer_auth`, `authz::authorize`) are called on the
//! same snapshot, and what they say is written down; so an explanation of a live sidecar counts its ejections, and one
//! of files says what a sidecar would do that was told of them.
//!
//! The client's sidecar answers for its side (`client`), the server's for its own (`server`); `explanation` puts
//! both together.

/// What an explanation says.
pub mod told;
/// Conditions, actions and policies in words.
pub mod words;
/// What configuration costs without saying so.
pub mod costs;
/// A request as the bytes and the head that decide about it.
mod bytes;
/// Policies in words.
pub mod policy;
/// One destination of a rule.
mod branch;
/// Rules in words.
mod rules;
/// What few rules ask for.
mod extras;
/// A request on its way.
mod look;
/// The client's side.
mod client;
/// The server's side.
mod server;
/// Both sides, put together.
mod join;

pub use client::{NO_SIDECAR, client, unavailable, without_sidecar};
pub use join::{Explanation, Outcome, explanation};
pub use look::Asked;
pub use server::{Came, passed_by, server};

#[cfg(test)]
mod tests;
