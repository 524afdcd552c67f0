//! What happens to a request on its way, as events of its span. Of a request that is not traced nothing is kept.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::Event;

/// The events of one request; `None`: nobody wants to know.
#[derive(Debug, Default)]
pub struct Story(Option<Vec<Event>>);

impl Story {
    /// A story that is kept, or not.
    pub fn new(wanted: bool) -> Self {
        Self(wanted.then(Vec::new))
    }

    /// Whether it is kept.
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Its events.
    pub fn into_events(self) -> Vec<Event> {
        self.0.unwrap_or_default()
    }

    /// The request is sent again, for the `attempt`-th time; `because`: a reason, or a status.
    pub fn retry(&mut self, at: SystemTime, attempt: u32, from: SocketAddr, because: impl Into<String>) {
        self.tell("retry", at, || {
            let attempt = KeyValue::new("weft.attempt", i64::from(attempt));
            vec![attempt, KeyValue::new("weft.retry.reason", because.into()), peer(from)]
        });
    }

    /// An endpoint was set aside.
    pub fn ejection(&mut self, at: SystemTime, endpoint: SocketAddr) {
        self.tell("ejection", at, || vec![peer(endpoint)]);
    }

    /// A time was up: `timeout` of the whole request, `per_try_timeout` of one try.
    pub fn timeout(&mut self, at: SystemTime, endpoint: SocketAddr, reason: &'static str) {
        self.tell("timeout", at, || vec![KeyValue::new("weft.reason", reason), peer(endpoint)]);
    }

    /// A fault of its route holds it up.
    pub fn delay(&mut self, at: SystemTime, time: Duration) {
        self.tell("fault_delay", at, || vec![KeyValue::new("weft.fault.delay_seconds", time.as_secs_f64())]);
    }

    fn tell(&mut self, name: &'static str, at: SystemTime, what: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(events) = &mut self.0 {
            events.push(Event::new(name, at, what(), 0));
        }
    }
}

fn peer(address: SocketAddr) -> KeyValue {
    KeyValue::new("network.peer.address", address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_that_nobody_wants() {
        let at = SocketAddr::from(([10, 0, 0, 1], 80));
        let mut story = Story::new(false);
        story.ejection(SystemTime::UNIX_EPOCH, at);
        assert!(story.into_events().is_empty());
        let mut story = Story::new(true);
        story.retry(SystemTime::UNIX_EPOCH, 2, at, "503");
        assert_eq!(story.into_events()[0].name, "retry");
    }
}
