//! What users call a pod or a workload: `web-0`, `deploy/web`.

use std::fmt;
use std::str::FromStr;

use crate::up::api::workload_kind;

/// A pod, or all pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pod by its name.
    Pod(String),
    /// A workload.
    Workload {
        /// Its kind, as manifests write it.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// A text that names neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no pod: write a pod's name, or deploy/NAME, sts/NAME, ds/NAME, rs/NAME or job/NAME")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(wrong());
        }
        match kind.to_ascii_lowercase().as_str() {
            "pod" | "pods" | "po" => Ok(Self::Pod(name.to_owned())),
            kind => {
                let kind = workload_kind(kind).ok_or_else(wrong)?;
                Ok(Self::Workload { kind, name: name.to_owned() })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Workload { kind, name } => write!(f, "{kind} {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_workloads_are_told_apart() {
        assert_eq!("web-0".parse(), Ok(Target::Pod("web-0".into())));
        assert_eq!("pod/web-0".parse(), Ok(Target::Pod("web-0".into())));
        let web = Target::Workload { kind: "Deployment", name: "web".into() };
        assert_eq!("deploy/web".parse(), Ok(web.clone()));
        assert_eq!("Deployment/web".parse(), Ok(web));
    }

    #[test]
    fn what_could_leave_the_path_of_a_request_is_no_name() {
        for text in ["", "deploy/", "svc/web", "../x", "a/b/c", "web?x", "deploy/%2e%2e", "WEB"] {
            assert!(text.parse::<Target>().unwrap_err().to_string().contains("deploy/NAME"), "{text}");
        }
    }
}
