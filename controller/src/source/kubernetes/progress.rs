//! How far the source has come with each kind, for readiness and for the moment when the whole is known at first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::source::object::Scope;

/// A kind that the API server keeps forbidding for so long is not waited for at the start, unless it says who may do
/// what: shortly after its own start an API server forbids what it allows later.
const FORBIDDEN_PATIENCE: Duration = Duration::from_secs(30);
/// What the world cannot be told without.
const NEEDED: [&str; 7] = [
    "Namespace",
    "Service",
    "EndpointSlice",
    "Pod",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "CustomResourceDefinition",
];

/// Shared by all watches of a source.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    kinds: Arc<Mutex<BTreeMap<Scope, State>>>,
    changed: Arc<Notify>,
}

/// How it stands with one kind.
#[derive(Clone, Debug, Default)]
struct State {
    /// Whether all its objects have been named once.
    listed: bool,
    /// What goes wrong now, and since when.
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
struct Trouble {
    since: Instant,
    forbidden: bool,
    reason: String,
}

impl Progress {
    /// A kind is going to be watched.
    pub fn begin(&self, scope: &Scope) {
        self.lock().entry(scope.clone()).or_default();
    }

    /// A kind is watched no more.
    pub fn end(&self, scope: &Scope) {
        self.lock().remove(scope);
        self.changed.notify_one();
    }

    /// All objects of a kind have been named, and its changes are followed.
    pub fn listed(&self, scope: &Scope) {
        self.lock().insert(scope.clone(), State { listed: true, trouble: None });
        self.changed.notify_one();
    }

    /// A kind is followed again.
    pub fn well(&self, scope: &Scope) {
        if let Some(state) = self.lock().get_mut(scope) {
            state.trouble = None;
        }
    }

    /// Something goes wrong with a kind; whether that is news.
    pub fn failed(&self, scope: &Scope, forbidden: bool, reason: &str) -> bool {
        let mut kinds = self.lock();
        let state = kinds.entry(scope.clone()).or_default();
        let known = state.trouble.as_ref().filter(|known| known.forbidden == forbidden);
        let since = known.map_or_else(Instant::now, |known| known.since);
        let news = known.is_none_or(|known| known.reason != reason);
        state.trouble = Some(Trouble { since, forbidden, reason: reason.to_owned() });
        drop(kinds);
        self.changed.notify_one();
        news
    }

    /// Waits until every kind has been listed, or is not waited for.
    pub async fn complete(&self) {
        loop {
            let now = Instant::now();
            if self.lock().iter().all(|(scope, state)| state.is_settled(scope, now)) {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), self.changed.notified()).await;
        }
    }

    /// What is waited for, and what goes wrong: a line for each kind.
    pub fn lines(&self) -> Vec<String> {
        let line = |(scope, state): (&Scope, &State)| match (&state.trouble, state.listed) {
            (Some(trouble), true) => Some(format!("{scope}: stands still: {}", trouble.reason)),
            (Some(trouble), false) => Some(format!("{scope}: not known yet: {}", trouble.reason)),
            (None, false) => Some(format!("{scope}: being listed")),
            (None, true) => None,
        };
        self.lock().iter().filter_map(line).collect()
    }

    /// A panic while it was held leaves a state that is as good as any.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, State>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_settled(&self, scope: &Scope, now: Instant) -> bool {
        let given_up = |trouble: &Trouble| trouble.forbidden && now >= trouble.since + FORBIDDEN_PATIENCE;
        self.listed || !NEEDED.contains(&&*scope.kind) && self.trouble.as_ref().is_some_and(given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(kind: &str) -> Scope {
        Scope { group: "g".into(), kind: kind.into(), namespace: None }
    }

    #[test]
    fn f13_a_kind_in_trouble_is_named_and_then_well_again() {
        let progress = Progress::default();
        progress.begin(&scope("Pod"));
        assert_eq!(progress.lines(), ["Pod.g: being listed"]);
        assert!(progress.failed(&scope("Pod"), true, "forbidden"));
        assert!(!progress.failed(&scope("Pod"), true, "forbidden"), "said once");
        assert_eq!(progress.lines(), ["Pod.g: not known yet: forbidden"]);
        progress.listed(&scope("Pod"));
        assert!(progress.lines().is_empty());
        progress.failed(&scope("Pod"), false, "gone");
        assert_eq!(progress.lines(), ["Pod.g: stands still: gone"]);
        progress.well(&scope("Pod"));
        assert!(progress.lines().is_empty());
    }

    #[test]
    fn f10_what_denies_is_always_waited_for() {
        let later = Instant::now() + FORBIDDEN_PATIENCE + Duration::from_secs(1);
        let trouble = |forbidden| Some(Trouble { since: Instant::now(), forbidden, reason: String::new() });
        let settled = |kind, forbidden, now| {
            State { listed: false, trouble: trouble(forbidden) }.is_settled(&scope(kind), now)
        };
        assert!(settled("Sidecar", true, later));
        assert!(!settled("Sidecar", true, Instant::now()), "it may be allowed in a moment");
        assert!(!settled("Sidecar", false, later), "an API server that is away says nothing of rights");
        assert!(!settled("AuthorizationPolicy", true, later));
        assert!(!settled("Pod", true, later));
        assert!(State { listed: true, trouble: trouble(true) }.is_settled(&scope("Pod"), later));
    }
}
