//! What the echo application was told to do until it is told otherwise. Pure: time and chance are arguments.
//!
//! `PUT /control?fail=503&percent=50&for=30s` sets a rule, `DELETE /control` forgets it, `GET /control` tells it.
//! `count=3` limits a rule to that many requests, `health=503` is what `/healthz` answers, and `refuse=1&for=5s` stops
//! listening. All other names are those of `Behaviour`.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Serialize;

use crate::echo::behaviour::{Behaviour, on, pairs, status};
use crate::units;

/// The present rule, and what was counted.
#[derive(Debug, Default)]
pub struct Control {
    rule: Option<Rule>,
    requests: u64,
    affected: u64,
}

/// A rule, as one request to the control path writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    behaviour: Behaviour,
    percent: f64,
    until: Option<Instant>,
    left: Option<u64>,
    health: Option<StatusCode>,
    refuse: bool,
}

/// What `GET /control` tells.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Requests so far, those to the control path and to health left out.
    pub requests: u64,
    /// Those that the rule changed.
    pub affected: u64,
    /// Whether a rule holds now.
    pub active: bool,
    /// Milliseconds until it ends by itself.
    pub ends_in_ms: Option<u64>,
}

impl Control {
    /// Replaces the rule by what the query says.
    ///
    /// # Errors
    /// The name that is unknown, or whose value cannot be read; the old rule then stays.
    pub fn put(&mut self, query: &str, now: Instant) -> Result<(), String> {
        self.rule = Some(Rule::read(query, now)?);
        Ok(())
    }

    /// Forgets the rule.
    pub fn clear(&mut self) {
        self.rule = None;
    }

    /// Counts a request, and gives what the rule wants of it. `chance` is from 0 up to 1.
    pub fn request(&mut self, now: Instant, chance: f64) -> Option<Behaviour> {
        self.requests += 1;
        let rule = self.rule.as_mut().filter(|r| r.holds(now) && chance * 100.0 < r.percent)?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        self.affected += 1;
        Some(rule.behaviour.clone())
    }

    /// What health checks are answered.
    pub fn health(&self, now: Instant) -> StatusCode {
        self.active(now).and_then(|r| r.health).unwrap_or(StatusCode::OK)
    }

    /// For how long new connections are to be refused from now on.
    pub fn refuse(&self, now: Instant) -> Option<Duration> {
        let rule = self.active(now).filter(|r| r.refuse)?;
        rule.until.map(|until| until - now)
    }

    /// How things stand.
    pub fn report(&self, now: Instant) -> Report {
        let active = self.active(now);
        let ends = active.and_then(|r| r.until).map(|until| (until - now).as_millis());
        Report {
            requests: self.requests,
            affected: self.affected,
            active: active.is_some(),
            ends_in_ms: ends.and_then(|ms| u64::try_from(ms).ok()),
        }
    }

    fn active(&self, now: Instant) -> Option<&Rule> {
        self.rule.as_ref().filter(|r| r.holds(now))
    }
}

impl Rule {
    fn read(query: &str, now: Instant) -> Result<Self, String> {
        let mut rule = Self {
            behaviour: Behaviour::default(),
            percent: 100.0,
            until: None,
            left: None,
            health: None,
            refuse: false,
        };
        for (key, value) in pairs(query) {
            let known = rule.set(key, &value, now).map_err(|e| format!("{key}={value}: {e}"))?;
            if !known && !rule.behaviour.set(key, &value)? {
                return Err(format!("{key}: is not known to the control path"));
            }
        }
        if rule.refuse && rule.until.is_none() {
            return Err("refuse: needs for=DURATION, since it ends the control path too".into());
        }
        Ok(rule)
    }

    fn set(&mut self, key: &str, value: &str, now: Instant) -> Result<bool, String> {
        match key {
            "fail" => self.behaviour.status = Some(status(value)?),
            "percent" => self.percent = value.parse().map_err(|_| "is not a number")?,
            "for" => self.until = now.checked_add(units::duration(value)?),
            "count" => self.left = Some(value.parse().map_err(|_| "is not a number")?),
            "health" => self.health = Some(status(value)?),
            "refuse" => self.refuse = on(value),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn holds(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.left != Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(query: &str) -> (Control, Instant) {
        let (mut control, now) = (Control::default(), Instant::now());
        control.put(query, now).unwrap();
        (control, now)
    }

    #[test]
    fn a_rule_holds_for_its_share_and_its_time() {
        let (mut control, now) = told("fail=503&percent=25&for=30s");
        let failed = control.request(now, 0.24).unwrap();
        assert_eq!(failed.status, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(control.request(now, 0.25), None);
        let report = control.report(now);
        assert_eq!((report.requests, report.affected, report.ends_in_ms), (2, 1, Some(30_000)));
        assert_eq!(control.request(now + Duration::from_secs(30), 0.0), None);
    }

    #[test]
    fn a_rule_can_be_spent() {
        let (mut control, now) = told("reset=1&count=2");
        let cut = |c: &mut Control| c.request(now, 0.9).is_some();
        assert_eq!([cut(&mut control), cut(&mut control), cut(&mut control)], [true, true, false]);
    }

    #[test]
    fn refusing_needs_an_end_and_health_does_not() {
        let (mut control, now) = told("health=503");
        assert_eq!(control.health(now), StatusCode::SERVICE_UNAVAILABLE);
        assert!(control.put("refuse=1", now).unwrap_err().starts_with("refuse: "));
        assert_eq!(control.health(now), StatusCode::SERVICE_UNAVAILABLE, "the old rule stays");
        control.put("refuse=1&for=2s", now).unwrap();
        assert_eq!(control.refuse(now), Some(Duration::from_secs(2)));
        assert!(control.put("fial=503", now).unwrap_err().starts_with("fial: "));
    }
}
