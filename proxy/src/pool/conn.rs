//! Connections to upstreams and what they carry.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, header};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use weft_core::http::head::Limits;

use super::connect::{ConnectFault, Destination};
use super::gate::OpenConnection;
use crate::flow::Flow;
use crate::http::client_guard::{Asked, ClientGuard};
use crate::http::cork::Cork;
use crate::http::exec::CorkedExecutor;
use crate::http::upload::UploadBody;
use crate::http::version::{
    CONNECTION_WINDOW, HEADER_LIST, HTTP1_BUFFER, HttpVersion, SEND_BUFFER, STREAM_WINDOW,
};
use crate::io::Io;

/// An upstream that reads nothing of what is written for so long is given up.
const WRITE_TIME: Duration = Duration::from_secs(300);

/// A connection.
pub(super) enum Connection {
    Http1(Http1),
    Http2(Rc<Http2>),
}

/// An HTTP/1 connection: one request at a time.
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<UploadBody>,
    pub(super) asked: Asked,
    /// Requests it has carried.
    pub(super) served: u32,
    pub(super) idle_until: Instant,
}

/// An HTTP/2 connection: as many requests at a time as the upstream takes.
pub(super) struct Http2 {
    pub(super) sender: RefCell<http2::SendRequest<UploadBody>>,
    pub(super) active: Cell<u32>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS` of the upstream.
    pub(super) allowed: Rc<Cell<u32>>,
    pub(super) served: Cell<u32>,
    /// The upstream takes no more requests on it.
    pub(super) draining: Cell<bool>,
    pub(super) idle_until: Cell<Instant>,
}

/// Begins HTTP on a new connection.
pub(super) async fn handshake(
    io: Io,
    to: &Destination,
    open: OpenConnection,
) -> Result<Connection, ConnectFault> {
    match to.version {
        HttpVersion::Http1 => http1_handshake(io, open).await,
        HttpVersion::Http2 => http2_handshake(io, open).await,
    }
}

async fn http1_handshake(mut io: Io, open: OpenConnection) -> Result<Connection, ConnectFault> {
    io.limit_writes(WRITE_TIME);
    let asked = Asked::on(io.keep_pace());
    let guard = ClientGuard::new(io, Limits::default(), asked.clone(), Box::new(open));
    let mut builder = http1::Builder::new();
    let handshake =
        builder.preserve_header_case(true).max_buf_size(HTTP1_BUFFER).handshake(TokioIo::new(guard)).await;
    let (sender, connection) = handshake.map_err(|_| ConnectFault::Http)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connection::Http1(Http1 { sender, asked, served: 0, idle_until: Instant::now() }))
}

async fn http2_handshake(mut io: Io, open: OpenConnection) -> Result<Connection, ConnectFault> {
    io.limit_writes(WRITE_TIME);
    let cork = Cork::new(io);
    let mut builder = http2::Builder::new(CorkedExecutor(cork.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST);
    let (sender, mut connection) =
        builder.handshake(TokioIo::new(cork)).await.map_err(|_| ConnectFault::Http)?;
    let allowed = Rc::new(Cell::new(streams(connection.current_max_send_streams())));
    let told = Rc::clone(&allowed);
    tokio::task::spawn_local(async move {
        let ended = std::future::poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            if polled.is_pending() {
                told.set(streams(connection.current_max_send_streams()));
            }
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "upstream connection ended");
        }
        drop(open);
    });
    Ok(Connection::Http2(Rc::new(Http2 {
        sender: RefCell::new(sender),
        active: Cell::new(0),
        allowed,
        served: Cell::new(0),
        draining: Cell::new(false),
        idle_until: Cell::new(Instant::now()),
    })))
}

fn streams(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Http1 {
    /// Whether another request may begin on it.
    pub(super) fn is_free(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Tells the guard what the next response answers.
    pub(super) fn ask(&self, request: &Request<UploadBody>) {
        self.asked.set(request.method(), request.headers().contains_key(header::UPGRADE));
    }

    /// What keeps its pace.
    pub(super) fn flow(&self) -> &Flow {
        self.asked.flow()
    }

    /// Waits until the connection has come to the end of its last exchange.
    pub(super) async fn settled(&mut self) -> bool {
        std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await.is_ok()
    }
}

impl Http2 {
    /// Whether another request may begin on it.
    pub(super) fn has_room(&self, to: &Destination) -> bool {
        let policy = &to.cluster.cluster.connections;
        let most = policy.max_concurrent_streams.unwrap_or(u32::MAX).min(self.allowed.get());
        self.is_open(to) && self.active.get() < most
    }

    /// Whether it may be used at all.
    pub(super) fn is_open(&self, to: &Destination) -> bool {
        let requests = to.cluster.cluster.connections.max_requests_per_connection;
        !self.draining.get()
            && !self.sender.borrow().is_closed()
            && requests.is_none_or(|most| self.served.get() < most)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
    }
}
