//! Follows one resource of the API server: lists it, then hears of every change, and begins again where it left off.
//!
//! The list comes as a stream of its objects (`sendInitialEvents`) where the server can do that, else in pages; both
//! ways one object is held at a time or one page. Each listing is framed by `Listing` and `Listed`, so that whoever takes it
//! knows what is gone, also when a listing breaks off half way and starts anew. `Listed` carries the version of the
//! list, and so do bookmarks: that is how the source knows how new its world is even where nothing changes.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{ListMeta, Request, Status, WatchEvent};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::fields::{Fields, Kept};
use super::kinds::Resource;
use super::progress::Progress;
use crate::source::directory::Changes;
use crate::source::object::{Event, Object, ObjectId, Place};

/// The server ends a watch after so many seconds; then it goes on with another.
const WATCH_SECONDS: u32 = 120;
/// Objects in a page of a list.
const PAGE: u32 = 500;
/// The annotation of the bookmark that ends a streamed list.
const LIST_ENDS: &str = "k8s.io/initial-events-end";
/// What is older than the API server remembers.
const GONE: u16 = 410;

/// How long a follower waits.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// A watch that says nothing for so long, not even a bookmark, is taken for dead.
    silence: Duration,
    /// The longest pause between two tries.
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(u64::from(WATCH_SECONDS) + 5), pause: Duration::from_secs(30) }
    }
}

/// Follows one resource and sends what it hears.
pub struct Follower<F> {
    client: Client,
    resource: Resource,
    out: mpsc::Sender<Changes>,
    progress: Progress,
    patience: Patience,
    /// Whether the server can stream its list.
    streams: bool,
    /// The version up to which all is known; `None` before the first list, and when the server has forgotten it.
    at: Option<String>,
    /// Namespaces, each held once.
    namespaces: HashSet<Arc<str>>,
    fields: PhantomData<fn() -> F>,
}

/// Why following ended for now.
enum Pause {
    /// Whoever takes the events is gone.
    Closed,
    /// The server ended the watch, as it does now and then.
    Ended,
    /// The server could not be asked, or said no.
    Failed(kube::Error),
    /// The server said no in the middle of a watch.
    Refused(Box<Status>),
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "F: Fields"))]
struct List<F> {
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Kept<F>>,
}

impl<F: Fields> Follower<F> {
    /// A follower that has heard nothing yet.
    pub fn new(client: Client, resource: Resource, out: mpsc::Sender<Changes>, progress: Progress) -> Self {
        progress.begin(&resource.scope);
        let (patience, namespaces) = (Patience::default(), HashSet::new());
        Self {
            client,
            resource,
            out,
            progress,
            patience,
            streams: true,
            at: None,
            namespaces,
            fields: PhantomData,
        }
    }

    /// Follows until nobody takes the events any more.
    pub async fn run(mut self) {
        let mut backoff = DefaultBackoff::default();
        loop {
            let begun = tokio::time::Instant::now();
            let wait = match self.step().await {
                Pause::Closed => return,
                Pause::Ended => begun.elapsed() < Duration::from_secs(1),
                Pause::Failed(error) => self.note(&error),
                Pause::Refused(status) => self.note(&kube::Error::Api(status)),
            };
            match wait {
                true => sleep(backoff.next().unwrap_or(self.patience.pause).min(self.patience.pause)).await,
                false => backoff.reset(),
            }
        }
    }

    /// One request and all that follows from it.
    async fn step(&mut self) -> Pause {
        match (self.at.clone(), self.streams) {
            (Some(version), _) => self.resume(&version).await,
            (None, true) => self.stream_list().await,
            (None, false) => self.page_list().await,
        }
    }

    /// Notes what went wrong; whether to wait before the next try.
    fn note(&mut self, error: &kube::Error) -> bool {
        let status = match error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        if status == GONE {
            tracing::info!(
                "{}: the API server has forgotten where we were; listing anew",
                self.resource.scope
            );
            self.at = None;
            return false;
        }
        if self.streams && self.at.is_none() && matches!(status, 400 | 422) {
            self.streams = false;
            return false;
        }
        let reason = reason(error);
        if self.progress.failed(&self.resource.scope, matches!(status, 401 | 403), &reason) {
            tracing::warn!("{}: {reason}", self.resource.scope);
        }
        true
    }

    async fn stream_list(&mut self) -> Pause {
        let parameters = WatchParams { send_initial_events: true, ..self.parameters() };
        match self.watch(&parameters, "").await {
            Ok(events) => match self.send(vec![Event::Listing(self.resource.scope.clone())], 0).await {
                Some(pause) => pause,
                None => self.hear(events).await,
            },
            Err(error) => Pause::Failed(error),
        }
    }

