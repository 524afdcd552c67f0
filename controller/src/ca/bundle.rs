//! Who may be believed, told to every namespace: the ConfigMap `weft-root`, which pods mount.
//!
//! Only the leader writes, and only what differs: a ConfigMap that somebody edits or deletes is mended at once, and more
//! and more slowly if it happens again and again.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, PartialObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until};

use crate::metrics::Metrics;

/// The ConfigMap.
pub const CONFIG_MAP: &str = "weft-root";
/// Its key: the roots, PEM.
pub const KEY: &str = "root-cert.pem";
/// Writes under way at a time.
const AT_A_TIME: usize = 16;
/// Between two writes into one namespace: first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What keeps the ConfigMaps right.
#[derive(Clone)]
pub struct Bundles {
    /// The API server.
    pub client: Client,
    /// What is written.
    pub root_pem: Arc<str>,
    /// What is counted.
    pub metrics: Metrics,
}

/// What is known of each namespace's ConfigMap: pure.
#[derive(Debug, Default)]
struct Desk {
    /// Whether what is there has been listed.
    listed: bool,
    namespaces: BTreeMap<Arc<str>, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether the namespace is there.
    exists: bool,
    /// The version of its ConfigMap; `None` where it has none.
    version: Option<String>,
    /// Whether the ConfigMap says what it should.
    right: bool,
    writing: bool,
    /// When it was written last, and how long to leave it alone since then.
    written: Option<(Instant, Duration)>,
}

impl Bundles {
    /// Keeps them right for ever.
    pub async fn keep(self) {
        let maps: Api<ConfigMap> = Api::all(self.client.clone());
        let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let mut events = pin!(watcher(maps, config).default_backoff());
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let namespaces = watcher(namespaces, watcher::Config::default());
        let mut namespaces = pin!(namespaces.default_backoff());
        let (mut desk, mut writing) = (Desk::default(), FuturesUnordered::new());
        loop {
            let now = Instant::now();
            for (namespace, version) in desk.due(now, AT_A_TIME.saturating_sub(writing.len())) {
                writing.push(self.write(namespace, version));
            }
            let wake = desk.next(now);
            tokio::select! {
                Some(event) = events.next() => self.heard(&mut desk, event),
                Some((namespace, done)) = writing.next() => desk.written(&namespace, done, Instant::now()),
                Some(event) = namespaces.next() => desk.heard_of_namespace(event),
                () = until(wake) => {}
                else => return,
            }
        }
    }

    fn heard(&self, desk: &mut Desk, event: Result<Event<ConfigMap>, watcher::Error>) {
        match event {
            Ok(Event::Init) => desk.begin(),
            Ok(Event::InitApply(map) | Event::Apply(map)) => {
                let right = is_right(&map, &self.root_pem);
                let namespace = map.metadata.namespace.unwrap_or_default();
                desk.seen(namespace.into(), map.metadata.resource_version, right);
            }
            Ok(Event::Delete(map)) => {
                desk.seen(map.metadata.namespace.unwrap_or_default().into(), None, false)
            }
            Ok(Event::InitDone) => desk.listed = true,
            Err(error) => tracing::warn!("ConfigMaps {CONFIG_MAP}: {error}"),
        }
    }

    /// Creates or replaces one; what was written meanwhile by others is not overwritten but looked at again.
    fn write(
        &self,
        namespace: Arc<str>,
        version: Option<String>,
    ) -> impl Future<Output = (Arc<str>, bool)> + use<> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let (root, metrics) = (self.root_pem.clone(), self.metrics.clone());
        async move {
            let map = config_map(&root, version);
            let parameters = PostParams { field_manager: Some("weft".into()), ..PostParams::default() };
            let written = match map.metadata.resource_version {
                Some(_) => maps.replace(CONFIG_MAP, &parameters, &map).await,
                None => maps.create(&parameters, &map).await,
            };
            if let Err(error) = &written {
                tracing::debug!("ConfigMap {namespace}/{CONFIG_MAP}: {error}");
            }
            metrics
                .bundle_writes
                .with_label_values(&[if written.is_ok() { "written" } else { "failed" }])
                .inc();
            (namespace, written.is_ok())
        }
    }
}

