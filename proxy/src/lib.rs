//! The sidecar: sockets, TLS, HTTP, pools, telemetry.
//!
//! `outbound` and `inbound` are the spines of the two directions and read in the order of events.
//! The modules stand in dependency order, a module uses only those above it.

/// What the sidecar is told at its start.
pub mod settings;
/// Rules that bring a pod's traffic to its sidecar.
pub mod redirect;
/// The wall clock.
pub mod clock;
/// Storage that outlives the process.
pub mod state;
/// How near the sidecar is to its own limits.
pub mod overload;
/// Futures that a busy task asks only when they call.
pub mod rarely;
/// What stands still gives way where memory is nearly used up.
pub mod relief;
/// Notices that the other end of a connection has vanished, or does not read.
pub mod vigil;
/// How the two connections of an exchange keep pace.
pub mod flow;
/// One type for every connection: plain or TLS, with bytes that were looked at.
pub mod io;
/// The one place that makes outgoing sockets.
pub mod dial;
/// Names to addresses.
pub mod names;
/// One request on a connection of its own.
pub mod exchange;
/// Waiting for a sidecar that was just started.
pub mod start;
/// Metrics, the access log, the sidecar's own log.
pub mod telemetry;
/// The memory of this process, and who looks at it.
pub mod memory;
/// The way to the controller.
pub mod controller;
/// The sidecar's key and certificate.
pub mod identity;
/// mTLS between sidecars.
pub mod tls;
/// The configuration as held, and the stream that brings it.
pub mod config;
/// Exporters of spans, as the configuration names collectors.
pub mod collectors;
/// Opaque bytes between two connections.
pub mod tcp;
/// Where a connection was going before it was redirected here.
pub mod orig_dst;
/// Listening sockets, and taking connections from them.
pub mod accept;
/// The end of a sidecar: what stops at once, what may finish, what is cut.
pub mod drain;
/// HTTP of one connection: serving, bodies, the mesh's own answers.
pub mod http;
/// Connections of the sidecar to its own pod.
pub mod itself;
/// One worker's connections to upstreams and to the application.
pub mod pool;
/// What the tasks of one worker share.
pub mod local;
/// What is known of a client's connection before its first request.
pub mod downstream;
/// A request as it is counted and logged.
pub mod recording;
/// What a request of the own application means.
pub mod resolve;
/// The tries of one request.
pub mod attempts;
/// One request while it is served, and the way of its response.
pub mod call;
/// Faults that a route does to requests on purpose.
pub mod injection;
/// Requests of the own application.
pub mod outbound_http;
/// What the configuration says of requests that come in.
pub mod inbound_rules;
/// What is known of a peer before its first request.
pub mod inbound_peer;
/// Requests for the own application.
pub mod inbound_http;
/// Handshakes under way, by where they come from.
pub mod half_open;
/// What a worker's connections need beside what its requests need.
pub mod context;
/// What a connection carries, told from its first bytes.
pub mod detect;
/// Opaque connections: the way to an endpoint, the relay, the record.
pub mod opaque;
/// Whether a connection may be let in, or stay.
pub mod judge;
/// The application's own connections.
pub mod outbound;
/// Connections from outside.
pub mod inbound;
/// Connections whose clients have to take each answer in time.
mod impatient;
/// A small HTTP server for people and probes.
pub mod web;
/// The administration interface.
pub mod admin;
/// The application's probes, asked from inside its pod.
pub mod probes;
/// The application's own metrics.
pub mod app_metrics;
/// Readiness, liveness, metrics.
pub mod health;
/// Configuration, identity, telemetry and administration, beside the workers.
pub mod control;
/// Listeners with their connections.
pub mod listener;
/// Explicit listeners of a Sidecar.
pub mod explicit;
/// One worker: a thread with a runtime, listeners and connections of its own.
pub mod worker;
/// The sidecar put together.
pub mod app;

pub use app::run;
