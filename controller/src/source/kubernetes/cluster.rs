//! The API server as a source: Kubernetes' own kinds from the start, the mesh's kinds as their definitions come and go.

use std::collections::{HashMap, HashSet};

use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use weft_crds::kind::{Kind, Origin};

use super::fields::{
    DefinitionFields, Fields, MeshFields, NamespaceFields, PodFields, ServiceFields, SettingsFields,
    SliceFields,
};
use super::follow::Follower;
use super::kinds::{Resource, defined};
use super::progress::Progress;
use crate::source::directory::Changes;
use crate::source::object::{Event, ObjectId, Scope};

/// The namespaces in which mesh-wide settings may stand.
const ROOTS: [&str; 2] = ["weft-system", "istio-system"];
/// Definitions that may wait.
const WAITING: usize = 16;

/// The API server as a source.
pub struct Cluster {
    client: Client,
    out: mpsc::Sender<Changes>,
    progress: Progress,
    /// The kinds of the mesh that are defined, and followed.
    followed: HashMap<ObjectId, Followed>,
    /// Definitions that the present listing has not named yet.
    unnamed: HashSet<ObjectId>,
}

struct Followed {
    what: (Kind, Origin, &'static str),
    scope: Scope,
    task: JoinHandle<()>,
}

impl Cluster {
    /// A source that has not begun; `progress` tells how far it is.
    pub fn new(client: Client, out: mpsc::Sender<Changes>, progress: Progress) -> Self {
        Self { client, out, progress, followed: HashMap::new(), unnamed: HashSet::new() }
    }

    /// Follows everything until nobody takes the events any more. `Synced` comes once, when each kind that is served has
    /// been listed.
    pub async fn run(mut self) {
        // Kinds that are not followed yet are waited for all the same.
        self.progress.begin(&kinds_of_the_mesh());
        self.follow::<NamespaceFields>(Resource::core("", "Namespace", "namespaces"));
        self.follow::<ServiceFields>(Resource::core("", "Service", "services"));
        self.follow::<SliceFields>(Resource::core("discovery.k8s.io", "EndpointSlice", "endpointslices"));
        self.follow::<PodFields>(Resource::core("", "Pod", "pods"));
        for namespace in ROOTS {
            self.follow::<SettingsFields>(Resource::settings(namespace));
        }
        let (send, definitions) = mpsc::channel(WAITING);
        let resource =
            Resource::core("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions");
        let follower =
            Follower::<DefinitionFields>::new(self.client.clone(), resource, send, self.progress.clone());
        tokio::spawn(follower.run());
        let _ = self.serve(definitions).await;
    }

    async fn serve(&mut self, mut definitions: mpsc::Receiver<Changes>) -> Result<(), Closed> {
        let (progress, out) = (self.progress.clone(), self.out.clone());
        let mut synced = false;
        loop {
            tokio::select! {
                changes = definitions.recv() => {
                    for event in changes.ok_or(Closed)?.events {
                        self.take(event).await?;
                    }
                }
                () = progress.complete(), if !synced => {
                    synced = true;
                    self.send(vec![Event::Synced]).await?;
                }
                () = out.closed() => return Err(Closed),
            }
        }
    }

    /// Takes what is heard of definitions.
    async fn take(&mut self, event: Event) -> Result<(), Closed> {
        match event {
            Event::Listing(_) => self.unnamed = self.followed.keys().cloned().collect(),
            Event::Apply(definition) => {
                self.unnamed.remove(&definition.id);
                let now = defined(&definition.value);
                if self.followed.get(&definition.id).map(|followed| followed.what) != now {
                    self.stop(&definition.id, now.map(|(kind, origin, _)| (kind, origin))).await?;
                    self.begin(definition.id, now);
                }
            }
            Event::Delete(id) => self.stop(&id, None).await?,
            Event::Listed(_) => {
                for id in std::mem::take(&mut self.unnamed) {
                    self.stop(&id, None).await?;
                }
                self.progress.listed(&kinds_of_the_mesh());
            }
            Event::Reset(_) | Event::Synced => {}
        }
        Ok(())
    }

    fn begin(&mut self, id: ObjectId, what: Option<(Kind, Origin, &'static str)>) {
        let Some((kind, origin, version)) = what else { return };
        let resource = Resource::mesh(kind, origin, version);
        tracing::info!("following {} in version {version}", resource.scope);
        let scope = resource.scope.clone();
        let task = self.follow::<MeshFields>(resource);
        self.followed.insert(id, Followed { what: (kind, origin, version), scope, task });
    }

    /// Follows a kind no more. Its objects are gone, unless another version of it takes over.
    async fn stop(&mut self, id: &ObjectId, next: Option<(Kind, Origin)>) -> Result<(), Closed> {
        let Some(followed) = self.followed.remove(id) else { return Ok(()) };
        followed.task.abort();
        let _ = followed.task.await;
        let (kind, origin, version) = followed.what;
        tracing::info!("{} is not served in version {version} any more", followed.scope);
        if next == Some((kind, origin)) {
            return Ok(());
        }
        self.progress.end(&followed.scope);
        self.send(vec![Event::Listing(followed.scope.clone()), Event::Listed(followed.scope)]).await
    }

    fn follow<F: Fields>(&self, resource: Resource) -> JoinHandle<()> {
        let follower =
            Follower::<F>::new(self.client.clone(), resource, self.out.clone(), self.progress.clone());
        tokio::spawn(follower.run())
    }

    async fn send(&self, events: Vec<Event>) -> Result<(), Closed> {
        let changes = Changes { events, ..Changes::default() };
        self.out.send(changes).await.map_err(|_| Closed)
    }
}

/// Nobody takes the events any more.
struct Closed;

/// Stands for what the definitions will name.
fn kinds_of_the_mesh() -> Scope {
    Scope { group: "".into(), kind: "kinds of the mesh".into(), namespace: None }
}

#[cfg(test)]
mod tests;
