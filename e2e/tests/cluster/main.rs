//! Weft in a cluster: the chart, real pods, `kubectl` and `helm`, as a user has them.
//!
//! The cluster is that of KUBECONFIG, or one of kind, or the Docker-free one of `e2e/cluster`; images are those of
//! `e2e/images`. Each test has a namespace of its own and explains itself when it fails. Tests that take the controller
//! away have the cluster to themselves for that time.

mod absence;
mod admission;
mod fixture;
mod install;
mod kinds;
mod live;
mod rolling;
mod rotation;
mod sample;
mod space;
mod start;
mod strict;
mod trouble;
