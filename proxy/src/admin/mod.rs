//! The administration interface, on a loopback address only: what the sidecar holds, and a few levers.
//!
//! Levers are pulled by POST, so that no link or image of a page pulls one, and only by root or the sidecar's own user.

/// Which user asks.
mod caller;
/// The configuration as JSON.
mod views;
/// What becomes of a request.
mod explain;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_core::model::telemetry::Sides;
use weft_core::upstream::Nanos;

use crate::clock::Clock;
use crate::config::Mesh;
use crate::dial::Dialer;
use crate::drain::Shutdown;
use crate::identity::Credentials;
use crate::overload::Overload;
use crate::telemetry::log::LogLevel;
use crate::telemetry::tap::{Filter, MAX_TAPS};
use crate::telemetry::{Telemetry, clusters};
use crate::web::{self, Answer, Answers, Question};

/// What the interface shows and moves.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The configuration.
    pub mesh: Mesh,
    /// The certificate.
    pub credentials: Credentials,
    /// Metrics, and who watches requests.
    pub telemetry: Telemetry,
    /// The sidecar's own log.
    pub log: LogLevel,
    /// The end of the sidecar.
    pub shutdown: Shutdown,
    /// The sidecar's own limits.
    pub overload: Overload,
    /// Wall time.
    pub clock: Clock,
    /// From when the clock of ejections counts; the workers' own.
    pub epoch: Instant,
    /// How names are looked up.
    pub dialer: Dialer,
}

const HELP: &str = "\
GET  /config           the configuration as held
GET  /clusters         clusters, and their endpoints as they stand
GET  /certs            the certificate
GET  /sync             names and versions held, and what was refused
GET  /load             requests under way, connections, memory, and what is shed
GET  /explain?ask=Q    what becomes of a request, and why, as `weft explain` asks
GET  /metrics          the sidecar's own metrics, without the application's
GET  /tap?F            requests as they end, a line of JSON each; F: method, path, status, from, reason, side
GET  /logging          the log's filter
POST /logging?level=F  changes it: error, warn, info, debug, trace, or a filter such as info,weft_proxy::config=debug
POST /drain            takes nothing new from outside, and ends when all is done
POST /quit             ends at once
";

impl Answers for Admin {
    async fn answer(&self, question: Question) -> Answer {
        if is_guarded(&question) && !caller::is_trusted(question.from, question.to) {
            return web::text(StatusCode::FORBIDDEN, "only root and the sidecar's own user may ask this\n");
        }
        match (&question.method, question.path.as_str()) {
            (&Method::GET, "/" | "/help") => web::text(StatusCode::OK, HELP),
            (&Method::GET, "/config") => web::json(&views::config(&self.mesh.snapshot())),
            (&Method::GET, "/clusters") => web::json(&views::clusters(&self.mesh.snapshot(), self.nanos())),
            (&Method::GET, "/certs") => web::json(&self.certificates()),
            (&Method::GET, "/sync") => web::json(&views::sync(&self.mesh.status().await)),
            (&Method::GET, "/load") => web::json(&self.load()),
            (&Method::GET, "/explain") => self.explain(&question.query).await,
            (&Method::GET, "/metrics") => web::metrics(self.metrics()),
            (&Method::GET, "/tap") => self.tap(&question.query),
            (&Method::GET, "/logging") if question.parameter("level").is_none() => self.log_level(),
            (&Method::POST, "/logging") => self.set_log_level(&question),
            (&Method::POST, "/drain") => self.drain(),
            (&Method::POST, "/quit") => self.quit(),
            (_, "/logging" | "/drain" | "/quit") => {
                web::text(StatusCode::METHOD_NOT_ALLOWED, "this changes the sidecar: use POST\n")
            }
            _ => web::text(StatusCode::NOT_FOUND, HELP),
        }
    }
}

/// What the application, which shares the loopback, is not to see or move.
fn is_guarded(question: &Question) -> bool {
    question.method != Method::GET || matches!(question.path.as_str(), "/config" | "/tap" | "/explain")
}

impl Admin {
    fn nanos(&self) -> Nanos {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn certificates(&self) -> Value {
        let now = self.clock.now();
        match self.credentials.current() {
            Some(issued) => views::certificate(&issued.facts, now),
            None => json!({ "certificate": null }),
        }
    }

    fn load(&self) -> Value {
        let open = self.shutdown.open_connections();
        views::load(&self.overload, self.telemetry.metrics.last_memory(), open)
    }

    async fn explain(&self, query: &str) -> Answer {
        match explain::explain(&self.mesh, self.dialer, self.nanos(), query).await {
            Ok(told) => web::json(&told),
            Err(error) => web::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    fn metrics(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        let clusters = clusters::render(&self.mesh.snapshot(), self.nanos());
        self.telemetry.pieces(Sides::default()).chain([clusters]).map(Bytes::from)
    }

    fn tap(&self, query: &str) -> Answer {
        let filter = match Filter::parse(query) {
            Ok(filter) => filter,
            Err(error) => return web::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        match self.telemetry.taps.open(filter) {
            Some(tapping) => web::lines(tapping),
            None => {
                let text = format!("{MAX_TAPS} taps are open, which is the most: end one of them\n");
                web::text(StatusCode::TOO_MANY_REQUESTS, text)
            }
        }
    }

    fn log_level(&self) -> Answer {
        web::text(StatusCode::OK, format!("{}\n", self.log.get().unwrap_or_default()))
    }

    fn set_log_level(&self, question: &Question) -> Answer {
        let Some(level) = question.parameter("level") else {
            return web::text(StatusCode::BAD_REQUEST, "write /logging?level=info\n");
        };
        match self.log.set(level) {
            Ok(()) => self.log_level(),
            Err(error) => web::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    fn drain(&self) -> Answer {
        self.shutdown.begin();
        web::text(StatusCode::OK, "draining\n")
    }

    fn quit(&self) -> Answer {
        self.shutdown.begin();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { shutdown.complete(std::time::Duration::ZERO).await });
        web::text(StatusCode::OK, "ending\n")
    }
}
