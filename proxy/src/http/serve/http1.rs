//! A client's connection of HTTP/1, by hyper: the guard in front, upgrades behind.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use weft_core::http::head::Limits;

use super::pulse::Pulse;
use super::{Handle, Word, answer};
use crate::http::body::Body;
use crate::http::fault::{Cut, HttpError};
use crate::http::guard::{Exchange, ServerGuard};
use crate::http::incoming::Incoming;
use crate::http::version::HTTP1_BUFFER;
use crate::io::Io;
use crate::rarely::Rarely;

/// A head must be whole so long after its first byte (hardening A14).
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A client that reads nothing for so long is gone: it may be slow (hardening A16).
const WRITE_TIME: Duration = Duration::from_secs(300);

pub(super) async fn serve<H: Handle>(
    mut io: Io,
    handler: Rc<H>,
    word: &Word<'_>,
    pulse: Rc<Pulse>,
) -> Result<(), HttpError> {
    io.limit_writes(WRITE_TIME);
    let exchange = Arc::new(Exchange::default());
    let guard = ServerGuard::new(io, Limits::default(), HEAD_TIME, Arc::clone(&exchange));
    let beats = Rc::clone(&pulse);
    let service = service_fn(move |request| {
        respond(Rc::clone(&handler), request, Arc::clone(&exchange), Rc::clone(&beats))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(HTTP1_BUFFER)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(guard), service)
            .with_upgrades()
    );
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended.map_err(HttpError::Http1),
        _ = Rarely::new(pulse.end(word)) => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(HttpError::Http1)
}

/// The guard's own request is answered as what it stands for; the guard is told what becomes of an upgrade.
async fn respond<H: Handle>(
    handler: Rc<H>,
    request: Request<hyper::body::Incoming>,
    exchange: Arc<Exchange>,
    pulse: Rc<Pulse>,
) -> Result<Response<Body>, Cut> {
    if let Some(refused) = exchange.refused(request.headers()) {
        let mut response = handler.refuse(refused);
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        return Ok(response);
    }
    let leaving = request.headers().contains_key(header::UPGRADE) || request.method() == Method::CONNECT;
    let response = answer(&handler, request.map(Incoming::Http1), &pulse).await;
    if leaving {
        match &response {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => exchange.tunnel(),
            _ => exchange.stay(),
        }
    }
    response
}
