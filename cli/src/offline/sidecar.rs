//! A sidecar that is told of a world, as the controller would tell it: compiled, encoded, decoded, built.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use weft_api::decode;
use weft_controller::push::publisher::{Compiler, WorldCompiler};
use weft_core::model::name::{ObjectName, ResourceName};
use weft_core::snapshot::{Resources, Snapshot};

/// What one pod's sidecar holds.
pub(crate) struct Sidecar<'w> {
    compiler: &'w WorldCompiler,
    pod: ObjectName,
    resources: Resources,
    snapshot: Snapshot,
    asked: BTreeSet<ResourceName>,
}

impl<'w> Sidecar<'w> {
    /// A sidecar that knows its own workload.
    ///
    /// # Errors
    /// As [`Sidecar::know`].
    pub(crate) fn new(compiler: &'w WorldCompiler, pod: &ObjectName) -> Result<Self> {
        let (resources, snapshot) = (Resources::default(), Snapshot::default());
        let mut new = Self { compiler, pod: pod.clone(), resources, snapshot, asked: BTreeSet::new() };
        new.know(ResourceName::Workload)?;
        Ok(new)
    }

    /// What it holds.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Asks for a resource, and for all that follows from it.
    ///
    /// # Errors
    /// The controller says nothing to the pod, or what it says is refused.
    pub(crate) fn know(&mut self, name: ResourceName) -> Result<()> {
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            if !self.asked.insert(name.clone()) {
                continue;
            }
            let body = self.compiler.resource(&self.pod, &name);
            let body = body
                .with_context(|| format!("pod {} cannot be told of: its names fit no identity", self.pod))?;
            let resource = decode::resource(&name, body.body());
            self.resources.apply(resource.map_err(|error| anyhow!("{name} of pod {}: {error}", self.pod))?);
            if open.is_empty() {
                let built = Snapshot::build(&self.snapshot, &self.resources);
                self.snapshot = built.snapshot;
                open.extend(built.wanted);
            }
        }
        Ok(())
    }

    /// Calls until nothing more must be known.
    ///
    /// # Errors
    /// As [`Sidecar::know`].
    pub(crate) fn asking<T>(&mut self, ask: impl Fn(&Snapshot) -> Result<T, ResourceName>) -> Result<T> {
        loop {
            match ask(&self.snapshot) {
                Ok(answer) => return Ok(answer),
                Err(missing) if self.asked.contains(&missing) => {
                    return Err(anyhow!("the controller says nothing of {missing}"));
                }
                Err(missing) => self.know(missing)?,
            }
        }
    }
}