fn config_map(root_pem: &str, version: Option<String>) -> ConfigMap {
    let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "weft-controller".to_owned())]);
    let metadata = ObjectMeta {
        name: Some(CONFIG_MAP.to_owned()),
        labels: Some(labels),
        resource_version: version,
        ..ObjectMeta::default()
    };
    let data = BTreeMap::from([(KEY.to_owned(), root_pem.to_owned())]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

fn is_right(map: &ConfigMap, root_pem: &str) -> bool {
    map.data.as_ref().and_then(|data| data.get(KEY)).is_some_and(|there| there == root_pem)
}

impl Desk {
    fn heard_of_namespace(&mut self, event: Result<Event<PartialObjectMeta<Namespace>>, watcher::Error>) {
        match event {
            Ok(Event::Init) => self.namespaces.values_mut().for_each(|it| it.exists = false),
            Ok(Event::InitApply(it) | Event::Apply(it)) => {
                // Nothing can be made in one that is being deleted.
                let exists = it.metadata.deletion_timestamp.is_none();
                self.namespace(it.metadata.name.unwrap_or_default().into(), exists);
            }
            Ok(Event::Delete(it)) => self.namespace(it.metadata.name.unwrap_or_default().into(), false),
            Ok(Event::InitDone) => {}
            Err(error) => tracing::warn!("namespaces: {error}"),
        }
    }

    /// A namespace is there, or is not.
    fn namespace(&mut self, name: Arc<str>, exists: bool) {
        match exists {
            true => self.namespaces.entry(name).or_default().exists = true,
            false => drop(self.namespaces.remove(&name)),
        }
    }

    /// A list of ConfigMaps begins.
    fn begin(&mut self) {
        self.listed = false;
        for namespace in self.namespaces.values_mut() {
            (namespace.version, namespace.right) = (None, false);
        }
    }

    /// A namespace's ConfigMap is like this, or is gone.
    fn seen(&mut self, namespace: Arc<str>, version: Option<String>, right: bool) {
        let known = self.namespaces.entry(namespace).or_default();
        (known.version, known.right) = (version, right);
    }

    /// What to write now: the namespace, and the version of the ConfigMap that is replaced.
    fn due(&mut self, now: Instant, most: usize) -> Vec<(Arc<str>, Option<String>)> {
        let listed = self.listed;
        let due =
            self.namespaces.iter_mut().filter(|(_, it)| listed && it.due_at(now).is_some_and(|at| at <= now));
        let take = |(name, it): (&Arc<str>, &mut Known)| {
            it.writing = true;
            (name.clone(), it.version.clone())
        };
        due.take(most).map(take).collect()
    }

    /// When something is due that is not yet.
    fn next(&self, now: Instant) -> Option<Instant> {
        let later = self.namespaces.values().filter_map(|it| it.due_at(now)).filter(|at| *at > now);
        later.min().filter(|_| self.listed)
    }

    /// A write is done. What it made of the ConfigMap is heard from the API server.
    fn written(&mut self, namespace: &str, done: bool, now: Instant) {
        let Some(it) = self.namespaces.get_mut(namespace) else { return };
        let pause = match it.written {
            Some((last, pause)) if now < last + pause + LONGEST_PAUSE => LONGEST_PAUSE.min(pause * 2),
            _ => FIRST_PAUSE,
        };
        (it.writing, it.written) = (false, Some((now, pause)));
        it.right |= done;
    }
}

impl Known {
    /// When to write; `None` where there is nothing to do.
    fn due_at(&self, now: Instant) -> Option<Instant> {
        let wrong = self.exists && !self.right && !self.writing;
        wrong.then(|| self.written.map_or(now, |(last, pause)| now.max(last + pause)))
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(names: &[&str]) -> Desk {
        let mut desk = Desk { listed: true, ..Desk::default() };
        names.iter().for_each(|name| desk.namespace((*name).into(), true));
        desk
    }

    fn names(due: &[(Arc<str>, Option<String>)]) -> Vec<&str> {
        due.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn what_is_missing_or_wrong_is_written_once_it_is_known_what_is_there() {
        let (mut desk, now) = (desk(&["a", "b", "c"]), Instant::now());
        desk.begin();
        desk.seen("a".into(), Some("1".into()), true);
        desk.seen("b".into(), Some("2".into()), false);
        desk.seen("gone".into(), Some("3".into()), false);
        assert!(desk.due(now, 9).is_empty(), "not listed yet");
        desk.listed = true;
        let due = desk.due(now, 9);
        assert_eq!(names(&due), ["b", "c"]);
        assert_eq!((due[0].1.as_deref(), due[1].1.as_deref()), (Some("2"), None));
        assert!(desk.due(now, 9).is_empty(), "under way");
        desk.written("b", true, now);
        desk.written("c", true, now);
        assert!(desk.due(now, 9).is_empty() && desk.next(now).is_none());
        desk.namespace("b".into(), false);
        desk.namespace("new".into(), true);
        assert_eq!(names(&desk.due(now, 9)), ["new"]);
    }

    #[test]
    fn who_edits_it_again_and_again_is_answered_more_and_more_slowly() {
        let (mut desk, mut now) = (desk(&["a"]), Instant::now());
        let mut waits = Vec::new();
        for edit in 0..9 {
            desk.seen("a".into(), Some(edit.to_string()), false);
            let at = desk.next(now).unwrap_or(now);
            waits.push((at - now).as_secs());
            now = at;
            assert_eq!(desk.due(now, 9).len(), 1, "{edit}");
            desk.written("a", true, now);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        desk.seen("a".into(), None, false);
        let quiet = now + LONGEST_PAUSE * 2;
        assert_eq!(names(&desk.due(quiet, 9)), ["a"]);
        desk.written("a", true, quiet);
        assert_eq!(desk.namespaces["a"].written.unwrap().1, FIRST_PAUSE, "after a quiet time it begins anew");
    }

    #[test]
    fn a_write_that_fails_is_tried_again_and_only_so_many_at_a_time() {
        let (mut desk, now) = (desk(&["a", "b", "c"]), Instant::now());
        assert_eq!(desk.due(now, 2).len(), 2);
        desk.written("a", false, now);
        assert_eq!(desk.next(now), Some(now + FIRST_PAUSE));
        assert_eq!(names(&desk.due(now + FIRST_PAUSE, 9)), ["a", "c"]);
    }

    #[test]
    fn only_the_roots_under_their_key_are_right() {
        let map = config_map("pem", Some("7".into()));
        assert!(is_right(&map, "pem") && !is_right(&map, "other"));
        assert!(!is_right(&ConfigMap::default(), "pem"));
        assert_eq!(
            map.metadata.resource_version.as_deref(),
            Some("7"),
            "so that nothing newer is overwritten"
        );
    }
}
