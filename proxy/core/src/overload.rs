//! What a sidecar does before its memory is used up, and how many requests it takes at once (hardening G3, G4).
//!
//! Each level does what those below it do. Levels are left later than they are reached: a sidecar that has just got a
//! little air does not take everything back at once.

use std::time::Duration;

/// How near a sidecar is to the end of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is enough, or there is no limit.
    #[default]
    Fine,
    /// Connections without a request end.
    Tight,
    /// New requests are answered with 503, new opaque connections are refused.
    Short,
    /// New connections are refused, and responses end that their clients do not take.
    Critical,
}

/// What a sidecar uses of the memory that it may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Without what the kernel would give back by itself.
    pub used: u64,
    /// Beyond it the kernel ends the process.
    pub limit: u64,
}

/// The levels above the first, and from how many hundredths of the limit on they hold.
const STEPS: [(Level, u128); 3] = [(Level::Tight, 92), (Level::Short, 95), (Level::Critical, 98)];
/// A level holds until so many hundredths less are used than it began with.
const EASE: u128 = 2;
/// How long memory may be left alone, by the hundredths of the limit that are in use: clients that read nothing can
/// fill megabytes in a tenth of a second.
const LOOKS: [(u128, Duration); 3] =
    [(85, Duration::from_millis(10)), (50, Duration::from_millis(100)), (0, Duration::from_secs(1))];
/// How long a sidecar without a limit goes without looking whether it has one now.
const UNLIMITED: Duration = Duration::from_secs(60);
/// What a request may cost while it is under way: its head, its place in both pools, and what waits of its body.
const REQUEST: u64 = 64 << 10;

impl Level {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Fine, Self::Tight, Self::Short, Self::Critical];

    /// The level that follows this one at the next look; `None` where there is no limit.
    #[must_use]
    pub fn after(self, memory: Option<Memory>) -> Self {
        let Some(memory) = memory else { return Self::Fine };
        let holds = |(level, from): &(Self, u128)| {
            let from = if *level <= self { from - EASE } else { *from };
            memory.is_at(from)
        };
        STEPS.iter().rev().find(|step| holds(step)).map_or(Self::Fine, |(level, _)| *level)
    }

    /// The name in logs and on the admin page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Tight => "tight",
            Self::Short => "short",
            Self::Critical => "critical",
        }
    }
}

impl Memory {
    fn is_at(self, hundredths: u128) -> bool {
        u128::from(self.used) * 100 >= u128::from(self.limit) * hundredths
    }

    /// When to look again. Limits may come and go while a process runs.
    pub fn next_look(memory: Option<Self>) -> Duration {
        let Some(memory) = memory else { return UNLIMITED };
        LOOKS.iter().find(|(from, _)| memory.is_at(*from)).map_or(UNLIMITED, |(_, pause)| *pause)
    }

    /// How many requests may be under way where nobody has said so: as many as there is memory for.
    pub fn most_requests(memory: Option<Self>) -> u32 {
        let most = memory.map_or(u64::MAX, |memory| (memory.limit / REQUEST).max(1));
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

/// Whether one more request may begin, of `most`, where this worker has `own` under way. The others' are asked for only
/// once a worker has more than its share: as a rule each looks at nothing but its own.
pub fn admits(most: u32, own: u32, workers: usize, all: impl FnOnce() -> u32) -> bool {
    let share = u64::from(most) / workers.max(1) as u64;
    u64::from(own) < share || all() < most
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn used(used: u64) -> Option<Memory> {
        Some(Memory { used, limit: 1000 })
    }

    #[test]
    fn g3_levels_are_reached_in_their_order_and_left_later() {
        use Level::{Critical, Fine, Short, Tight};
        let steps = [
            (900, Fine),
            (919, Fine),
            (920, Tight),
            (949, Tight),
            (950, Short),
            (931, Short),
            (930, Short),
            (929, Tight),
            (980, Critical),
            (960, Critical),
            (959, Short),
            (900, Tight),
            (899, Fine),
            (1000, Critical),
            (5000, Critical),
            (0, Fine),
        ];
        let mut level = Fine;
        for (bytes, expected) in steps {
            level = level.after(used(bytes));
            assert_eq!(level, expected, "{bytes} of 1000");
        }
    }

    #[test]
    fn g3_without_a_limit_everything_is_fine() {
        assert_eq!(Level::Critical.after(None), Level::Fine);
        assert_eq!(Memory::most_requests(None), u32::MAX);
        assert_eq!(Memory::next_look(None), Duration::from_secs(60));
    }

    #[test]
    fn g3_memory_is_looked_at_more_often_near_its_end() {
        assert_eq!(Memory::next_look(used(499)), Duration::from_secs(1));
        assert_eq!(Memory::next_look(used(500)), Duration::from_millis(100));
        assert_eq!(Memory::next_look(used(850)), Duration::from_millis(10));
    }

    #[test]
    fn g4_as_many_requests_as_there_is_memory_for() {
        let most = |limit| Memory::most_requests(Some(Memory { used: 0, limit }));
        assert_eq!([most(256 << 20), most(64 << 20), most(1)], [4096, 1024, 1]);
        assert_eq!(most(u64::MAX), u32::MAX);
    }

    #[test]
    fn g4_the_cap_is_that_of_all_workers_together() {
        let never = || -> u32 { panic!("nobody else is asked") };
        assert!(admits(10, 4, 2, never), "below its share");
        assert!(admits(10, 5, 2, || 9), "the others leave room");
        assert!(admits(10, 9, 2, || 9), "all the room may be one worker's");
        assert!(!admits(10, 5, 2, || 10));
        assert!(!admits(0, 0, 1, || 0), "nothing at all");
        assert!(admits(1, 0, 2, || 0), "fewer requests than workers");
    }

    proptest! {
        #[test]
        fn g3_a_level_never_falls_while_memory_does_not(first in 0u64..1100, more in 0u64..200, at in 0usize..4) {
            let level = Level::ALL[at].after(used(first));
            prop_assert!(level.after(used(first)) == level, "a second look at the same changes nothing");
            prop_assert!(level.after(used(first + more)) >= level);
        }
    }
}
