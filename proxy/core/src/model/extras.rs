//! What few rules ask for: kept apart, so that the requests of all others pay for one look at a pointer.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::chance::Chance;

/// What few rules ask for; at least one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// `fault`.
    pub fault: Option<Fault>,
}

/// `fault`: harm that is done on purpose, by the client's sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// `delay`.
    pub delay: Option<Delay>,
    /// `abort`.
    pub abort: Option<Abort>,
}

/// `fault.delay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The requests that are held up.
    pub share: Share,
    /// `fixedDelay`: for how long.
    pub time: Duration,
}

/// `fault.abort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The requests that are answered so.
    pub share: Share,
    /// What they are answered.
    pub with: AbortWith,
}

/// What an aborted request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortWith {
    /// `httpStatus`, 200 to 599; gRPC clients get the gRPC status that stands for it.
    Http(StatusCode),
    /// `grpcStatus`, by its number; other clients get the HTTP status that stands for it.
    Grpc(u8),
}

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// The names of gRPC's statuses, each at its number.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Extras {
    /// In a box, unless nothing is asked for.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

impl Share {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// So many millionths; `None` where that is more than all.
    pub fn of_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::ALL.0).then_some(Self(millionths))
    }

    /// In millionths, from 0 to 1,000,000.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// Whether the next number of chance is one of this share.
    pub fn takes(self, chance: &mut Chance) -> bool {
        chance.below(u64::from(Self::ALL.0)) < u64::from(self.0)
    }
}

/// `12.5%`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// `500`, or `UNAVAILABLE`.
impl fmt::Display for AbortWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "{}", status.as_u16()),
            Self::Grpc(status) => match GRPC_STATUSES.get(usize::from(*status)) {
                Some(name) => f.write_str(name),
                None => write!(f, "grpc-status {status}"),
            },
        }
    }
}

/// `delay 7s for 100%, abort 500 for 10%`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Delay { share, time }) = &self.delay {
            write!(f, "delay {time:?} for {share}")?;
        }
        let comma = if self.delay.is_some() && self.abort.is_some() { ", " } else { "" };
        match &self.abort {
            Some(Abort { share, with }) => write!(f, "{comma}abort {with} for {share}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_taken_as_often_as_they_say() {
        let takes = |share: Share| {
            let mut chance = Chance::new(3);
            (0..100_000).filter(|_| share.takes(&mut chance)).count()
        };
        let share = |millionths| Share::of_millionths(millionths).unwrap();
        assert_eq!((takes(share(0)), takes(Share::ALL)), (0, 100_000));
        assert!((9_500..10_500).contains(&takes(share(100_000))));
        assert_eq!(Share::of_millionths(1_000_001), None);
    }

    #[test]
    fn a_fault_reads_as_it_is_written() {
        let share = |millionths| Share::of_millionths(millionths).unwrap();
        let delay = Some(Delay { share: share(125_000), time: Duration::from_millis(1500) });
        let abort = Some(Abort { share: Share::ALL, with: AbortWith::Grpc(14) });
        let both = Fault { delay: delay.clone(), abort: abort.clone() };
        assert_eq!(both.to_string(), "delay 1.5s for 12.5%, abort UNAVAILABLE for 100%");
        assert_eq!(Fault { abort: None, delay }.to_string(), "delay 1.5s for 12.5%");
        assert_eq!(Fault { abort, delay: None }.to_string(), "abort UNAVAILABLE for 100%");
        assert_eq!(Extras::default().boxed(), None);
    }
}
