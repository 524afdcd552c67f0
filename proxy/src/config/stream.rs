//! The task that talks to the controller: connects, asks, takes in, swaps, keeps, and begins again when it breaks.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status, Streaming};
use weft_api::limits::MAX_MESSAGE_BYTES;
use weft_api::pb::config::config_service_client::ConfigServiceClient;
use weft_api::pb::config::{DeltaRequest, DeltaResponse};
use weft_api::session::client::{ProtocolError, StreamId};
use weft_core::snapshot::Snapshot;

use super::holdings::Holdings;
use super::mesh::{Ask, Link, Mesh};
use super::pause;
use super::saved::Saved;
use crate::clock::Clock;
use crate::controller::{ControllerLink, LinkError};
use crate::settings::ControllerSettings;
use crate::state::StateDir;
use crate::telemetry::Metrics;

/// Name of the file of state.
const FILE: &str = "config.bin";
/// After a change, how long to wait for more before the state is written.
const SAVE_DELAY: Duration = Duration::from_secs(1);
/// A question of the data plane cuts a pause short after this.
const ASKED_PAUSE: Duration = Duration::from_secs(1);
/// Names that were used once in this time are in use.
const EPOCH: Duration = Duration::from_secs(60);
/// A stream on which nothing is answered for this long, although something is wanted, is given up.
const PROGRESS: Duration = Duration::from_secs(30);

/// What the task is made of.
pub struct StreamParts {
    /// What it fills.
    pub mesh: Mesh,
    /// The questions of the data plane.
    pub asks: mpsc::Receiver<Ask>,
    /// The way to the controller.
    pub link: ControllerLink,
    /// Where the last good state is kept.
    pub state: StateDir,
    /// Wall time.
    pub clock: Clock,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Hears of each snapshot before it is in force.
    pub before_swap: Box<dyn Fn(&Snapshot) + Send>,
}

/// The task that talks to the controller.
pub struct ConfigStream {
    parts: StreamParts,
    holdings: Holdings,
    reconnect_max: Duration,
    save_at: Option<Instant>,
    up_since: Option<Instant>,
    /// When the last stream ended that was up.
    left_at: Option<Instant>,
    last_error: Option<String>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the controller ended the stream: {:?}: {}", .0.code(), .0.message())]
    Status(Status),
    #[error("the controller closed the stream")]
    Closed,
    #[error("the controller breaks the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("the controller answered nothing within {PROGRESS:?}")]
    NoProgress,
    #[error("the sidecar ends")]
    Ending,
}

/// One stream that is up.
struct Connection {
    id: StreamId,
    requests: mpsc::UnboundedSender<DeltaRequest>,
    responses: Streaming<DeltaResponse>,
    last_response: Instant,
}

impl ConfigStream {
    /// A task that will fill `parts.mesh`; what an earlier process kept is in force at once (hardening F14).
    pub fn new(parts: StreamParts, settings: &ControllerSettings) -> Self {
        let holdings = restore(&parts.state, settings.max_idle_names);
        let reconnect_max = settings.reconnect_max;
        let (save_at, up_since, left_at, last_error) = (None, None, None, None);
        let stream = Self { parts, holdings, reconnect_max, save_at, up_since, left_at, last_error };
        if stream.holdings.len() > 0 {
            stream.swap();
            tracing::info!(
                resources = stream.holdings.len(),
                "serving by the configuration of an earlier process"
            );
        }
        stream
    }

