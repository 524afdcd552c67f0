//! What is written when: news at once, counts when they have settled, nothing twice. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::condition::Standing;
use crate::rate::Bucket;
use crate::source::object::ObjectId;

/// How long counts must have been still.
const SETTLED: Duration = Duration::from_secs(2);
/// How long after a write only counts are left alone.
const QUIET: Duration = Duration::from_secs(10);
/// After a write that failed: first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Writes at once, and a second after that.
const BURST: u32 = 100;
const PER_SECOND: u32 = 20;

/// The objects and how their status stands.
#[derive(Debug)]
pub struct Desk {
    objects: BTreeMap<ObjectId, Entry>,
    bucket: Bucket,
}

#[derive(Debug, Default)]
struct Entry {
    /// What is to be said, and since when.
    wanted: Option<(Standing, Instant)>,
    /// What the status says, as far as is known.
    there: Option<Standing>,
    /// When it was written last.
    written: Option<Instant>,
    /// Not before this, after failures.
    pause: Option<(Instant, Duration)>,
    writing: bool,
}

impl Desk {
    /// An empty desk.
    pub fn new(now: Instant) -> Self {
        Self { objects: BTreeMap::new(), bucket: Bucket::new(BURST, PER_SECOND, now) }
    }

    /// What is to be said of every object there is.
    pub fn want(&mut self, wanted: BTreeMap<ObjectId, Standing>, now: Instant) {
        self.objects.retain(|id, _| wanted.contains_key(id));
        for (id, standing) in wanted {
            let entry = self.objects.entry(id).or_default();
            if entry.wanted.as_ref().is_none_or(|(known, _)| *known != standing) {
                entry.wanted = Some((standing, now));
            }
        }
    }

    /// What the status of an object says, as it was just read.
    pub fn found(&mut self, id: &ObjectId, there: Option<Standing>) {
        if let Some(entry) = self.objects.get_mut(id) {
            entry.there = there;
        }
    }

    /// The next object to write, if one is due and the rate allows it.
    pub fn next(&mut self, now: Instant) -> Option<(ObjectId, Standing)> {
        let (id, entry) =
            self.objects.iter_mut().find(|(_, entry)| entry.due(now).is_some_and(|at| at <= now))?;
        if !self.bucket.take(now) {
            return None;
        }
        entry.writing = true;
        entry.wanted.as_ref().map(|(standing, _)| (id.clone(), standing.clone()))
    }

    /// A write is done; `None` where it failed.
    pub fn written(&mut self, id: &ObjectId, there: Option<Standing>, now: Instant) {
        let Some(entry) = self.objects.get_mut(id) else { return };
        entry.writing = false;
        entry.written = Some(now);
        entry.pause = match there {
            Some(_) => None,
            None => {
                let pause = entry.pause.map_or(FIRST_PAUSE, |(_, pause)| LONGEST_PAUSE.min(pause * 2));
                Some((now + pause, pause))
            }
        };
        if there.is_some() {
            entry.there = there;
        }
    }
}

impl Entry {
    /// When to write; `None` where there is nothing to say.
    fn due(&self, now: Instant) -> Option<Instant> {
        let (wanted, since) = self.wanted.as_ref()?;
        if self.writing || self.there.as_ref() == Some(wanted) {
            return None;
        }
        let counts_only = self.there.as_ref().is_some_and(|there| there.differs_in_counts_only(wanted));
        let quiet = self.written.map_or(now, |written| written + QUIET);
        let due = if counts_only { quiet.max(*since + SETTLED) } else { now };
        Some(self.pause.map_or(due, |(until, _)| due.max(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tally::Tally;

    fn id(name: &str) -> ObjectId {
        let [group, kind, namespace] = ["networking.weft.dev", "VirtualService", "default"].map(Into::into);
        ObjectId { group, kind, namespace, name: name.into() }
    }

    fn standing(generation: i64, programmed: u32, total: u32) -> Standing {
        Standing::of(generation, &[], &Tally { programmed, total, refusal: None })
    }

    fn wanted(standing: Standing) -> BTreeMap<ObjectId, Standing> {
        BTreeMap::from([(id("a"), standing)])
    }

    #[test]
    fn news_is_written_at_once_and_nothing_twice() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.want(wanted(standing(1, 0, 1)), now);
        assert_eq!(desk.next(now), Some((id("a"), standing(1, 0, 1))));
        assert_eq!(desk.next(now), None, "under way");
        desk.written(&id("a"), Some(standing(1, 0, 1)), now);
        desk.want(wanted(standing(1, 0, 1)), now);
        assert_eq!(desk.next(now), None, "it says so already");
        desk.want(wanted(standing(1, 1, 1)), now);
        assert!(desk.next(now).is_some(), "it is in force now");
    }

    #[test]
    fn counts_wait_until_they_are_still() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.want(wanted(standing(1, 2, 2)), now);
        desk.next(now);
        desk.written(&id("a"), Some(standing(1, 2, 2)), now);
        desk.want(wanted(standing(1, 3, 3)), now + QUIET);
        assert_eq!(desk.next(now + QUIET), None);
        assert!(desk.next(now + QUIET + SETTLED).is_some());
    }

    #[test]
    fn another_writer_is_mended_when_it_is_found_and_failures_are_not_hammered() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        desk.want(wanted(standing(1, 1, 1)), now);
        desk.found(&id("a"), Some(standing(1, 1, 1)));
        assert_eq!(desk.next(now), None, "who led before has written it");
        desk.found(&id("a"), None);
        let mut waits = Vec::new();
        let mut at = now;
        for _ in 0..10 {
            while desk.next(at).is_none() {
                at += FIRST_PAUSE;
            }
            waits.push((at - now).as_secs());
            desk.written(&id("a"), None, at);
        }
        assert_eq!(waits, [0, 1, 3, 7, 15, 31, 63, 127, 247, 367]);
    }

    #[test]
    fn the_rate_is_bounded_and_what_is_gone_is_forgotten() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let many = (0..500).map(|n| (id(&n.to_string()), standing(1, 0, 0))).collect();
        desk.want(many, now);
        let mut taken = |at| std::iter::from_fn(|| desk.next(at)).count();
        assert_eq!(taken(now), BURST as usize);
        assert_eq!(taken(now + Duration::from_secs(1)), PER_SECOND as usize);
        desk.want(BTreeMap::new(), now);
        assert!(desk.objects.is_empty());
    }
}
