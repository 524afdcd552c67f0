//! What the controller tells a sidecar: the same types are compiled by the controller, encoded on the wire,
//! decoded by the sidecar and decided upon.
//!
//! A sidecar asks for resources by name (`name::ResourceName`): its own `workload::Workload` at the start,
//! an `address::Address` when traffic first goes to one, then the `service::Service` that it means, with that
//! service's `endpoint::EndpointSlice`s.

/// Who a workload is, in the words that metrics use; where it runs.
pub mod metadata;
/// Names of resources, services and clusters.
pub mod name;
/// Protocols of ports, and how they are told from names.
pub mod protocol;
/// What an address means.
pub mod address;
/// Clusters: how the endpoints of a service's port are balanced, limited, watched and dialled.
pub mod cluster;
/// Endpoints of services.
pub mod endpoint;
/// Authorization policies.
pub mod policy;
/// What few route rules ask for.
pub mod extras;
/// Route rules: what a request must look like and what is done with it.
pub mod route;
/// Services: ports, routes, clusters.
pub mod service;
/// What a sidecar tells of its traffic.
pub mod telemetry;
/// A sidecar's own workload.
pub mod workload;
