//! Requests as they end, for people who watch: bounded in number of watchers, in memory and in time.
//!
//! While nobody watches a request costs one relaxed load. While somebody does, a worker judges method and path when the
//! request begins, the rest when it has ended, and hands what is wanted to a bounded queue, or counts it as dropped.
//! Formatting is done off the workers, a few times a second, so that many requests cost one wake-up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// One request that has ended.
pub mod event;
/// Which requests are wanted.
pub mod filter;

use event::Event;
pub use filter::{Filter, FilterError};

use super::entry::AccessEntry;
use super::labels::ScopeLabels;

/// The most taps at a time.
pub const MAX_TAPS: usize = 8;
/// Events of one tap that may wait to be written.
const QUEUE: usize = 256;
/// How often events are written: so many queues a second are the most that a tap shows.
const TICK: Duration = Duration::from_millis(50);
/// Ticks without an event after which an empty line shows that the tap is alive.
const SILENCE: u32 = 100;
/// A tap that was not read for so long gives its place up when another is opened.
const UNREAD: Duration = Duration::from_secs(30);

/// All taps of a sidecar; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Taps(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: AtomicUsize,
    list: ArcSwap<Vec<Arc<Tap>>>,
}

/// Where workers leave what one tap wants.
#[derive(Debug)]
struct Tap {
    filter: Filter,
    events: mpsc::Sender<Event>,
    dropped: AtomicU64,
    opened: Instant,
    /// When it was last read, in milliseconds since it was opened.
    read: AtomicU64,
}

/// A tap as it is read: lines of JSON, each a request or `{"dropped":N}`, or empty. Closed when dropped.
#[derive(Debug)]
pub struct Tapping {
    taps: Taps,
    tap: Arc<Tap>,
    events: mpsc::Receiver<Event>,
    ticks: Interval,
    silent: u32,
}

// === impl Taps ===

impl Taps {
    /// Whether somebody watches requests of this method and path.
    pub fn want(&self, method: &str, path: &str) -> bool {
        self.0.open.load(Relaxed) > 0 && self.look(method, path)
    }

    #[cold]
    fn look(&self, method: &str, path: &str) -> bool {
        self.0.list.load().iter().any(|tap| tap.filter.begins(method, path))
    }

    /// Shows a request that has ended to everybody who wants it.
    #[cold]
    pub fn show(&self, entry: &AccessEntry, labels: Option<&Arc<ScopeLabels>>) {
        let labels_of = labels.map(Arc::as_ref);
        for tap in self.0.list.load().iter().filter(|tap| tap.filter.matches(entry, labels_of)) {
            match tap.events.try_reserve() {
                Ok(place) => place.send(Event { entry: entry.clone(), labels: labels.cloned() }),
                Err(_) => drop(tap.dropped.fetch_add(1, Relaxed)),
            }
        }
    }

    /// Opens a tap; `None` while there are as many as there may be. Must be called on a runtime with time.
    pub fn open(&self, filter: Filter) -> Option<Tapping> {
        let (sender, events) = mpsc::channel(QUEUE);
        let (dropped, read) = (AtomicU64::new(0), AtomicU64::new(0));
        let tap = Arc::new(Tap { filter, events: sender, dropped, opened: Instant::now(), read });
        self.0.list.rcu(|list| {
            let mut list: Vec<_> = list.iter().filter(|tap| tap.is_read()).cloned().collect();
            if list.len() < MAX_TAPS {
                list.push(Arc::clone(&tap));
            }
            list
        });
        self.count();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tapping = Tapping { taps: self.clone(), tap, events, ticks, silent: 0 };
        tapping.is_open().then_some(tapping)
    }

    fn close(&self, closed: &Arc<Tap>) {
        self.0
            .list
            .rcu(|list| list.iter().filter(|tap| !Arc::ptr_eq(tap, closed)).cloned().collect::<Vec<_>>());
        self.count();
    }

