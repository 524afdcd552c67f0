//! Which requests a tap wants. Pure.

use std::ops::RangeInclusive;

use percent_encoding::percent_decode_str;

use crate::telemetry::entry::AccessEntry;
use crate::telemetry::kept::Text;
use crate::telemetry::labels::{Reporter, ScopeLabels};

/// Which requests a tap wants: those that meet all conditions that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    methods: Vec<String>,
    path: Option<String>,
    statuses: Vec<RangeInclusive<u16>>,
    from: Option<String>,
    reasons: Vec<String>,
    side: Option<Reporter>,
}

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such condition.
    #[error("`{0}` is no condition: there are method, path, status, from, reason and side")]
    Unknown(String),
    /// Not a status.
    #[error("`{0}` is no status: write 503, 5xx, 400-499, 0 for a client that left, or several with commas")]
    Status(String),
    /// Not a side.
    #[error("`{0}` is no side: write inbound or outbound")]
    Side(String),
}

impl Filter {
    /// Reads a query: `method=GET,POST&path=/api&status=5xx&from=default/client&reason=policy_denied&side=inbound`.
    /// `path` is a prefix of what the client sent; `from` a SPIFFE identity, its end `ns/NAMESPACE/sa/ACCOUNT`, or a
    /// workload as `NAME` or `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// A condition that does not exist, or a value that means nothing.
    pub fn parse(query: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match key {
                _ if value.is_empty() => {}
                "method" => filter.methods = list(&value.to_ascii_uppercase()),
                "path" => filter.path = Some(value),
                "status" => filter.statuses = value.split(',').map(statuses).collect::<Result<_, _>>()?,
                "from" => filter.from = Some(value),
                "reason" => filter.reasons = list(&value),
                "side" => filter.side = Some(side(&value)?),
                _ => return Err(FilterError::Unknown(shortened(key))),
            }
        }
        Ok(filter)
    }

    /// Whether a request may be wanted, as far as its beginning tells.
    pub(super) fn begins(&self, method: &str, path: &str) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|wanted| wanted == method))
            && self.path.as_deref().is_none_or(|prefix| path.starts_with(prefix))
    }

    /// Whether a request is wanted.
    pub(super) fn matches(&self, entry: &AccessEntry, labels: Option<&ScopeLabels>) -> bool {
        let status = entry.outcome.status;
        let reason = entry.outcome.reason.map(|reason| reason.name());
        self.begins(entry.get(Text::Method), entry.get(Text::Path))
            && (self.statuses.is_empty() || self.statuses.iter().any(|range| range.contains(&status)))
            && (self.reasons.is_empty() || self.reasons.iter().any(|wanted| Some(wanted.as_str()) == reason))
            && self.side.is_none_or(|side| labels.is_some_and(|labels| labels.reporter() == side))
            && self.from.as_deref().is_none_or(|from| labels.is_some_and(|labels| is_from(labels, from)))
    }
}

fn is_from(labels: &ScopeLabels, wanted: &str) -> bool {
    let (namespace, workload) = labels.source_workload();
    let principal = labels.source_principal().is_some_and(|principal| {
        principal == wanted
            || principal
                .strip_suffix(wanted)
                .is_some_and(|head| wanted.starts_with("ns/") && head.ends_with('/'))
    });
    principal
        || workload == wanted
        || wanted.split_once('/').is_some_and(|(ns, name)| ns == namespace && name == workload)
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// `503`, `5xx` or `400-499`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, FilterError> {
    let wrong = || FilterError::Status(shortened(text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number < 1000).ok_or_else(wrong);
    let text = text.trim();
    if let Some(class) = text.strip_suffix("xx") {
        let class = number(class)?;
        return (1..=9).contains(&class).then(|| class * 100..=class * 100 + 99).ok_or_else(wrong);
    }
    match text.split_once('-') {
        Some((first, last)) => Ok(number(first)?..=number(last)?),
        None => number(text).map(|one| one..=one),
    }
}

fn side(text: &str) -> Result<Reporter, FilterError> {
    match text {
        "inbound" => Ok(Reporter::Destination),
        "outbound" => Ok(Reporter::Source),
        other => Err(FilterError::Side(shortened(other))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{ended, labelled};
    use super::*;

    fn wants(query: &str, path: &str, status: u16) -> bool {
        Filter::parse(query).unwrap().matches(&ended(path, status), None)
    }

    #[test]
    fn all_conditions_must_be_met() {
        assert!(wants("", "/", 200));
        assert!(wants("method=get,POST&path=%2Fapi&status=5xx", "/api/x", 503));
        assert!(!wants("method=POST", "/api/x", 503));
        assert!(!wants("path=/api&status=5xx", "/api/x", 404));
        assert!(!wants("path=/api", "/ap", 200));
        assert!(wants("status=404,500-502", "/", 501) && !wants("status=404,500-502", "/", 503));
        assert!(wants("status=0", "/", 0) && !wants("reason=policy_denied", "/", 403));
    }

    #[test]
    fn a_caller_is_named_by_identity_or_workload() {
        let (entry, labels) = (ended("/", 200), labelled());
        let parsed = |query: String| Filter::parse(&query).unwrap();
        assert!(!parsed("from=client".into()).matches(&entry, None), "nothing is known of the caller");
        let is = |query: String| parsed(query).matches(&entry, Some(&labels));
        for from in ["client", "shop/client", "ns/shop/sa/client", "spiffe://cluster.local/ns/shop/sa/client"]
        {
            assert!(is(format!("from={from}")), "{from}");
        }
        for from in ["lient", "other/client", "sa/client", "s/shop/sa/client", "/client"] {
            assert!(!is(format!("from={from}")), "{from}");
        }
        assert!(is("side=inbound".into()) && !is("side=outbound".into()));
    }

    #[test]
    fn what_cannot_be_read_says_how_to_write_it() {
        for (query, hint) in [
            ("status=abc", "5xx"),
            ("status=0xx", "5xx"),
            ("status=99999", "5xx"),
            ("paths=/x", "path, status"),
            ("side=up", "outbound"),
        ] {
            let error = Filter::parse(query).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
        assert!(Filter::parse(&format!("{}=1", "x".repeat(10_000))).unwrap_err().to_string().len() < 300);
    }
}
