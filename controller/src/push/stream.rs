//! One sidecar's stream: requests in, responses out, new worlds in between.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use weft_api::pb::config::{DeltaRequest, DeltaResponse};
use weft_api::session::server::Change;
use weft_core::model::name::ResourceName;

use super::publisher::{Compiler, Subscriber};
use super::registry::Entry;
use crate::metrics::Metrics;

/// How long a change waits for others.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From a change to its push: what changes meanwhile goes with it.
    pub debounce: Duration,
    /// How often a sidecar hears how new its state is, if nothing else is said.
    pub progress: Duration,
    /// About how long a stream lasts: then the sidecar connects anew, perhaps to another replica.
    pub age: Duration,
    /// Over what time streams end when the controller does, so that not all sidecars come back at once.
    pub drain: Duration,
}

/// One stream.
pub(super) struct SidecarStream {
    pub(super) entry: Entry,
    pub(super) worlds: Subscriber,
    pub(super) responses: mpsc::Sender<Result<DeltaResponse, Status>>,
    pub(super) pace: Pace,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
}

/// What a stream is about to do.
#[derive(Default)]
struct Pending {
    compiler: Option<Arc<dyn Compiler>>,
    /// When the changes that have come are taken.
    due: Option<Instant>,
    /// Since when something is on its way that the sidecar has not answered.
    told: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(5),
            progress: Duration::from_secs(10),
            age: Duration::from_secs(30 * 60),
            drain: Duration::from_secs(4),
        }
    }
}

impl SidecarStream {
    /// Serves until the sidecar goes, breaks the protocol or reads no more.
    pub(super) async fn run(mut self, requests: impl Stream<Item = Result<DeltaRequest, Status>> + Unpin) {
        self.metrics.sidecars.inc();
        let ended = self.serve(requests).await;
        self.metrics.sidecars.dec();
        let pod = &self.entry.sidecar.pod;
        match ended {
            Ok(()) => tracing::info!("sidecar {pod} is gone"),
            Err(status) => {
                match status.code() {
                    Code::Unavailable => tracing::info!("sidecar {pod}: {}", status.message()),
                    _ => tracing::warn!("sidecar {pod}: stream ended: {}", status.message()),
                }
                // It may be gone already.
                let _ = self.responses.try_send(Err(status));
            }
        }
    }

    async fn serve(
        &mut self,
        mut requests: impl Stream<Item = Result<DeltaRequest, Status>> + Unpin,
    ) -> Result<(), Status> {
        let mut pending = Pending::default();
        let mut progress = ticker(self.pace.progress);
        let mut end = pin!(end(self.pace, self.shutdown.clone()));
        loop {
            tokio::select! {
                biased;
                request = requests.next() => match request {
                    Some(request) => self.take(request?, &mut pending)?,
                    None => return Ok(()),
                },
                () = at(pending.due) => self.renew(&mut pending),
                () = self.worlds.changed(), if pending.due.is_none() => {
                    pending.due = Some(Instant::now() + self.pace.debounce);
                    continue;
                }
                _ = progress.tick() => {
                    if self.say_progress(&pending).await.is_err() {
                        return Ok(());
                    }
                }
                () = self.responses.closed() => return Ok(()),
                status = &mut end => return Err(status),
            }
            if self.say_all(&mut pending).await.is_err() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, request: DeltaRequest, pending: &mut Pending) -> Result<(), Status> {
        let change = self.entry.sidecar.session().receive(request).map_err(|error| {
            self.metrics.broken.inc();
            Status::invalid_argument(error.to_string())
        })?;
        self.note(&change, pending);
        self.entry.changed();
        if pending.compiler.is_none() {
            self.renew(pending);
        }
        Ok(())
    }

    fn note(&self, change: &Change, pending: &mut Pending) {
        let pod = &self.entry.sidecar.pod;
        for refusal in &change.refused {
            self.metrics.refused.inc();
            tracing::error!("sidecar {pod} refuses {}: {}: {}", refusal.name, refusal.path, refusal.reason);
        }
        if change.answered
            && let Some(since) = pending.told.take()
        {
            self.metrics.convergence.observe(since.elapsed().as_secs_f64());
        }
    }

    /// Takes the present world and marks what differs in it.
    fn renew(&mut self, pending: &mut Pending) {
        let update = self.worlds.take();
        pending.due = None;
        self.entry.saw(update.generation);
        let mut session = self.entry.sidecar.session();
        if !update.dirty.is_empty() {
            // What a sidecar hears first is not news.
            pending.told = update.at.filter(|_| pending.compiler.is_some());
            let subscribed: Vec<_> = session.names().map(|(name, ..)| name.clone()).collect();
            let pod = &self.entry.sidecar.pod;
            let touched = |name: &&ResourceName| update.dirty.iter().any(|dirty| dirty.touches(pod, name));
            for name in subscribed.iter().filter(touched) {
                session.mark(name);
            }
        }
        pending.compiler = update.compiler;
    }

    async fn say_all(&self, pending: &mut Pending) -> Result<(), Closed> {
        let Some(compiler) = pending.compiler.clone() else { return Ok(()) };
        let mut said = false;
        while let Some(response) = self.next(&*compiler) {
            said = true;
            self.send(response).await?;
        }
        if !said && !self.entry.sidecar.session().is_awaiting() {
            pending.told = None;
        }
        Ok(())
    }

    fn next(&self, compiler: &dyn Compiler) -> Option<DeltaResponse> {
        let sidecar = &self.entry.sidecar;
        if !compiler.knows(&sidecar.pod, sidecar.uid.as_deref()) {
            return None;
        }
        sidecar.session().next_response(compiler.as_of(), |name| compiler.resource(&sidecar.pod, name))
    }

    async fn say_progress(&self, pending: &Pending) -> Result<(), Closed> {
        let Some(compiler) = &pending.compiler else { return Ok(()) };
        let response = self.entry.sidecar.session().progress(compiler.as_of());
        if let Some(response) = response { self.send(response).await } else { Ok(()) }
    }

    async fn send(&self, response: DeltaResponse) -> Result<(), Closed> {
        self.metrics.pushes.inc();
        self.metrics.resources.inc_by(response.resources.len() as u64);
        self.metrics.bytes.inc_by(response.resources.iter().map(|it| it.body.len() as u64).sum());
        self.responses.send(Ok(response)).await.map_err(|_| Closed)
    }
}

/// The sidecar takes no more.
struct Closed;

fn ticker(period: Duration) -> Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// Why a stream ends, when it is time.
async fn end(pace: Pace, shutdown: CancellationToken) -> Status {
    tokio::select! {
        () = shutdown.cancelled() => {
            sleep(pace.drain.mul_f64(rand::random())).await;
            Status::unavailable("the controller is stopping: connect to another")
        }
        () = sleep(pace.age.mul_f64(rand::random_range(0.8..1.2))) => {
            Status::unavailable("the stream has lasted long enough: connect anew")
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
