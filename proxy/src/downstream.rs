//! What is known of a client's connection before its first request: what the spines hand on with it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;
use weft_core::identity::SpiffeId;
use weft_core::model::address::Address;

/// A client's connection.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// When it was accepted.
    pub accepted: Instant,
    /// The client's address.
    pub client: SocketAddr,
    /// Where the client wanted to go.
    pub destination: SocketAddr,
    /// Who the client has proved to be; `None` in plaintext.
    pub peer: Option<SpiffeId>,
    /// The server name of the TLS hello: the mesh's inside mTLS, the application's own otherwise.
    pub sni: Option<Arc<str>>,
}

/// A connection of the sidecar's own application.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The connection.
    pub downstream: Downstream,
    /// What its destination means: held for the whole connection, its services are looked up anew for each request.
    /// An explicit listener means the services that it was given.
    pub address: Arc<Address>,
}

/// A connection from outside, let in as far as its transport goes.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The connection; its destination's port is the workload's.
    pub downstream: Downstream,
    /// Where the application is dialled.
    pub application: SocketAddr,
}
