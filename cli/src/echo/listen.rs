//! Ports: accepting connections, refusing them when told to, ending them when the application ends.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

use crate::echo::body::BoxError;
use crate::echo::forward::Pool;
use crate::echo::http::{self as requests, Context};
use crate::echo::state::State;
use crate::echo::tcp;
use crate::echo::wire::Wire;
use crate::executor::LocalExecutor;

/// The first bytes of an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const BACKLOG: u32 = 1024;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1 and HTTP/2, whichever the client begins.
    Http,
    /// Bytes.
    Tcp,
    /// Bytes, after a greeting.
    ServerFirst,
}

/// What all ports share.
#[derive(Clone, Debug)]
pub struct Ports {
    state: Rc<State>,
    pool: Rc<Pool>,
    connections: TaskTracker,
}

/// Listens on all addresses of both families, or of the one there is.
///
/// # Errors
/// Which port cannot be had, and why.
pub fn bind(port: u16) -> Result<TcpListener> {
    let on = |address: SocketAddr| {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            socket2::SockRef::from(&socket).set_only_v6(false)?;
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let both = on((Ipv6Addr::UNSPECIFIED, port).into());
    both.or_else(|_| on((Ipv4Addr::UNSPECIFIED, port).into()))
        .with_context(|| format!("listen on port {port}"))
}

impl Ports {
    /// No port yet.
    pub fn new(state: Rc<State>) -> Self {
        Self { state, pool: Rc::default(), connections: TaskTracker::new() }
    }

    /// Serves one port until the application ends. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// When a port that was closed for a while cannot be had again.
    pub async fn serve(self, kind: Kind, mut listener: TcpListener) -> Result<()> {
        let port = listener.local_addr()?.port();
        let mut refuse = self.state.refuse.subscribe();
        loop {
            let until = refuse.borrow_and_update().filter(|until| Instant::now() < *until);
            if let Some(until) = until {
                drop(listener);
                self.pause(until, &mut refuse).await;
                listener = bind(port)?;
                continue;
            }
            tokio::select! {
                () = self.state.stop.cancelled() => return Ok(()),
                _ = refuse.changed() => {}
                accepted = listener.accept() => self.accepted(kind, accepted).await,
            }
        }
    }

    /// Ends when every connection has ended, or `grace` is over.
    pub async fn drained(&self, grace: Duration) {
        self.connections.close();
        // What is left then is cut with the process.
        let _ = tokio::time::timeout(grace, self.connections.wait()).await;
    }

    async fn pause(&self, until: Instant, refuse: &mut tokio::sync::watch::Receiver<Option<Instant>>) {
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            _ = refuse.changed() => {}
            () = self.state.stop.cancelled() => {}
        }
    }

    async fn accepted(&self, kind: Kind, accepted: std::io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, client)) => self.start(kind, stream, client),
            // Out of descriptors, most likely: some connection has to end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }

    fn start(&self, kind: Kind, stream: TcpStream, client: SocketAddr) {
        let (state, pool) = (Rc::clone(&self.state), Rc::clone(&self.pool));
        self.connections.spawn_local(async move {
            let add = |cell: &Cell<u64>, n: i64| cell.set(cell.get().saturating_add_signed(n));
            add(&state.open, 1);
            add(&state.accepted, 1);
            // A connection that breaks is the client's affair: it sees it.
            let _ = connection(&state, pool, kind, stream, client).await;
            add(&state.open, -1);
        });
    }
}

async fn connection(
    state: &Rc<State>,
    pool: Rc<Pool>,
    kind: Kind,
    stream: TcpStream,
    client: SocketAddr,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    if kind != Kind::Http {
        return Ok(tcp::serve(&state.identity, stream, kind == Kind::ServerFirst).await?);
    }
    let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let context = Context {
        state: Rc::clone(state),
        pool,
        tape: None,
        client: canonical(client),
        local: canonical(stream.local_addr()?),
    };
    if begins_http2(&stream).await? { http2(context, stream).await } else { http1(context, stream).await }
}

/// Whether the client begins with the preface of HTTP/2. Nothing is taken off the socket.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut seen).await?;
        if length == PREFACE.len() || length == 0 || !PREFACE.starts_with(&seen[..length]) {
            return Ok(length == PREFACE.len() && seen == PREFACE);
        }
        // The socket stays readable while the rest is on its way.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn http1(mut context: Context, stream: TcpStream) -> Result<(), BoxError> {
    let (wire, tape) = Wire::new(stream);
    context.tape = Some(tape);
    let stop = context.state.stop.clone();
    let service = service_fn(move |request: Request<Incoming>| requests::serve(context.clone(), request));
    let mut builder = http1::Builder::new();
    builder.preserve_header_case(true).half_close(true).timer(TokioTimer::new());
    let mut connection = builder.serve_connection(TokioIo::new(wire), service).with_upgrades();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let (Err(_), Some(parts)) = (&ended, connection.into_parts()) {
        parts.io.into_inner().close();
    }
    Ok(ended?)
}

async fn http2(context: Context, stream: TcpStream) -> Result<(), BoxError> {
    let stop = context.state.stop.clone();
    let service = service_fn(move |request: Request<Incoming>| requests::serve(context.clone(), request));
    let builder = http2::Builder::new(LocalExecutor);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return Ok(ended?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
