//! What is held, wanted and refused: everything of the stream but its bytes. No input, no output, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use weft_api::decode;
use weft_api::error::{DecodeError, ErrorKind};
use weft_api::pb::config::{ClientInfo, DeltaRequest, DeltaResponse};
use weft_api::session::client::{Event, ProtocolError, Session, StreamId};
use weft_core::model::name::{ObjectName, ResourceName, ServiceName};
use weft_core::model::policy::{Action, AuthorizationPolicy};
use weft_core::model::workload::Workload;
use weft_core::snapshot::{Resource, Resources, Snapshot};

use super::mesh::SyncStatus;
use super::saved::{Kept, Saved};

/// A multiple of the names that may be held: beyond it names go at once, also those in use.
const BURST: usize = 4;

/// What is held, wanted and refused.
#[derive(Debug)]
pub(super) struct Holdings {
    session: Session,
    resources: Resources,
    kept: BTreeMap<ResourceName, Kept>,
    refused: BTreeMap<ResourceName, DecodeError>,
    absent: BTreeSet<ServiceName>,
    /// What was asked for, and the epoch of its last use; all else is wanted because these lead to it.
    roots: HashMap<ResourceName, u64>,
    epoch: u64,
    most_roots: usize,
}

/// What a response did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether another snapshot is to be built.
    pub(super) changed: bool,
    /// How many names were taken.
    pub(super) accepted: u64,
    /// How many were refused.
    pub(super) refused: u64,
}

impl Holdings {
    /// Nothing but the wish for the own workload.
    pub(super) fn new(most_roots: usize) -> Self {
        let mut session = Session::new(client_info());
        session.want(ResourceName::Workload);
        Self {
            session,
            resources: Resources::default(),
            kept: BTreeMap::new(),
            refused: BTreeMap::new(),
            absent: BTreeSet::new(),
            roots: HashMap::new(),
            epoch: 0,
            most_roots,
        }
    }

    /// What an earlier process held. What this version cannot decode is asked for afresh.
    pub(super) fn restore(saved: Saved, most_roots: usize) -> Self {
        let mut held = Self::new(most_roots);
        for (name, kept) in saved.resources {
            if let Ok(resource) = decode::resource(&name, &kept.body) {
                held.resources.apply(resource);
                held.kept.insert(name, kept);
            }
        }
        let versions = held.kept.iter().map(|(name, kept)| (name.clone(), kept.version.clone()));
        held.session = Session::resume(client_info(), saved.as_of, versions);
        held.session.want(ResourceName::Workload);
        let roots = held.kept.keys().filter(|name| is_root(name));
        held.roots = roots.map(|name| (name.clone(), 0)).collect();
        held.reconcile();
        held
    }

    /// A name that was asked for, or used again.
    pub(super) fn want(&mut self, name: ResourceName) {
        if is_root(&name) && self.roots.insert(name, self.epoch).is_none() {
            if self.roots.len() > self.most_roots.saturating_mul(BURST) {
                self.give_back(self.epoch + 1);
            }
            self.reconcile();
        }
    }

    /// Begins a stream.
    pub(super) fn connect(&mut self) -> StreamId {
        self.session.connect()
    }

    /// The stream ended.
    pub(super) fn disconnect(&mut self) {
        self.session.disconnect();
    }

    /// The next message to send.
    pub(super) fn next_request(&mut self) -> Option<DeltaRequest> {
        self.session.next_request()
    }

    /// Takes a response in.
    pub(super) fn receive(
        &mut self,
        from: StreamId,
        response: DeltaResponse,
    ) -> Result<Taken, ProtocolError> {
        let events = self.session.receive(from, response, |name, body: &Bytes| {
            decode::resource(name, body).map(|resource| (resource, Bytes::copy_from_slice(body)))
        })?;
        let mut taken = Taken::default();
        for event in events {
            let refused = u64::from(matches!(event, Event::Refused { .. }));
            taken.refused += refused;
            taken.accepted += 1 - refused;
            taken.changed |= self.apply(event);
        }
        self.reconcile();
        Ok(taken)
    }

    /// Ends an epoch: names beyond the limit that were used neither in it nor in the one before are given back;
    /// whether another snapshot is to be built.
    pub(super) fn sweep(&mut self) -> bool {
        let before = self.roots.len();
        self.give_back(self.epoch.saturating_sub(1));
        self.epoch += 1;
        let changed = self.roots.len() != before;
        if changed {
            self.reconcile();
        }
        changed
    }

    /// The view of what is held.
    pub(super) fn build(&self, previous: &Snapshot) -> Snapshot {
        let Some(denying) = self.denying_workload() else {
            return Snapshot::build(previous, &self.resources).snapshot;
        };
        let mut resources = self.resources.clone();
        resources.apply(Resource::Workload(Arc::new(denying)));
        Snapshot::build(previous, &resources).snapshot
    }

    /// Services that the controller knows not to exist.
    pub(super) fn absent(&self) -> &BTreeSet<ServiceName> {
        &self.absent
    }

    /// What is kept for a restart.
    pub(super) fn saved(&self) -> Saved {
        Saved { as_of: self.session.as_of(), resources: self.kept.clone() }
    }

    /// Whether something that is wanted was never answered.
    pub(super) fn is_waiting(&self) -> bool {
        self.session.wanted().any(|(name, _)| !self.session.is_answered(name))
    }

    /// How many resources are held.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// For people.
    pub(super) fn status(&self) -> SyncStatus {
        let held = self.session.wanted().map(|(name, version)| (name.to_string(), version.cloned()));
        let refused = self.refused.iter().map(|(name, error)| (name.to_string(), error.to_string()));
        SyncStatus {
            as_of: self.session.as_of(),
            held: held.collect(),
            refused: refused.collect(),
            ..SyncStatus::default()
        }
    }

