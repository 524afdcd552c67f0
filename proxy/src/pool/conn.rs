//! Connections to upstreams and what they carry.

use std::rc::Rc;

use http::{Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use weft_core::http::head::Limits;

use super::connect::{ConnectFault, Destination, WRITE_TIME};
use super::gate::OpenConnection;
use super::http2::{self, Http2};
use crate::flow::Flow;
use crate::http::client_guard::{Asked, ClientGuard};
use crate::http::upload::UploadBody;
use crate::http::version::{HTTP1_BUFFER, HttpVersion};
use crate::io::Io;

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

/// Begins HTTP on a new connection.
pub(super) async fn handshake(
    io: Io,
    to: &Destination,
    open: OpenConnection,
) -> Result<Connection, ConnectFault> {
    match to.version {
        HttpVersion::Http1 => http1_handshake(io, open).await,
        HttpVersion::Http2 => Ok(Connection::Http2(Rc::new(http2::handshake(io, open).await?))),
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
