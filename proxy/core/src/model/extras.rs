//! What few rules ask for: kept apart, so that the requests of all others pay for one look at a pointer.

use std::fmt;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::chance::Chance;
use crate::matching::StringMatch;

/// What few rules ask for; at least one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// `fault`.
    pub fault: Option<Fault>,
    /// `corsPolicy`.
    pub cors: Option<Cors>,
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

/// `corsPolicy`: which cross-origin requests of browsers are allowed, and what they are told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cors {
    /// `allowOrigins`: any of these; none allows nobody.
    pub origins: Vec<StringMatch>,
    /// `allowMethods`, joined by commas; `*` alone stands for the method that is asked for.
    pub allow_methods: Option<HeaderValue>,
    /// `allowHeaders`, joined by commas; `*` alone stands for those that are asked for.
    pub allow_headers: Option<HeaderValue>,
    /// `exposeHeaders`, joined by commas.
    pub expose_headers: Option<HeaderValue>,
    /// `maxAge`, in seconds.
    pub max_age: Option<u64>,
    /// `allowCredentials`.
    pub credentials: bool,
    /// `unmatchedPreflights: IGNORE`: a preflight of an origin that is not allowed is answered, and not forwarded.
    pub ignore_unmatched: bool,
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

/// `origins exact https://shop or prefix http://, methods GET,PUT, for 60s, with credentials`.
impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<String> = self.origins.iter().map(ToString::to_string).collect();
        let origins = if origins.is_empty() { "none".to_owned() } else { origins.join(" or ") };
        write!(f, "origins {origins}")?;
        let lists = [
            ("methods", &self.allow_methods),
            ("headers", &self.allow_headers),
            ("exposes", &self.expose_headers),
        ];
        for (name, list) in lists {
            if let Some(list) = list {
                write!(f, ", {name} {}", String::from_utf8_lossy(list.as_bytes()))?;
            }
        }
        if let Some(seconds) = self.max_age {
            write!(f, ", for {seconds}s")?;
        }
        f.write_str(if self.credentials { ", with credentials" } else { "" })?;
        f.write_str(if self.ignore_unmatched { ", ignores others" } else { "" })
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

    #[test]
    fn a_cors_policy_reads_as_it_is_written() {
        let value = |text| Some(HeaderValue::from_static(text));
        let none = Cors::default();
        assert_eq!(none.to_string(), "origins none");
        let all = Cors {
            origins: vec![StringMatch::Exact("https://a".into()), StringMatch::Prefix("http://".into())],
            allow_methods: value("GET,PUT"),
            allow_headers: value("x-a"),
            expose_headers: value("x-b"),
            max_age: Some(60),
            credentials: true,
            ignore_unmatched: true,
        };
        assert_eq!(
            all.to_string(),
            "origins exact https://a or prefix http://, methods GET,PUT, headers x-a, exposes x-b, for 60s, \
             with credentials, ignores others"
        );
    }
}
