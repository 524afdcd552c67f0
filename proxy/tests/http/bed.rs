//! A sidecar's request path on loopback: real sockets, a configuration made by hand, no controller.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::Instant;
use weft_core::identity::SpiffeId;
use weft_core::model::address::Address;
use weft_proxy::clock::Clock;
use weft_proxy::config::Mesh;
use weft_proxy::dial::Dialer;
use weft_proxy::downstream::{Downstream, Incoming, Outgoing};
use weft_proxy::drain::{Drain, Shutdown};
use weft_proxy::http::version::HttpVersion;
use weft_proxy::identity::Credentials;
use weft_proxy::io::Io;
use weft_proxy::local::{Local, close_idle, close_removed};
use weft_proxy::overload::Overload;
use weft_proxy::pool::{Gates, MeshConnect, Pool};
use weft_proxy::settings::AccessLogFormat;
use weft_proxy::telemetry::Telemetry;
use weft_proxy::tls::Tls;
use weft_proxy::{inbound_http, outbound_http};
use weft_testkit::world::World;

/// One worker.
pub(crate) struct Bed {
    pub(crate) mesh: Mesh,
    pub(crate) telemetry: Telemetry,
    pub(crate) local: Rc<Local>,
    pub(crate) shutdown: Shutdown,
    pub(crate) overload: Overload,
    gates: Gates,
}

/// Runs a test on a worker's local set.
pub(crate) async fn on_worker<F: Future<Output = ()>>(test: F) {
    LocalSet::new().run_until(test).await;
}

impl Bed {
    /// A worker with this configuration.
    pub(crate) fn new(world: &World) -> Self {
        Self::capped(world, u32::MAX)
    }

    /// A worker of a sidecar that takes so many requests at once.
    pub(crate) fn capped(world: &World, most: u32) -> Self {
        let (mesh, questions) = Mesh::new(Duration::from_millis(100));
        std::mem::forget(questions);
        mesh.swap(world.snapshot(), &BTreeSet::new());
        let telemetry = Telemetry::new(AccessLogFormat::Off, Clock::system());
        Self::over(mesh, telemetry, Gates::default(), Overload::new(1, Some(most)))
    }

    /// A second worker of the same sidecar.
    pub(crate) fn beside(other: &Self) -> Self {
        Self::over(other.mesh.clone(), other.telemetry.clone(), other.gates.clone(), other.overload.clone())
    }

    fn over(mesh: Mesh, telemetry: Telemetry, gates: Gates, overload: Overload) -> Self {
        let connect = Rc::new(MeshConnect::new(Dialer::default(), tls()));
        let (shutdown, drain) = (Shutdown::new(), Drain::default());
        let (watch, view) = (shutdown.clone(), drain.clone());
        tokio::task::spawn_local(async move { watch.follow(view).await });
        let pool = Pool::new(connect, gates.clone());
        let ends = (drain, overload.worker(0));
        let local = Local::new(mesh.reader(), pool, telemetry.worker(0), ends, Instant::now(), 1);
        let local = Rc::new(local);
        tokio::task::spawn_local(close_removed(Rc::clone(&local), mesh.changes()));
        tokio::task::spawn_local(close_idle(Rc::clone(&local)));
        Self { mesh, telemetry, local, shutdown, overload, gates }
    }

    /// Listens for connections of the application to a service.
    pub(crate) async fn outbound(&self, world: &World, service: &str, version: HttpVersion) -> SocketAddr {
        self.outbound_to(world.address(service), version).await
    }

    /// Listens for connections of the application to an address.
    pub(crate) async fn outbound_to(&self, address: Arc<Address>, version: HttpVersion) -> SocketAddr {
        self.outbound_by(address, false, version).await
    }

    /// Listens for connections of the application as an explicit listener for several services does.
    pub(crate) async fn outbound_listed(&self, address: Arc<Address>, version: HttpVersion) -> SocketAddr {
        self.outbound_by(address, true, version).await
    }

    async fn outbound_by(&self, address: Arc<Address>, listed: bool, version: HttpVersion) -> SocketAddr {
        let local = Rc::clone(&self.local);
        listen(move |io, client| {
            let (local, address) = (Rc::clone(&local), Arc::clone(&address));
            let destination = SocketAddr::new(address.key.ip, address.key.port);
            let downstream = downstream(client, destination, None);
            let from = Outgoing { downstream, address, listed };
            async move {
                let _ = outbound_http::serve(&local, io, version, from).await;
            }
        })
        .await
    }

    /// Listens for connections from outside to port 8080, as if `peer` had proved itself.
    pub(crate) async fn inbound(
        &self,
        application: SocketAddr,
        version: HttpVersion,
        peer: Option<SpiffeId>,
    ) -> SocketAddr {
        let local = Rc::clone(&self.local);
        listen(move |io, client| {
            let local = Rc::clone(&local);
            let downstream = downstream(client, ([127, 0, 0, 1], 8080).into(), peer.clone());
            async move {
                let _ = inbound_http::serve(&local, io, version, Incoming { downstream, application }).await;
            }
        })
        .await
    }

    /// All metrics.
    pub(crate) fn metrics(&self) -> String {
        self.telemetry.render()
    }
}

async fn listen<F, S>(serve: F) -> SocketAddr
where
    F: Fn(Io, SocketAddr) -> S + 'static,
    S: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::task::spawn_local(async move {
        while let Ok((tcp, client)) = listener.accept().await {
            tokio::task::spawn_local(serve(Io::plain(tcp), client));
        }
    });
    address
}

fn downstream(client: SocketAddr, destination: SocketAddr, peer: Option<SpiffeId>) -> Downstream {
    Downstream { accepted: Instant::now(), client, destination, peer, sni: None }
}

fn tls() -> Arc<Tls> {
    Arc::new(Tls::new(Credentials::new(), Clock::system()))
}
