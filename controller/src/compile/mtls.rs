//! Which mTLS mode holds on a port of a pod: port over workload over namespace over mesh; of several, the oldest.

use std::sync::Arc;

use weft_core::model::workload::MtlsMode;

use super::scope;
use crate::fragment::kubernetes::Pod;
use crate::fragment::security::PeerAuthentication;
use crate::world::World;

/// What the PeerAuthentications say of one pod.
pub struct PodMtls<'a> {
    workload: Option<&'a PeerAuthentication>,
    inherited: MtlsMode,
}

impl<'a> PodMtls<'a> {
    /// Collects what holds for a pod.
    pub fn of(world: &'a World, pod: &Pod) -> Self {
        let namespace = &pod.meta.name.namespace;
        let selects =
            |p: &PeerAuthentication| p.selector.as_ref().is_some_and(|s| s.selects(&pod.meta.labels));
        let whole = |p: &PeerAuthentication| p.selector.is_none();
        let of_mesh = scope::roots().find_map(|root| oldest(world, root, &whole)).and_then(|p| p.mode);
        let of_namespace = oldest(world, namespace, &whole).and_then(|p| p.mode);
        let workload = oldest(world, namespace, &selects);
        let inherited = workload.and_then(|p| p.mode).or(of_namespace).or(of_mesh).unwrap_or_default();
        Self { workload, inherited }
    }

    /// The mode of ports that no rule names.
    pub fn default_mode(&self) -> MtlsMode {
        self.inherited
    }

    /// The mode of a port.
    pub fn on_port(&self, port: u16) -> MtlsMode {
        self.named_ports().find(|(number, _)| *number == port).map_or(self.inherited, |(_, mode)| mode)
    }

    /// The ports that are named, with their modes.
    pub fn named_ports(&self) -> impl Iterator<Item = (u16, MtlsMode)> {
        let ports = self.workload.map(|p| p.ports.as_slice()).unwrap_or_default();
        ports.iter().map(|(port, mode)| (*port, mode.unwrap_or(self.inherited)))
    }
}

fn oldest<'a>(
    world: &'a World,
    namespace: &str,
    wanted: &dyn Fn(&PeerAuthentication) -> bool,
) -> Option<&'a PeerAuthentication> {
    let found = world.peer_authentications.of_namespace(namespace).filter(|p| wanted(p));
    found.min_by(|a, b| a.meta.age.cmp(&b.meta.age)).map(Arc::as_ref)
}
