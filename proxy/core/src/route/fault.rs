//! Which requests are harmed on purpose. Delay and abort are drawn for apart: a request may suffer both.

use std::time::Duration;

use crate::chance::Chance;
use crate::model::extras::{AbortWith, Fault};

/// What is done to one request: first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// For how long it is held up.
    pub delay: Option<Duration>,
    /// What it is answered; `None`: it goes on.
    pub abort: Option<AbortWith>,
}

/// What a fault does to a request.
pub fn inject(fault: &Fault, random: u64) -> Injected {
    let mut chance = Chance::new(random);
    let delay = fault.delay.as_ref().filter(|delay| delay.share.takes(&mut chance));
    let abort = fault.abort.as_ref().filter(|abort| abort.share.takes(&mut chance));
    Injected { delay: delay.map(|delay| delay.time), abort: abort.map(|abort| abort.with) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::extras::{Abort, Delay, Share};

    fn fault(delay: u32, abort: u32) -> Fault {
        let share = |millionths| Share::of_millionths(millionths).unwrap();
        Fault {
            delay: Some(Delay { share: share(delay), time: Duration::from_secs(2) }),
            abort: Some(Abort { share: share(abort), with: AbortWith::Grpc(14) }),
        }
    }

    #[test]
    fn f2_delay_and_abort_are_drawn_for_apart() {
        let all = inject(&fault(1_000_000, 1_000_000), 7);
        assert_eq!(all, Injected { delay: Some(Duration::from_secs(2)), abort: Some(AbortWith::Grpc(14)) });
        assert_eq!(inject(&fault(0, 0), 7), Injected::default());
        assert_eq!(inject(&Fault::default(), 7), Injected::default());
        let halves = fault(500_000, 500_000);
        let mut chance = Chance::new(1);
        let mut seen = [0; 4];
        for _ in 0..40_000 {
            let injected = inject(&halves, chance.draw());
            seen[usize::from(injected.delay.is_some()) * 2 + usize::from(injected.abort.is_some())] += 1;
        }
        assert!(seen.iter().all(|n| (9_000..11_000).contains(n)), "{seen:?}");
    }
}
