//! What is known of a client's connection before its first request: what the spines hand on with it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use weft_core::identity::SpiffeId;
use weft_core::model::address::Address;
use weft_core::reason::Reason;

use crate::telemetry::Scope;

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
    /// Whether it means nothing else: an explicit listener for several services.
    pub listed: bool,
}

/// A connection from outside, let in as far as its transport goes.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The connection; its destination's port is the workload's.
    pub downstream: Downstream,
    /// Where the application is dialled.
    pub application: SocketAddr,
}

/// Why a connection ends before it is served to its end.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The client has gone: there is nobody to refuse.
    ClientGone,
    /// The mesh refuses it.
    Refused(Refusal),
}

/// Why the mesh refuses a connection.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The policy that says so, `namespace/name`.
    pub policy: Option<Arc<str>>,
    /// Between whom it is counted, where that is known.
    pub scope: Option<Rc<Scope>>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, policy: None, scope: None }
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
