//! Whole sidecars in one process, over loopback.

mod connections;
mod support;
mod tls;