    fn count(&self) {
        self.0.open.store(self.0.list.load().len(), Relaxed);
    }
}

// === impl Tap ===

impl Tap {
    fn is_read(&self) -> bool {
        let read = Duration::from_millis(self.read.load(Relaxed));
        self.opened.elapsed().saturating_sub(read) < UNREAD
    }

    fn note_read(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.read.store(now, Relaxed);
    }
}

// === impl Tapping ===

impl Tapping {
    fn is_open(&self) -> bool {
        self.taps.0.list.load().iter().any(|tap| Arc::ptr_eq(tap, &self.tap))
    }

    /// What waits, and how much could not.
    fn lines(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..QUEUE {
            let Ok(event) = self.events.try_recv() else { break };
            event.write(&mut text);
        }
        let dropped = self.tap.dropped.swap(0, Relaxed);
        if dropped > 0 {
            text.extend_from_slice(format!("{{\"dropped\":{dropped}}}\n").as_bytes());
        }
        text
    }
}

impl Body for Tapping {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            ready!(this.ticks.poll_tick(cx));
            if !this.is_open() {
                return Poll::Ready(None);
            }
            this.tap.note_read();
            let mut text = this.lines();
            this.silent = if text.is_empty() { this.silent + 1 } else { 0 };
            if this.silent >= SILENCE {
                this.silent = 0;
                text.push(b'\n');
            }
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
    }
}

impl Drop for Tapping {
    fn drop(&mut self) {
        self.taps.close(&self.tap);
    }
}

#[cfg(test)]
mod tests {
    use super::event::tests::ended;
    use super::*;
    use http_body_util::BodyExt;

    async fn next(tapping: &mut Tapping) -> String {
        let frame = tapping.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    }

    fn open(taps: &Taps, query: &str) -> Option<Tapping> {
        taps.open(Filter::parse(query).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wanted_is_shown_and_nothing_else() {
        let taps = Taps::default();
        assert!(!taps.want("GET", "/api"), "nobody watches");
        let mut tapping = open(&taps, "path=/api&status=5xx").unwrap();
        assert!(taps.want("GET", "/api/x") && !taps.want("GET", "/other"));
        taps.show(&ended("/api/x", 200), None);
        taps.show(&ended("/api/x", 503), None);
        let line: serde_json::Value = serde_json::from_str(next(&mut tapping).await.trim_end()).unwrap();
        assert_eq!((&line["status"], &line["path"]), (&503.into(), &"/api/x".into()));
        assert_eq!(next(&mut tapping).await, "\n", "a silent tap shows that it is alive");
        drop(tapping);
        assert!(!taps.want("GET", "/api/x"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_in_time_is_counted() {
        let taps = Taps::default();
        let mut tapping = open(&taps, "").unwrap();
        (0..QUEUE + 44).for_each(|_| taps.show(&ended("/", 200), None));
        let text = next(&mut tapping).await;
        assert_eq!(text.lines().count(), QUEUE + 1);
        assert!(text.ends_with("{\"dropped\":44}\n"));
        taps.show(&ended("/", 200), None);
        assert!(!next(&mut tapping).await.contains("dropped"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_taps_get_eight_places_and_one_that_is_not_read_loses_its_own() {
        let taps = Taps::default();
        let mut all: Vec<_> = (0..100).filter_map(|_| open(&taps, "")).collect();
        assert_eq!(all.len(), MAX_TAPS);
        tokio::time::advance(UNREAD / 2).await;
        for tapping in &mut all[1..] {
            tapping.tap.note_read();
        }
        tokio::time::advance(UNREAD / 2).await;
        let newer = open(&taps, "").expect("the place of the one that nobody reads");
        assert!(open(&taps, "").is_none());
        assert!(all[0].frame().await.is_none(), "it has ended");
        drop((all, newer));
        assert_eq!(taps.0.open.load(Relaxed), 0);
    }
}
