//! `weft up`: a mesh on one machine, in namespaces, from a directory of manifests.
//!
//! ```text
//!   weft up ──(line; its end ends the mesh)── mesh-boot ── makes the namespaces, waits outside
//!                                               └─ mesh-supervisor   PID 1 of the mesh: files, pods, services, control socket
//!   weft exec/get/logs/down ──(abstract unix socket)──┘ ├─ controller-run
//!                                                       ├─ pod-agent     PID 1 of a pod's namespaces
//!                                                       │    ├─ proxy-run       its sidecar, behind redirection
//!                                                       │    └─ applications    in user namespaces of their own
//!                                                       └─ pod-agent ...
//! ```
//!
//! Nothing is written to the machine's file system, and nothing is made in its network. Everything hangs on the supervisor:
//! when it dies, however it dies, the kernel ends all processes of its PID namespace, and with the last process of a
//! namespace go its mounts, links, addresses and rules.

/// Messages between the processes.
pub mod wire;
/// The file systems that processes see.
pub mod rootfs;
/// Links, addresses, routes and rules.
pub mod net;
/// Probes, as manifests have them.
pub mod probe;
/// The Kubernetes objects.
pub mod manifest;
/// A directory of them.
pub mod files;
/// What containers get to know: variables, and files of volumes.
pub mod values;
/// Which pods get a sidecar, and what their annotations say of it.
pub mod injection;
/// What a pod's agent has to run.
pub mod plan;
/// From a pod's manifest to its plan.
pub mod resolve;
/// Which pods to make and to end.
pub mod rollout;
/// What of a pod's traffic comes to its sidecar.
pub mod intercepted;
/// Services: addresses, pods behind them, names.
pub mod services;
/// Questions and answers.
pub mod api;
/// Child processes.
pub mod process;
/// GET requests.
pub mod http;
/// What containers write.
pub mod logs;
/// The last step before an application.
pub mod container;
/// A pod's first process.
pub mod agent;
/// A mesh's first process.
pub mod supervisor;
/// The process that makes the namespaces and waits outside.
pub mod boot;
/// What a mesh begins with.
mod begin;
/// Meshes by their names.
pub mod names;
/// A running mesh, seen from outside.
pub mod mesh;

pub use api::{Event, Publish, State, Target};
pub use mesh::{Mesh, Options, Output};
