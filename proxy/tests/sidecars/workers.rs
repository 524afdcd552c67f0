//! Workers on threads of their own: listeners that come and go, and the end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use weft_core::model::address::HostBinding;
use weft_core::model::address::ServicePortRef;
use weft_core::model::protocol::Protocol;
use weft_core::model::workload::{EgressListener, MtlsMode, Workload};
use weft_core::snapshot::Resource;
use weft_proxy::accept::Bound;
use weft_proxy::drain::Phase;
use weft_proxy::worker::{self, Shared, Sockets};

use crate::support::{Ca, SERVICE_PORT, service, service_name, shared, snapshot, with_port, workload};

/// An address that nobody listens on.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An application that sends back what it is sent.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &tcp, &mut &tcp));
        }
    });
    at
}

fn egress(bind: SocketAddr) -> EgressListener {
    let target = ServicePortRef { service: service_name(), port: SERVICE_PORT };
    EgressListener { bind, protocol: Protocol::Tcp, services: vec![HostBinding { domains: vec![], target }] }
}

fn tell(shared: &Shared, workload: Workload, application: SocketAddr) {
    let told = service(Protocol::Tcp, application, None);
    let workload = Resource::Workload(Arc::new(workload));
    let next = snapshot(&shared.mesh.snapshot(), std::iter::once(workload).chain(told));
    shared.mesh.swap(next, &Default::default());
}

/// Connects as soon as somebody listens.
fn connect(at: SocketAddr) -> TcpStream {
    until(|| TcpStream::connect(at).ok())
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = look() {
            return found;
        }
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not happen");
}

fn says_back(mut tcp: TcpStream) -> TcpStream {
    tcp.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    tcp
}

#[test]
fn explicit_listeners_follow_the_workload_and_draining_closes_the_inbound_ones() {
    let ca = Ca::new("cluster.local");
    let application = echo();
    let (inbound, first, second) = (free(), free(), free());
    let mut told =
        with_port(workload(&ca.issue("db"), &[&ca], MtlsMode::Permissive), application.port(), Protocol::Tcp);
    told.inbound.ports[0].listener = Some(inbound);
    told.outbound.listeners = vec![egress(first)];

    let (shared, _) = shared(2);
    let sockets = || Sockets {
        outbound: vec![Bound::new(([127, 0, 0, 1], 0).into()).unwrap()],
        inbound: vec![Bound::new(([127, 0, 0, 1], 0).into()).unwrap()],
    };
    let workers: Vec<_> = (0..2).map(|n| worker::spawn(shared.clone(), sockets(), n).unwrap()).collect();
    assert!(TcpStream::connect(first).is_err(), "e4: nothing is let out before the workload is known");

    tell(&shared, told.clone(), application);
    says_back(connect(inbound));
    let live = says_back(connect(first));

    told.outbound.listeners = vec![egress(second)];
    tell(&shared, told, application);
    says_back(connect(second));
    until(|| TcpStream::connect(first).err());
    let live = says_back(live);

    shared.shutdown.begin();
    until(|| TcpStream::connect(inbound).err());
    says_back(connect(second));
    assert_eq!(shared.shutdown.phase(), Phase::Draining);
    shared.shutdown.end();
    for worker in workers {
        worker.join().unwrap().unwrap();
    }
    assert!(matches!((&live).read(&mut [0]), Ok(0) | Err(_)));
}
