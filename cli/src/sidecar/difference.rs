//! What a sidecar holds against what a controller means it to hold: by the hashes of their contents. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// How what is held differs from what is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Whether the sidecar's stream to its controller is up.
    pub connected: bool,
    /// Whether the controller knows the pod.
    pub known: bool,
    /// How many resources are held as they are meant.
    pub same: usize,
    /// The others.
    pub differences: Vec<One>,
}

/// One resource that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct One {
    /// Its name.
    pub name: String,
    /// How.
    pub kind: Kind,
    /// The version that is held.
    pub held: Option<String>,
    /// The version that is meant.
    pub meant: Option<String>,
    /// Why it was refused: field and reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a resource differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// It holds another version.
    Behind,
    /// It holds one, and none is meant.
    Surplus,
    /// It holds none, and one is meant.
    Missing,
    /// It refused what was sent, and keeps what it had.
    Refused,
}

impl Difference {
    /// From the sidecar's `/sync`, and from versions by name.
    pub fn of(held: &Value, meant: &BTreeMap<String, Option<String>>, known: bool) -> Self {
        let items = |key: &str| held[key].as_array().cloned().unwrap_or_default();
        let refused: BTreeMap<_, _> =
            items("refused").iter().map(|item| (text(item, "name"), text(item, "error"))).collect();
        let mut difference = Self { connected: held["connected"] == true, known, ..Self::default() };
        for item in items("resources") {
            let (name, held) = (text(&item, "name"), item["version"].as_str().map(str::to_owned));
            let meant = meant.get(&name).cloned().flatten();
            match kind(held.as_deref(), meant.as_deref(), refused.contains_key(&name)) {
                None => difference.same += 1,
                Some(kind) => {
                    let error = refused.get(&name).cloned();
                    difference.differences.push(One { name, kind, held, meant, error });
                }
            }
        }
        difference
    }

    /// Whether all is held as it is meant.
    pub fn is_none(&self) -> bool {
        self.known && self.differences.is_empty()
    }
}

impl Kind {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Behind => "another is meant",
            Self::Surplus => "nothing is meant",
            Self::Missing => "not there yet",
            Self::Refused => "refused",
        }
    }
}

fn kind(held: Option<&str>, meant: Option<&str>, refused: bool) -> Option<Kind> {
    match (held, meant) {
        (held, meant) if held == meant => None,
        _ if refused => Some(Kind::Refused),
        (Some(_), Some(_)) => Some(Kind::Behind),
        (Some(_), None) => Some(Kind::Surplus),
        _ => Some(Kind::Missing),
    }
}

fn text(item: &Value, key: &str) -> String {
    item[key].as_str().unwrap_or_default().to_owned()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away = if self.connected { "" } else { "; it has no connection to a controller" };
        if !self.known {
            return write!(f, "the controller does not know this pod{away}");
        }
        match self.differences.len() {
            0 if self.same == 1 => write!(f, "holds what the controller means it to hold, 1 resource{away}"),
            0 => write!(f, "holds what the controller means it to hold, {} resources{away}", self.same),
            n => write!(f, "{n} of {} resources differ from what the controller means{away}", n + self.same),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_compared_by_name() {
        let held = json!({"connected": true, "resources": [
            {"name": "self", "version": "a"}, {"name": "default/web", "version": "b"},
            {"name": "default/old", "version": "c"}, {"name": "default/new", "version": null},
            {"name": "default/bad", "version": "d"}, {"name": "10.0.0.1:80", "version": null}],
            "refused": [{"name": "default/bad", "error": "routes[0]: is negative"}]});
        let meant = [
            ("self", Some("a")),
            ("default/web", Some("B")),
            ("default/old", None),
            ("default/new", Some("n")),
            ("default/bad", Some("D")),
            ("10.0.0.1:80", None),
        ];
        let meant = meant.map(|(name, version)| (name.to_owned(), version.map(str::to_owned))).into();
        let difference = Difference::of(&held, &meant, true);
        let kinds: Vec<_> = difference.differences.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::Behind, Kind::Surplus, Kind::Missing, Kind::Refused]);
        assert_eq!(difference.differences[3].error.as_deref(), Some("routes[0]: is negative"));
        assert_eq!((difference.same, difference.is_none()), (2, false));
        assert_eq!(difference.to_string(), "4 of 6 resources differ from what the controller means");
    }

    #[test]
    fn a_pod_that_is_not_known_is_no_match() {
        let difference = Difference::of(&json!({"connected": false}), &BTreeMap::new(), false);
        assert!(!difference.is_none());
        assert!(difference.to_string().contains("does not know this pod; it has no connection"));
    }
}
