//! Generators of models for property tests: anything that may go over the wire, within the limits of its decoder.

/// Names, texts, numbers, times.
pub mod value;
/// Addresses.
pub mod address;
/// Endpoints.
pub mod endpoint;
/// Clusters.
pub mod cluster;
/// Policies.
pub mod policy;
/// What few route rules ask for.
pub mod extras;
/// Route rules.
pub mod route;
/// Services.
pub mod service;
/// What a sidecar tells of its traffic.
pub mod telemetry;
/// Workloads.
pub mod workload;
