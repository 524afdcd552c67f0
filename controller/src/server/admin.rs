//! HTTP for people: `/sync`, `/meant`, `/errors`, `/metrics`, `/healthz`, `/readyz` tell; `/logging` also changes the
//! log's level, for who asks over the loopback only (`kubectl port-forward` arrives there).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use weft_api::name::{TYPES, parse};
use weft_core::model::name::{ObjectName, ResourceName};

use crate::log::LogLevel;
use crate::metrics::Metrics;
use crate::pipeline::Published;
use crate::report::Report;
use crate::source::kubernetes::progress::Progress;
use crate::status::peers;
use crate::status::writer::Counts;
use crate::webhook::keeper::Served;

/// The most names that are asked about at a time.
const MEANT: usize = 200;
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
    /// The controller's own log.
    pub log: LogLevel,
}

/// What is asked.
struct Question {
    method: Method,
    path: String,
    query: String,
    from: SocketAddr,
}

/// What `GET /meant` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meant {
    as_of: u64,
    /// Whether the pod is known; nothing is meant for one that is not.
    known: bool,
    resources: Vec<MeantResource>,
}

/// What a name stands for, for one sidecar.
#[derive(Serialize)]
struct MeantResource {
    name: String,
    /// The version that its sidecar should hold; absent for a name that stands for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Arc<str>>,
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
                Ok((stream, from)) => {
                    let admin = self.clone();
                    tokio::spawn(async move {
                        admin.connection(stream, from).await;
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

    async fn connection(self: Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let service = service_fn(move |request: Request<Incoming>| {
            let response = self.answer(&Question::of(&request, from));
            async move { Ok::<_, Infallible>(response) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!("admin: {error}");
        }
    }

    fn answer(&self, question: &Question) -> Response<Full<Bytes>> {
        if question.path == "/logging" {
            return self.logging(question);
        }
        if question.method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match question.path.as_str() {
            "/meant" => self.meant(question),
            "/sync" => json(&self.counts.registry.report(self.counts.publisher.as_of())),
            peers::PATH => self.programmed(),
            "/errors" => json(&self.errors()),
            "/metrics" => text(StatusCode::OK, self.metrics.text()),
            "/healthz" => self.health(),
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "/sync /meant /errors /metrics /healthz /readyz /logging"),
        }
    }

    /// The log's filter, or another one.
    fn logging(&self, question: &Question) -> Response<Full<Bytes>> {
        let changed = match (&question.method, question.parameters("level").next()) {
            (&Method::GET, None) => Ok(()),
            (&Method::POST, Some(_)) if !question.from.ip().to_canonical().is_loopback() => {
                return text(StatusCode::FORBIDDEN, "only who asks over the loopback may change this");
            }
            (&Method::POST, Some(level)) => self.log.set(&level),
            (&Method::POST, None) => return text(StatusCode::BAD_REQUEST, "write /logging?level=info"),
            _ => return text(StatusCode::METHOD_NOT_ALLOWED, "this changes the controller: use POST"),
        };
        match changed {
            Ok(()) => text(StatusCode::OK, self.log.get().unwrap_or_default()),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error:#}")),
        }
    }

    /// The versions of what names stand for now, for the sidecar of a pod: `/meant?pod=NAMESPACE/POD&name=NAME&...`.
    fn meant(&self, question: &Question) -> Response<Full<Bytes>> {
        let pod = question.parameters("pod").next().and_then(|pod| {
            let (namespace, name) = pod.split_once('/')?;
            Some(ObjectName { namespace: namespace.into(), name: name.into() })
        });
        let Some(pod) = pod else {
            return text(StatusCode::BAD_REQUEST, "write /meant?pod=NAMESPACE/POD&name=NAME");
        };
        let Some(compiler) = self.counts.publisher.compiler() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the world is not known yet");
        };
        let names: Result<Vec<_>, _> =
            question.parameters("name").take(MEANT).map(|name| resource_name(&name).ok_or(name)).collect();
        match names {
            Ok(names) => {
                let meant = |name: ResourceName| MeantResource {
                    version: compiler.resource(&pod, &name).map(|encoded| encoded.version().clone()),
                    name: name.to_string(),
                };
                let known = compiler.knows(&pod, None);
                let resources = names.into_iter().map(meant).collect();
                json(&Meant { as_of: compiler.as_of(), known, resources })
            }
            Err(name) => text(StatusCode::BAD_REQUEST, format!("{name:?} names no resource")),
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

impl Question {
    fn of(request: &Request<Incoming>, from: SocketAddr) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            from,
        }
    }

    /// All values of a parameter, decoded.
    fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let values = pairs.filter(move |(key, _)| *key == name).map(|(_, value)| value);
        values.map(|value| percent_decode_str(value).decode_utf8_lossy().into_owned())
    }
}

/// A name of any type: their spellings differ.
fn resource_name(text: &str) -> Option<ResourceName> {
    TYPES.into_iter().find_map(|kind| parse(kind, text).ok())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::publisher::Publisher;
    use crate::push::registry::Registry;

    fn asked(method: Method, query: &str, from: &str) -> StatusCode {
        let admin = Admin {
            counts: Counts { registry: Registry::default(), publisher: Publisher::default() },
            worlds: watch::channel(Published::default()).1,
            metrics: Metrics::new().unwrap(),
            progress: Progress::default(),
            webhooks: None,
            log: LogLevel::default(),
        };
        let (path, query) = query.split_once('?').unwrap_or((query, ""));
        let question =
            Question { method, path: path.to_owned(), query: query.to_owned(), from: from.parse().unwrap() };
        admin.answer(&question).status()
    }

    #[test]
    fn the_log_is_changed_from_the_loopback_only() {
        let change = |from| asked(Method::POST, "/logging?level=debug", from);
        assert_eq!(change("10.0.0.7:5"), StatusCode::FORBIDDEN);
        // It gets as far as the log, which is not this process's own.
        assert_eq!(change("127.0.0.1:5"), StatusCode::BAD_REQUEST);
        assert_eq!(change("[::ffff:127.0.0.1]:5"), StatusCode::BAD_REQUEST);
        assert_eq!(asked(Method::GET, "/logging", "10.0.0.7:5"), StatusCode::OK);
        assert_eq!(asked(Method::GET, "/logging?level=debug", "127.0.0.1:5"), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn what_is_meant_needs_a_pod_and_a_world() {
        let ask = |query| asked(Method::GET, query, "127.0.0.1:5");
        assert_eq!(ask("/meant"), StatusCode::BAD_REQUEST);
        assert_eq!(ask("/meant?pod=default%2Fweb&name=self"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(resource_name("default/web.svc#3").unwrap().to_string(), "default/web.svc#3");
        assert!(resource_name("Default/web").is_none());
    }
}