    /// Talks to the controller until the mesh is dropped.
    pub async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let shortened = pause.mul_f64(rand::rng().random_range(pause::SPREAD));
            if self.rest(shortened).await.is_err() {
                return;
            }
            self.up_since = None;
            let error = self.converse().await;
            self.ended(&error);
            if matches!(error, StreamError::Ending) {
                return;
            }
            let now = Instant::now();
            self.left_at = self.up_since.map(|_| now).or(self.left_at);
            let up = self.up_since.map_or(Duration::ZERO, |since| now - since);
            let away = self.left_at.map(|left| now - left);
            pause = pause::next(pause, up, away, self.reconnect_max);
        }
    }

    /// One stream, from its beginning to its end.
    async fn converse(&mut self) -> StreamError {
        let mut connection = match self.open().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        self.up_since = Some(Instant::now());
        self.parts.mesh.set_link(Link::Up);
        self.parts.metrics.controller_connected.set(1);
        self.count_connection("success");
        self.last_error = None;
        tracing::info!("connected to the controller");
        loop {
            if let Err(error) = self.step(&mut connection).await {
                return error;
            }
        }
    }

    /// One event of a stream that is up.
    async fn step(&mut self, connection: &mut Connection) -> Result<(), StreamError> {
        let overdue = connection.last_response + PROGRESS;
        let waiting = self.holdings.is_waiting();
        let save_at = self.save_at;
        tokio::select! {
            response = connection.responses.message() => {
                let response = response.map_err(StreamError::Status)?.ok_or(StreamError::Closed)?;
                self.take_in(connection, response)?;
            }
            ask = self.parts.asks.recv() => {
                // What was asked a moment ago has its full time to be answered.
                connection.last_response = connection.last_response.max(Instant::now() - PROGRESS / 2);
                self.take(ask.ok_or(StreamError::Ending)?);
            }
            () = at(save_at) => self.save(),
            () = tokio::time::sleep_until(overdue), if waiting => return Err(StreamError::NoProgress),
        }
        self.send(&connection.requests)
    }

    async fn open(&mut self) -> Result<Connection, StreamError> {
        let id = self.holdings.connect();
        let (requests, outgoing) = mpsc::unbounded_channel();
        self.send(&requests)?;
        let opening = open_stream(self.parts.link.clone(), outgoing);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                responses = &mut opening => {
                    return Ok(Connection { id, requests, responses: responses?, last_response: Instant::now() });
                }
                ask = self.parts.asks.recv() => {
                    self.take(ask.ok_or(StreamError::Ending)?);
                    self.send(&requests)?;
                }
            }
        }
    }

    fn send(&mut self, requests: &mpsc::UnboundedSender<DeltaRequest>) -> Result<(), StreamError> {
        while let Some(request) = self.holdings.next_request() {
            requests.send(request).map_err(|_| StreamError::Closed)?;
        }
        Ok(())
    }

    fn take_in(&mut self, connection: &mut Connection, response: DeltaResponse) -> Result<(), StreamError> {
        let taken = self.holdings.receive(connection.id, response)?;
        connection.last_response = Instant::now();
        let updates = &self.parts.metrics.config_updates;
        updates.with_label_values(&["accepted"]).inc_by(taken.accepted);
        updates.with_label_values(&["rejected"]).inc_by(taken.refused);
        self.parts.metrics.config_seen(self.parts.clock.now());
        if taken.changed {
            self.swap();
            self.save_at.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
        }
        Ok(())
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Want(name) => self.holdings.want(name),
            Ask::Status(answer) => {
                let mut status = self.holdings.status();
                status.connected = self.parts.mesh.is_connected();
                status.last_error = self.last_error.clone();
                // Whoever asked may have gone.
                let _ = answer.send(status);
            }
            Ask::Flush(done) => {
                if self.save_at.is_some() {
                    self.save();
                }
                let _ = done.send(());
            }
            Ask::Sweep => {
                self.parts.mesh.next_epoch();
                if self.holdings.sweep() {
                    self.swap();
                }
            }
        }
    }

    fn swap(&self) {
        let snapshot = self.holdings.build(&self.parts.mesh.snapshot());
        self.parts.metrics.config_resources.set(self.holdings.len() as i64);
        (self.parts.before_swap)(&snapshot);
        self.parts.mesh.swap(snapshot, self.holdings.absent());
    }

    fn save(&mut self) {
        self.save_at = None;
        if !self.parts.state.is_kept() {
            return;
        }
        if let Err(error) = self.parts.state.write(FILE, &self.holdings.saved().encode()) {
            tracing::warn!(%error, "configuration is not kept: a restart will need the controller");
        }
    }

    fn ended(&mut self, error: &StreamError) {
        if self.save_at.is_some() {
            // From now on a restart depends on what is kept.
            self.save();
        }
        self.holdings.disconnect();
        let was_up = self.parts.mesh.is_connected();
        if was_up {
            self.parts.metrics.config_seen(self.parts.clock.now());
            self.parts.mesh.set_link(Link::AwaySince(Instant::now()));
        }
        self.parts.metrics.controller_connected.set(0);
        let text = error.to_string();
        let is_news = self.last_error.as_ref() != Some(&text);
        match (was_up, is_news) {
            (true, _) => tracing::warn!(%error, "the controller is away, serving by what is held"),
            (false, true) => tracing::warn!(%error, "no connection to the controller, trying again"),
            (false, false) => tracing::debug!(%error, "still no connection to the controller"),
        }
        if !was_up {
            self.count_connection("failure");
        }
        self.last_error = Some(text);
    }

    fn count_connection(&self, result: &str) {
        self.parts.metrics.controller_connections.with_label_values(&[result]).inc();
    }

    /// Waits before the next try; a question of the data plane makes it shorter.
    async fn rest(&mut self, pause: Duration) -> Result<(), StreamError> {
        let began = Instant::now();
        let mut until = began + pause;
        loop {
            let save_at = self.save_at;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = at(save_at) => self.save(),
                ask = self.parts.asks.recv() => {
                    let ask = ask.ok_or(StreamError::Ending)?;
                    if matches!(ask, Ask::Want(_)) {
                        until = until.min(began + ASKED_PAUSE);
                    }
                    self.take(ask);
                }
            }
        }
    }
}

/// Ends epochs for as long as the mesh lives: see [`super::MeshReader`].
pub async fn sweep_forever(mesh: Mesh) {
    let mut ticks = tokio::time::interval(EPOCH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        mesh.sweep();
    }
}

async fn open_stream(
    link: ControllerLink,
    outgoing: mpsc::UnboundedReceiver<DeltaRequest>,
) -> Result<Streaming<DeltaResponse>, StreamError> {
    let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
    request.metadata_mut().insert("authorization", link.authorization()?);
    let channel = link.connect().await?;
    let mut client = ConfigServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = tokio::time::timeout(PROGRESS, client.stream(request)).await;
    let answer = answer.map_err(|_| StreamError::NoProgress)?;
    answer.map(tonic::Response::into_inner).map_err(StreamError::Status)
}

fn restore(state: &StateDir, most: usize) -> Holdings {
    let saved = match state.read(FILE) {
        Ok(Some(bytes)) => Saved::decode(&bytes).map_err(|error| error.to_string()),
        Ok(None) => return Holdings::new(most),
        Err(error) => Err(error.to_string()),
    };
    match saved {
        Ok(saved) => Holdings::restore(saved, most),
        Err(error) => {
            tracing::warn!(%error, "the configuration of an earlier process is not used");
            Holdings::new(most)
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
