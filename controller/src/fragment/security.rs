//! AuthorizationPolicies and PeerAuthentications.

use weft_core::model::policy::{Action, Rule};
use weft_core::model::workload::MtlsMode;

use super::meta::{Meta, Selector};

/// An AuthorizationPolicy that is understood, or that fails closed.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationPolicy {
    /// Name, age, origin.
    pub meta: Meta,
    /// `selector`.
    pub selector: Selector,
    /// `action`; [`Action::FailClosed`] where it cannot be honoured whole.
    pub action: Action,
    /// `istio.io/dry-run`.
    pub dry_run: bool,
    /// `rules`.
    pub rules: Vec<Rule>,
    /// Whether it is bound to a gateway or waypoint (`targetRefs`) and so says nothing to sidecars.
    pub elsewhere: bool,
}

/// A PeerAuthentication that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerAuthentication {
    /// Name, age, origin.
    pub meta: Meta,
    /// `selector`; `None` speaks for the namespace, or in the root namespace for the mesh.
    pub selector: Option<Selector>,
    /// `mtls.mode`; `None` inherits.
    pub mode: Option<MtlsMode>,
    /// `portLevelMtls`, by port of the workload; `None` inherits.
    pub ports: Vec<(u16, Option<MtlsMode>)>,
}
