//! HTTP on loopback for people: `/sync`, `/errors`, `/metrics`, `/healthz`, `/readyz`. It tells and changes nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::pipeline::Published;
use crate::report::Report;
use crate::source::kubernetes::progress::Progress;
use crate::status::peers;
use crate::status::writer::Counts;
use crate::webhook::keeper::Served;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// The longest that a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure to accept.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What is told.
#[derive(Clone)]
pub struct Admin {
    /// Who is connected, and what is published to them.
    pub counts: Counts,
    /// What is known, and what is wrong with it.
    pub worlds: watch::Receiver<Published>,
    /// What is counted.
    pub metrics: Metrics,
    /// How far the source has come.
    pub progress: Progress,
    /// The certificate of the webhooks, where there are any.
    pub webhooks: Option<Arc<Served>>,
}

/// What `GET /errors` says.
#[derive(Serialize)]
struct Errors {
    synced: bool,
    reports: Arc<[Report]>,
}

impl Admin {
    /// Serves until told to stop.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let accepting = Arc::new(self).accept(listener);
        shutdown.run_until_cancelled(accepting).await;
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = self.clone();
                    tokio::spawn(async move {
                        admin.connection(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("admin: accept: {error}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!("admin: {error}");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match path {
            "/sync" => json(&self.counts.registry.report(self.counts.publisher.as_of())),
            peers::PATH => self.programmed(),
            "/errors" => json(&self.errors()),
            "/metrics" => text(StatusCode::OK, self.metrics.text()),
            "/healthz" => self.health(),
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "/sync /errors /metrics /healthz /readyz"),
        }
    }

    fn health(&self) -> Response<Full<Bytes>> {
        match self.counts.publisher.as_of() {
            0 => text(StatusCode::SERVICE_UNAVAILABLE, "the world is not known yet"),
            _ => text(StatusCode::OK, "ok"),
        }
    }

    /// Ready as soon as the world is known and webhooks can be answered, and from then on: a kind that stands still is
    /// named, and what is known of it goes on being served.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let troubles = self.progress.lines();
        let (status, first) = match self.counts.publisher.as_of() {
            0 => (StatusCode::SERVICE_UNAVAILABLE, "the world is not known yet"),
            _ if self.webhooks.as_ref().is_some_and(|certificate| !certificate.is_ready()) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the webhooks have no certificate yet")
            }
            _ => (StatusCode::OK, "ready"),
        };
        text(status, std::iter::once(first.to_owned()).chain(troubles).collect::<Vec<_>>().join("\n"))
    }

    /// On how many sidecars of this replica objects are in force.
    fn programmed(&self) -> Response<Full<Bytes>> {
        let published = self.worlds.borrow().clone();
        json(&self.counts.tallies(&published).into_iter().collect::<Vec<_>>())
    }

    fn errors(&self) -> Errors {
        let published = self.worlds.borrow();
        Errors { synced: published.synced, reports: published.reports.clone() }
    }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => response(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body.into() + "\n")
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
