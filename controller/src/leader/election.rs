//! Whose turn it is: pure. What the Lease says comes in, what to do about it goes out.

use std::time::Duration;

use tokio::time::Instant;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a term lasts after its last renewal.
    pub term: Duration,
    /// How often the leader renews it.
    pub renew: Duration,
    /// How often the others look, and how soon what failed is tried again.
    pub look: Duration,
    /// How long the API server may take to answer.
    pub answer: Duration,
}

/// A Lease, as far as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty for nobody.
    pub holder: String,
    /// What changes with every renewal.
    pub version: String,
    /// How long the holder's term lasts after a renewal.
    pub term: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Make the Lease: there is none.
    Create,
    /// Take it: it is nobody's, or its holder has let it lapse.
    Take,
    /// Renew it: it is this replica's.
    Renew,
    /// Look again after this time.
    Wait(Duration),
}

/// One replica's view of the election.
#[derive(Debug)]
pub struct Election {
    me: String,
    timing: Timing,
    /// The version that was seen last, and when it was seen first.
    observed: Option<(String, Instant)>,
    leads_until: Option<Instant>,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { term: ms(3000), renew: ms(1000), look: ms(250), answer: ms(1900) }
    }
}

impl Election {
    /// A candidate, whose name no other process has or ever had.
    pub fn new(me: String, timing: Timing) -> Self {
        Self { me, timing, observed: None, leads_until: None }
    }

    /// The candidate's name.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// The times that hold.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Until when this replica leads.
    pub fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// What to do about the Lease as it was just read.
    pub fn judge(&mut self, seen: Option<&Seen>, now: Instant) -> Act {
        let Some(seen) = seen else { return Act::Create };
        if seen.holder == self.me {
            return Act::Renew;
        }
        self.leads_until = None;
        if seen.holder.is_empty() {
            return Act::Take;
        }
        let since = self.first_seen(&seen.version, now);
        // A holder of another version may have longer terms.
        let lapses = since + seen.term.max(self.timing.term);
        match lapses.saturating_duration_since(now) {
            Duration::ZERO => Act::Take,
            left => Act::Wait(left.min(self.timing.look)),
        }
    }

    /// The Lease was written with this replica's name; `asked` is when the request for it was made.
    pub fn won(&mut self, asked: Instant) {
        self.leads_until = Some(asked + self.timing.term);
        self.observed = None;
    }

    /// Somebody else has written first, or the term is given up.
    pub fn lost(&mut self) {
        self.leads_until = None;
    }

    fn first_seen(&mut self, version: &str, now: Instant) -> Instant {
        match &self.observed {
            Some((known, since)) if known == version => *since,
            _ => {
                self.observed = Some((version.to_owned(), now));
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(3);
    const MS: Duration = Duration::from_millis(1);

    fn election(me: &str) -> Election {
        Election::new(me.to_owned(), Timing::default())
    }

    fn held(holder: &str, version: &str) -> Seen {
        Seen { holder: holder.into(), version: version.into(), term: TERM }
    }

    #[test]
    fn who_comes_first_leads_until_the_end_of_a_term() {
        let (mut a, start) = (election("a"), Instant::now());
        assert_eq!(a.judge(None, start), Act::Create);
        assert_eq!(a.leads_until(), None, "to want it is not to have it");
        a.won(start);
        assert_eq!(a.leads_until(), Some(start + TERM));
        assert_eq!(a.judge(Some(&held("a", "1")), start + MS), Act::Renew);
        assert_eq!(a.judge(Some(&held("b", "2")), start + MS * 2), Act::Wait(Timing::default().look));
        assert_eq!(a.leads_until(), None, "the Lease says otherwise");
    }

    #[test]
    fn a_holder_that_renews_is_left_alone_and_one_that_does_not_is_followed() {
        let (mut b, start) = (election("b"), Instant::now());
        for second in 0..10 {
            let seen = held("a", &second.to_string());
            let now = start + Duration::from_secs(second);
            assert!(matches!(b.judge(Some(&seen), now), Act::Wait(_)), "{second}");
        }
        let last = start + Duration::from_secs(9);
        let seen = held("a", "9");
        assert_eq!(b.judge(Some(&seen), last + TERM - MS), Act::Wait(MS), "looks again just then");
        assert_eq!(b.judge(Some(&seen), last + TERM), Act::Take);
        assert_eq!(b.judge(Some(&held("", "10")), last + TERM), Act::Take, "given back");
    }

    #[test]
    fn f11_the_leader_stops_before_another_may_start() {
        let (mut a, mut b, start) = (election("a"), election("b"), Instant::now());
        // The answer of the API server takes a while; b sees the renewal at the earliest moment there is.
        a.won(start);
        let written = start + MS * 400;
        assert!(matches!(b.judge(Some(&held("a", "1")), written), Act::Wait(_)));
        let stops = a.leads_until().unwrap();
        assert!(matches!(b.judge(Some(&held("a", "1")), stops), Act::Wait(_)));
        assert_eq!(b.judge(Some(&held("a", "1")), written + TERM), Act::Take);
    }

    #[test]
    fn a_replica_of_another_version_keeps_its_longer_term() {
        let (mut b, start) = (election("b"), Instant::now());
        let seen = Seen { term: TERM * 5, ..held("a", "1") };
        b.judge(Some(&seen), start);
        assert!(matches!(b.judge(Some(&seen), start + TERM * 5 - MS), Act::Wait(_)));
        let short = Seen { term: Duration::ZERO, ..held("a", "2") };
        b.judge(Some(&short), start);
        assert!(matches!(b.judge(Some(&short), start + TERM - MS), Act::Wait(_)), "nonsense is not believed");
    }
}
