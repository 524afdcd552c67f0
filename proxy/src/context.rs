//! What a worker's connections need beside what its requests need.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use weft_core::model::name::ServiceName;
use weft_core::model::workload::{OutboundMode, Workload};
use weft_core::overload::Level;
use weft_core::reason::Reason;

use crate::dial::Dialer;
use crate::downstream::{Incoming, Outgoing};
use crate::drain::Shutdown;
use crate::half_open::HalfOpen;
use crate::http::version::HttpVersion;
use crate::io::Io;
use crate::itself::Itself;
use crate::local::Local;
use crate::orig_dst::Own;
use crate::pool::MeshConnect;
use crate::telemetry::ServiceLabels;
use crate::tls::Tls;

/// What one worker's connections need; stays on its thread.
pub struct Context {
    /// What requests need too.
    pub local: Rc<Local>,
    /// Handshakes with clients.
    pub tls: Tls,
    /// The way to the application.
    pub dialer: Dialer,
    /// The way to endpoints.
    pub connect: MeshConnect,
    /// Handshakes with clients that are under way.
    pub half_open: HalfOpen,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// What no connection may be addressed to.
    pub own: Own,
    /// The pod, which the application may reach by way of a Service.
    pub itself: Itself,
    /// Tells when the workload was told anew: its policies, its modes.
    pub workload_changes: Changes,
    /// Who serves HTTP.
    pub http: HttpServers,
    /// The labels of outgoing traffic to no service.
    pub passthrough: ServiceLabels,
    /// The labels of the services that the workload's ports serve, made once for each.
    inbound_services: RefCell<InboundServices>,
}

/// The labels of the workload's ports.
struct InboundServices {
    none: Rc<ServiceLabels>,
    known: Vec<(ServiceName, Rc<ServiceLabels>)>,
}

/// What a [`Context`] is made of.
pub struct Parts {
    /// What requests need too.
    pub local: Rc<Local>,
    /// Handshakes, on both sides.
    pub tls: Tls,
    /// Outgoing sockets.
    pub dialer: Dialer,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// What no connection may be addressed to.
    pub own: Own,
    /// The pod.
    pub itself: Itself,
    /// Who serves HTTP.
    pub http: HttpServers,
}

/// Serves HTTP on a connection until it ends.
pub type ServeHttp<C> = Rc<dyn Fn(Io, HttpVersion, C) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Who serves HTTP, by direction.
#[derive(Clone)]
pub struct HttpServers {
    /// On connections of the application.
    pub outgoing: ServeHttp<Outgoing>,
    /// On connections from outside.
    pub incoming: ServeHttp<Incoming>,
}

/// A number that grows, and those who wait for it to.
#[derive(Debug, Default)]
pub struct Changes {
    count: Cell<u64>,
    grown: Notify,
}

impl Context {
    /// One worker's context.
    pub fn new(parts: Parts) -> Rc<Self> {
        let Parts { local, tls, dialer, shutdown, own, itself, http } = parts;
        Rc::new(Self {
            connect: MeshConnect::new(dialer, tls.clone().into()).of_pod(itself.clone()),
            local,
            tls,
            dialer,
            half_open: HalfOpen::default(),
            shutdown,
            own,
            itself,
            workload_changes: Changes::default(),
            http,
            passthrough: ServiceLabels::pseudo("PassthroughCluster"),
            inbound_services: RefCell::new(InboundServices {
                none: Rc::new(ServiceLabels::pseudo("InboundPassthroughCluster")),
                known: Vec::new(),
            }),
        })
    }

    /// The sidecar's own workload; `None` before it has come.
    pub fn workload(&self) -> Option<Arc<Workload>> {
        self.local.mesh.snapshot().workload().cloned()
    }

    /// What becomes of traffic to addresses that mean nothing.
    pub fn outbound_mode(&self) -> OutboundMode {
        self.workload().map_or(OutboundMode::RegistryOnly, |workload| workload.outbound.mode)
    }

    /// Whether one more connection may be made.
    ///
    /// # Errors
    /// [`Reason::Overloaded`]: memory is nearly used up; `opaque` ones, which nobody can answer, are refused as soon as
    /// requests are (hardening G3).
    pub fn admit(&self, opaque: bool) -> Result<(), Reason> {
        let refused_from = if opaque { Level::Short } else { Level::Critical };
        if self.local.overload.level() >= refused_from { Err(Reason::Overloaded) } else { Ok(()) }
    }

    /// The labels of the service that a port of the workload serves.
    pub fn inbound_service(&self, workload: Option<&Workload>, port: u16) -> Rc<ServiceLabels> {
        let port = workload.and_then(|workload| workload.inbound.port(port));
        let mut services = self.inbound_services.borrow_mut();
        match port.and_then(|port| port.service.as_ref()) {
            Some(serves) => services.of(&serves.service),
            None => services.none.clone(),
        }
    }
}

impl InboundServices {
    fn of(&mut self, service: &ServiceName) -> Rc<ServiceLabels> {
        if let Some((_, labels)) = self.known.iter().find(|(name, _)| name == service) {
            return labels.clone();
        }
        let short_name = service.host.split('.').next().unwrap_or_default().into();
        let labels = Rc::new(ServiceLabels::new(service, &short_name));
        self.known.push((service.clone(), labels.clone()));
        labels
    }
}

impl Changes {
    /// The number as it is: to be read before what it stands for.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Lets it grow.
    pub fn grow(&self) {
        self.count.set(self.count.get() + 1);
        self.grown.notify_waiters();
    }

    /// Waits until it is another than `seen`, and says which.
    pub async fn after(&self, seen: u64) -> u64 {
        loop {
            let mut grown = std::pin::pin!(self.grown.notified());
            grown.as_mut().enable();
            if self.count.get() != seen {
                return self.count.get();
            }
            grown.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn e2_a_change_between_the_look_and_the_wait_is_not_missed() {
        let changes = Changes::default();
        let seen = changes.count();
        changes.grow();
        assert_eq!(changes.after(seen).await, 1);
        let mut next = Box::pin(changes.after(1));
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        changes.grow();
        assert_eq!(next.await, 2);
    }
}
