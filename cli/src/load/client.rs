//! One connection that asks again and again.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::executor::LocalExecutor;

/// What every request is.
#[derive(Clone, Debug)]
pub struct Template {
    /// Where to, `http` only.
    pub uri: Uri,
    /// Its method.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// HTTP/2 with prior knowledge instead of HTTP/1.
    pub http2: bool,
    /// Longest time for the whole of one request.
    pub timeout: Duration,
}

/// An open connection.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2.
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was sent: the connection had been closed before.
    Unsent,
    /// What happened, in a word.
    Kind(&'static str),
}

/// Opens a connection. Must run inside a `LocalSet`.
///
/// # Errors
/// A word for why there is none.
pub async fn connect(to: SocketAddr, http2: bool) -> Result<Connection, &'static str> {
    let stream = TcpStream::connect(to).await.map_err(|e| connect_kind(&e))?;
    stream.set_nodelay(true).map_err(|e| connect_kind(&e))?;
    let io = TokioIo::new(stream);
    if http2 {
        let (sender, connection) = http2::handshake(LocalExecutor, io).await.map_err(|_| "handshake")?;
        tokio::task::spawn_local(connection);
        return Ok(Connection::Http2(sender));
    }
    let mut builder = http1::Builder::new();
    let (sender, connection) =
        builder.preserve_header_case(true).handshake(io).await.map_err(|_| "handshake")?;
    tokio::task::spawn_local(connection);
    Ok(Connection::Http1(sender))
}

impl Connection {
    /// Whether the other side has closed it.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and reads the whole answer, of which it gives status and headers.
    ///
    /// # Errors
    /// Why there is no whole answer.
    pub async fn ask(&mut self, template: &Template) -> Result<(u16, HeaderMap), Failure> {
        self.ready().await.map_err(|_| Failure::Unsent)?;
        let response = self.send(request(template)).await.map_err(|e| match e.message() {
            Some(_) => Failure::Unsent,
            None => Failure::Kind(kind(e.error())),
        })?;
        let (head, mut body) = response.into_parts();
        while let Some(frame) = body.frame().await {
            frame.map_err(|e| Failure::Kind(kind(&e)))?;
        }
        Ok((head.status.as_u16(), head.headers))
    }

    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

fn request(template: &Template) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(template.body.clone()));
    *request.method_mut() = template.method.clone();
    request.headers_mut().clone_from(&template.headers);
    if template.http2 {
        request.uri_mut().clone_from(&template.uri);
        return request;
    }
    if let Some(path) = template.uri.path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    let authority = template.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let (Some(host), false) = (authority, request.headers().contains_key(header::HOST)) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

fn connect_kind(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect_refused",
        io::ErrorKind::ConnectionReset => "connect_reset",
        io::ErrorKind::TimedOut => "connect_timeout",
        _ => "connect",
    }
}

/// A word for what ended a request.
fn kind(error: &hyper::Error) -> &'static str {
    if error.is_incomplete_message() {
        return "closed";
    }
    if error.is_parse() {
        return "malformed";
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return if h2.is_go_away() { "goaway" } else { "reset" };
        }
        if inner.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionReset) {
            return "reset";
        }
        source = inner.source();
    }
    "broken"
}