    async fn page_list(&mut self) -> Pause {
        if let Some(pause) = self.send(vec![Event::Listing(self.resource.scope.clone())], 0).await {
            return pause;
        }
        let mut parameters =
            ListParams { field_selector: self.selector(), ..ListParams::default() }.limit(PAGE);
        loop {
            let list = match self.page(&parameters).await {
                Ok(list) => list,
                Err(error) => return Pause::Failed(error),
            };
            let events = list.items.into_iter().filter_map(|kept| self.apply(kept)).map(|(event, _)| event);
            let events = events.collect();
            if let Some(pause) = self.send(events, 0).await {
                return pause;
            }
            parameters.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                let version = list.metadata.resource_version.unwrap_or_default();
                return self.listed(version).await.unwrap_or(Pause::Ended);
            }
        }
    }

    async fn resume(&mut self, version: &str) -> Pause {
        match self.watch(&self.parameters(), version).await {
            Ok(events) => {
                self.progress.well(&self.resource.scope);
                self.hear(events).await
            }
            Err(error) => Pause::Failed(error),
        }
    }

    /// Takes the events of one watch.
    async fn hear(&mut self, events: impl Stream<Item = Result<WatchEvent<Kept<F>>, kube::Error>>) -> Pause {
        let mut events = std::pin::pin!(events);
        loop {
            let pause = match timeout(self.patience.silence, events.next()).await {
                Err(_) | Ok(None) => Some(Pause::Ended),
                Ok(Some(Err(error))) => Some(Pause::Failed(error)),
                Ok(Some(Ok(WatchEvent::Error(status)))) => Some(Pause::Refused(status)),
                Ok(Some(Ok(event))) => self.take(event).await,
            };
            if let Some(pause) = pause {
                return pause;
            }
        }
    }

    async fn take(&mut self, event: WatchEvent<Kept<F>>) -> Option<Pause> {
        let (events, version) = match event {
            WatchEvent::Added(kept) | WatchEvent::Modified(kept) => {
                let (event, version) = self.apply(kept)?;
                (vec![event], version)
            }
            WatchEvent::Deleted(kept) => {
                let (id, version) = self.id(&kept.value)?;
                (vec![Event::Delete(id)], version)
            }
            WatchEvent::Bookmark(mark) if self.at.is_none() => {
                // Marks in the middle of a list do not end it.
                let ends = mark.metadata.annotations.contains_key(LIST_ENDS);
                return if ends { self.listed(mark.metadata.resource_version).await } else { None };
            }
            WatchEvent::Bookmark(mark) => (Vec::new(), mark.metadata.resource_version),
            WatchEvent::Error(status) => return Some(Pause::Refused(status)),
        };
        let Some(at) = &self.at else { return self.send(events, 0).await };
        if is_known(&version, at) {
            return None;
        }
        let number = number(&version);
        self.at = Some(version);
        self.send(events, number).await
    }

    /// A list is complete.
    async fn listed(&mut self, version: String) -> Option<Pause> {
        let scope = self.resource.scope.clone();
        let pause = self.send(vec![Event::Listed(scope)], number(&version)).await;
        self.at = Some(version);
        self.progress.listed(&self.resource.scope);
        pause
    }

    async fn send(&self, events: Vec<Event>, version: u64) -> Option<Pause> {
        let changes = Changes { events, version, ..Changes::default() };
        self.out.send(changes).await.err().map(|_| Pause::Closed)
    }

    fn apply(&mut self, kept: Kept<F>) -> Option<(Event, String)> {
        let mut value = kept.value;
        let (id, version) = self.id(&value)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("apiVersion".to_owned(), Value::from(&*self.resource.api_version));
            object.insert("kind".to_owned(), Value::from(&*self.resource.scope.kind));
        }
        let object = Object { id, value: Arc::new(value), place: Place::Cluster };
        Some((Event::Apply(object), version))
    }

    /// Which object it is, and its version; `None` for what has no name.
    fn id(&mut self, value: &Value) -> Option<(ObjectId, String)> {
        let text = |field: &str| value["metadata"][field].as_str();
        let namespace = text("namespace").unwrap_or_default();
        let known = self.namespaces.get(namespace).cloned();
        let namespace = known.unwrap_or_else(|| {
            let new: Arc<str> = namespace.into();
            self.namespaces.insert(new.clone());
            new
        });
        let scope = &self.resource.scope;
        let (group, kind, name) = (scope.group.clone(), scope.kind.clone(), text("name")?.into());
        let version = text("resourceVersion").unwrap_or_default().to_owned();
        Some((ObjectId { group, kind, namespace, name }, version))
    }

    fn parameters(&self) -> WatchParams {
        WatchParams {
            field_selector: self.selector(),
            timeout: Some(WATCH_SECONDS),
            ..WatchParams::default()
        }
    }

    fn selector(&self) -> Option<String> {
        self.resource.selector.map(str::to_owned)
    }

    async fn watch(
        &self,
        parameters: &WatchParams,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Kept<F>>, kube::Error>> + use<F>, kube::Error> {
        let request = Request::new(&self.resource.path).watch(parameters, version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let events = self.client.request_events::<Kept<F>>(request);
        timeout(self.patience.silence, events)
            .await
            .map_err(|_| kube::Error::Service("no answer in time".into()))?
    }

    async fn page(&self, parameters: &ListParams) -> Result<List<F>, kube::Error> {
        let request = Request::new(&self.resource.path).list(parameters);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let list = timeout(self.patience.silence, self.client.request::<List<F>>(request)).await;
        list.map_err(|_| kube::Error::Service("no answer in time".into()))?
    }
}

/// What went wrong, down to its cause.
fn reason(error: &kube::Error) -> String {
    if let kube::Error::SerdeError(_) = error {
        // What is no event is what a server says of a path that it does not know.
        return "the API server does not serve it (yet), or what it sends is no object".to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let deeper = error.to_string();
        if !text.contains(&deeper) {
            text = format!("{text}: {deeper}");
        }
        cause = error.source();
    }
    text
}

/// Whether what a watch says of a version is said again, or too late: watches go forward.
fn is_known(version: &str, at: &str) -> bool {
    (1..=number(at)).contains(&number(version))
}

/// A version as a number: the API server promises that they can be compared as such.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests;
