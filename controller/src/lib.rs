//! The controller: watches what users write, and tells every sidecar what it means for it.
//!
//! The path of a configuration, in the order of the modules:
//! source -> validate -> world -> compile -> push.

/// Where objects come from.
pub mod source;
/// Objects as they are once understood.
pub mod fragment;
/// An object to a fragment, or to what is wrong with it.
pub mod validate;
/// What is wrong with what users wrote.
pub mod report;
/// All that is known, joined.
pub mod world;
/// What objects mean to each other.
pub mod analyse;
/// From files to all that is wrong with them.
pub mod check;
/// From sources to worlds.
pub mod pipeline;
/// From the world to what one sidecar is told.
pub mod compile;
/// The controller's own log.
pub mod log;
/// What the controller counts.
pub mod metrics;
/// A bound on how often something happens.
pub mod rate;
/// Who is asking: from a bearer token to a pod.
pub mod tokens;
/// One replica writes: which.
pub mod leader;
/// The certificate authority.
pub mod ca;
/// From compiled resources to sidecars.
pub mod push;
/// From a pod to the same with a sidecar.
pub mod inject;
/// The webhooks: may this object be written, and what does this pod need?
pub mod webhook;
/// What becomes of objects, in their status.
pub mod status;
/// Sockets: gRPC over TLS for sidecars, HTTP for people.
pub mod server;
/// What the controller is told at its start.
pub mod settings;
/// One replica of a cluster's controllers.
pub mod replica;
/// The controller as a program.
pub mod app;
