//! The `weft` command as a library: its subcommands, and what end-to-end tests drive.
//!
//! The modules stand in dependency order, a module uses only those above it.

/// Amounts as people write them.
pub mod units;
/// Standard output and standard error.
pub mod output;
/// Queries of URLs.
pub mod query;
/// Names that are not there.
pub mod slips;
/// Prometheus' text format.
pub mod metrics;
/// Objects of a Kubernetes API server.
pub mod objects;
/// HTTP/2 on one thread.
pub mod executor;
/// The echo application of samples and tests.
pub mod echo;
/// The load generator.
pub mod load;
/// What is wrong with manifests.
pub mod validate;
/// The definitions of the mesh's kinds.
pub mod crds;
/// Manifests with sidecars in their pods.
pub mod inject;
/// What is wrong with a cluster.
pub mod check;
/// Local meshes.
pub mod up;
/// The way to the sidecars of a mesh.
pub mod reach;
/// The mesh that manifests would make.
pub mod offline;
/// Why a request goes where it goes.
pub mod explain;
/// Who may do what.
pub mod authz;
/// Tests of routes and policies.
pub mod mesh_test;
/// What a sidecar holds.
pub mod sidecar;
/// Who asks whom.
pub mod top;
/// Requests as they pass.
pub mod tap;
/// The guided tour.
pub mod demo;
/// The commands about local meshes.
pub mod commands;
/// How a local mesh stands.
pub mod get;
/// The command line.
pub mod args;
/// The processes of a local mesh.
pub mod roles;