    fn apply(&mut self, event: Event<(Resource, Bytes)>) -> bool {
        match event {
            Event::Set { name, version, value: (resource, body) } => {
                let was_refused = self.refused.remove(&name).is_some();
                self.kept.insert(name, Kept { version, body });
                self.resources.apply(resource) || was_refused
            }
            Event::Absent { name } => {
                self.refused.remove(&name);
                self.kept.remove(&name);
                self.resources.remove(&name)
            }
            Event::Refused { name, error } => self.refuse(name, error),
        }
    }

    /// Keeps the last good one, unless what is refused may be a condition that keeps somebody out.
    fn refuse(&mut self, name: ResourceName, error: DecodeError) -> bool {
        tracing::warn!(resource = %name, %error, "refused what the controller sent");
        let widens = error.kind() == ErrorKind::NotUnderstood;
        self.refused.insert(name.clone(), error);
        match &name {
            ResourceName::Service(_) if widens => {
                self.kept.remove(&name);
                self.resources.remove(&name)
            }
            ResourceName::Workload => widens,
            _ => false,
        }
    }

    /// The workload with a policy that denies everything, where its newest policies are not understood.
    fn denying_workload(&self) -> Option<Workload> {
        let error = self.refused.get(&ResourceName::Workload)?;
        let Some(Resource::Workload(held)) = self.resources.get(&ResourceName::Workload) else { return None };
        if error.kind() != ErrorKind::NotUnderstood {
            return None;
        }
        let mut workload = Workload::clone(&held);
        workload.inbound.policies.push(Arc::new(fail_closed(&workload)));
        Some(workload)
    }

    /// Gives the oldest names beyond the limit back, of those last used before `epoch`.
    fn give_back(&mut self, epoch: u64) {
        let excess = self.roots.len().saturating_sub(self.most_roots);
        let mut old: Vec<_> = self
            .roots
            .iter()
            .filter(|(_, used)| **used < epoch)
            .map(|(name, used)| (*used, name.clone()))
            .collect();
        old.sort_unstable();
        old.into_iter().take(excess).for_each(|(_, name)| {
            self.roots.remove(&name);
        });
    }

    /// Wants all that the roots lead to, and gives the rest back.
    fn reconcile(&mut self) {
        let workload = self.resources.get(&ResourceName::Workload);
        let listened = workload.iter().flat_map(|resource| match resource {
            Resource::Workload(workload) => listened(workload),
            _ => Vec::new(),
        });
        let roots = self.roots.keys().cloned().chain([ResourceName::Workload]).chain(listened);
        let reachable = self.resources.reachable(roots);
        let surplus: Vec<_> = self
            .session
            .wanted()
            .map(|(name, _)| name)
            .filter(|name| !reachable.contains(name))
            .cloned()
            .collect();
        surplus.iter().for_each(|name| self.forget(name));
        reachable.into_iter().for_each(|name| self.session.want(name));
        self.note_absent();
    }

    fn forget(&mut self, name: &ResourceName) {
        self.session.release(name);
        self.resources.forget(name);
        self.kept.remove(name);
        self.refused.remove(name);
    }

    fn note_absent(&mut self) {
        let wanted = self.session.wanted().map(|(name, _)| name);
        let absent = wanted.filter_map(|name| match name {
            ResourceName::Service(service)
                if self.resources.knows(name) && self.resources.get(name).is_none() =>
            {
                Some(service.clone())
            }
            _ => None,
        });
        self.absent = absent.collect();
    }
}

/// What is asked for by itself; all else follows from it.
fn is_root(name: &ResourceName) -> bool {
    matches!(name, ResourceName::Address(_) | ResourceName::Service(_))
}

/// The services behind explicit listeners.
fn listened(workload: &Workload) -> Vec<ResourceName> {
    let bindings = workload.outbound.listeners.iter().flat_map(|listener| &listener.services);
    bindings.map(|binding| ResourceName::Service(binding.target.service.clone())).collect()
}

fn fail_closed(workload: &Workload) -> AuthorizationPolicy {
    let namespace = workload.metadata.namespace.clone();
    AuthorizationPolicy {
        name: ObjectName { namespace, name: "not-understood".into() },
        action: Action::FailClosed,
        dry_run: false,
        rules: Vec::new(),
    }
}

fn client_info() -> ClientInfo {
    ClientInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: weft_api::feature::KNOWN.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> ResourceName {
        ResourceName::Service(ServiceName::new("default", &format!("s{n}")))
    }

    fn is_wanted(held: &Holdings, n: usize) -> bool {
        held.session.wanted().any(|(wanted, _)| *wanted == name(n))
    }

    #[test]
    fn names_in_use_are_kept_and_the_longest_unused_go_first() {
        let mut held = Holdings::new(2);
        (0..4).for_each(|n| held.want(name(n)));
        assert!(!held.sweep() && !held.sweep(), "used in this epoch or the one before");
        held.want(name(0));
        held.sweep();
        assert!(is_wanted(&held, 0) && !is_wanted(&held, 1));
        assert_eq!(held.roots.len(), 2);
        assert!(held.session.wanted().any(|(name, _)| *name == ResourceName::Workload));
    }

    #[test]
    fn f9_who_asks_for_everything_gets_no_more_than_fits() {
        let mut held = Holdings::new(10);
        (0..10_000).for_each(|n| held.want(name(n)));
        assert!(held.roots.len() <= 10 * BURST, "{}", held.roots.len());
        assert!(is_wanted(&held, 9_999), "the newest is there");
    }

    #[test]
    fn only_what_traffic_names_is_a_root() {
        let mut held = Holdings::new(10);
        held.want(ResourceName::Workload);
        assert!(held.roots.is_empty());
    }
}
