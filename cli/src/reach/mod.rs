//! The way to the sidecars of a mesh, and to its controller: to their administration interfaces, which are on loopback.
//!
//! A mesh of `weft up` hands out a connection that its agent made inside the pod's network; a cluster forwards a port
//! through its API server, as `kubectl port-forward` does. Past that point both are one thing: a stream that speaks
//! HTTP/1.1.
//!
//! ```no_run
//! # async fn example(place: weft::reach::Place) -> anyhow::Result<()> {
//! let reach = place.reach().await?;
//! let sidecar = reach.sidecar("deploy/client").await?;
//! let clusters = sidecar.get("/clusters").await?;
//! # Ok(())
//! # }
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;

use crate::objects;
use crate::up::Mesh;
use crate::up::api::CONTROLLER;
use crate::up::intercepted::Intercepted;
use crate::up::names::{DEFAULT_NAME, names};

/// What users call a pod or a workload.
pub mod target;
/// HTTP/1.1 on a stream.
pub mod talk;
/// Meshes of `weft up`.
mod local;
/// Clusters.
mod cluster;

pub use talk::Lines;
pub use target::Target;

/// The port of a sidecar's administration interface, unless its pod says otherwise.
const ADMIN: u16 = 15000;

/// Where to look: arguments of every command that asks sidecars.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// A mesh of `weft up` on this machine; without it the cluster of KUBECONFIG, or else the mesh called default
    #[arg(short = 'N', long = "name", value_name = "MESH", global = true)]
    pub mesh: Option<String>,
    /// The namespace; the context's where not given, or default
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// A context of KUBECONFIG
    #[arg(long, conflicts_with = "mesh", global = true)]
    pub context: Option<String>,
    /// The namespace of the control plane, in a cluster
    #[arg(long, default_value = "weft-system", value_name = "NAMESPACE", global = true)]
    pub root: String,
}

/// A mesh whose sidecars can be asked.
#[derive(Clone)]
pub struct Reach {
    way: Way,
    namespace: String,
    root: String,
}

#[derive(Clone)]
enum Way {
    Local(Arc<Mesh>),
    Cluster(kube::Client),
}

/// One sidecar.
#[derive(Clone)]
pub struct Sidecar {
    /// Where its pod is.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// What the pod belongs to: `Deployment/web`; the pod's own name for one that stands alone.
    pub workload: String,
    /// Whether all of its pod is ready.
    pub ready: bool,
    /// Its pod's address, once it has one.
    pub address: Option<IpAddr>,
    /// What of its pod's traffic comes to it.
    pub intercepted: Intercepted,
    /// Its administration interface.
    pub admin: Admin,
}

/// Who sends a request.
#[derive(Clone)]
pub enum Sender {
    /// A pod with a sidecar that runs.
    Meshed(Box<Sidecar>),
    /// A pod without one.
    Bare(Bare),
}

/// A pod without a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bare {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
}

/// An administration interface: of a sidecar, or of a controller.
#[derive(Clone)]
pub struct Admin {
    /// `namespace/pod` of a sidecar; a controller's pod, `@controller` in a mesh of `weft up`.
    pub name: String,
    /// `sidecar of` or `controller`.
    role: &'static str,
    namespace: String,
    pod: String,
    port: u16,
    way: Way,
}

impl Place {
    /// The mesh that is meant.
    ///
    /// # Errors
    /// There is none; says what there is.
    pub async fn reach(&self) -> Result<Reach> {
        let given = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let local = match &self.mesh {
            Some(name) => Some(name.as_str()),
            None if self.context.is_some() || given("KUBECONFIG") => None,
            None => names().iter().any(|name| name == DEFAULT_NAME).then_some(DEFAULT_NAME),
        };
        let (way, own) = match local {
            Some(name) => (Way::Local(Arc::new(Mesh::find(name)?)), "default".to_owned()),
            None => {
                let client = objects::client(self.context.as_deref()).await.with_context(no_cluster)?;
                let own = client.default_namespace().to_owned();
                (Way::Cluster(client), own)
            }
        };
        let namespace = self.namespace.clone().unwrap_or(own);
        Ok(Reach { way, namespace, root: self.root.clone() })
    }
}

fn no_cluster() -> String {
    let hint = match names().as_slice() {
        [] => "no mesh of `weft up` runs here".to_owned(),
        running => format!("meshes of `weft up` that run here: {} (choose with -N)", running.join(", ")),
    };
    format!("there is no cluster to ask, and {hint}")
}

impl Reach {
    /// A mesh that this process knows already.
    pub fn of_mesh(mesh: Mesh, namespace: impl Into<String>) -> Self {
        Self { way: Way::Local(Arc::new(mesh)), namespace: namespace.into(), root: String::new() }
    }

    /// The namespace in which names are looked up.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The sidecar of a pod, or of one of a workload's pods, a ready one if there is one: `NAME`, `deploy/NAME`.
    ///
    /// # Errors
    /// There is no such pod, or it has no sidecar that runs; says what there is.
    pub async fn sidecar(&self, target: &str) -> Result<Sidecar> {
        let all = self.sidecars(target).await?;
        let best = all.iter().max_by_key(|sidecar| sidecar.ready).cloned();
        best.with_context(|| format!("{target} has no pod with a sidecar in namespace {}", self.namespace))
    }

    /// A pod, or one of a workload's pods, as [`Reach::sidecar`]; it may have no sidecar.
    ///
    /// # Errors
    /// There is no such pod, or its sidecar does not run; says what there is.
    pub async fn sender(&self, target: &str) -> Result<Sender> {
        let meant: Target = target.parse()?;
        let bare = match &self.way {
            Way::Local(mesh) => local::bare(mesh, &self.namespace, &meant).await?,
            Way::Cluster(client) => cluster::bare(client, &self.namespace, &meant).await?,
        };
        match bare {
            Some(bare) => Ok(Sender::Bare(bare)),
            None => Ok(Sender::Meshed(Box::new(self.sidecar(target).await?))),
        }
    }

    /// The sidecars of all of a workload's pods; at least one.
    ///
    /// # Errors
    /// There is no such pod, or none has a sidecar that runs; says what there is.
    pub async fn sidecars(&self, target: &str) -> Result<Vec<Sidecar>> {
        let target: Target = target.parse()?;
        match &self.way {
            Way::Local(mesh) => local::sidecars(mesh, &self.namespace, &target).await,
            Way::Cluster(client) => cluster::sidecars(client, &self.namespace, &target).await,
        }
    }

    /// What a pod finds under a name; `None` where only its sidecar can look it up, as in a cluster.
    ///
    /// # Errors
    /// A pod of `weft up` knows no such name.
    pub async fn lookup(&self, (namespace, pod): (&str, &str), host: &str) -> Result<Option<IpAddr>> {
        match (&self.way, host.trim_matches(['[', ']']).parse()) {
            (_, Ok(address)) => Ok(Some(address)),
            (Way::Local(mesh), _) => local::lookup(mesh, (namespace, pod), host).await.map(Some),
            (Way::Cluster(_), _) => Ok(None),
        }
    }

    /// All sidecars that run: of one namespace, or of all.
    ///
    /// # Errors
    /// The pods cannot be listed.
    pub async fn everywhere(&self, namespace: Option<&str>) -> Result<Vec<Sidecar>> {
        match &self.way {
            Way::Local(mesh) => local::everywhere(mesh, namespace).await,
            Way::Cluster(client) => cluster::everywhere(client, namespace).await,
        }
    }

    /// The interfaces of the controllers that run; at least one.
    ///
    /// # Errors
    /// There is none, or the pods cannot be listed.
    pub async fn controllers(&self) -> Result<Vec<Admin>> {
        match &self.way {
            Way::Local(_) => Ok(vec![Admin::of_controller(&self.way, "", CONTROLLER, 0)]),
            Way::Cluster(client) => cluster::controllers(client, &self.root).await,
        }
    }
}

impl Sidecar {
    /// `namespace/pod`.
    pub fn name(&self) -> String {
        self.admin.name.clone()
    }

    /// [`Admin::get`] of its interface.
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.admin.get(path).await
    }

    /// [`Admin::stream`] of its interface.
    ///
    /// # Errors
    /// As there.
    pub async fn stream(&self, path: &str) -> Result<Lines> {
        self.admin.stream(path).await
    }
}

impl Admin {
    fn of_sidecar(way: &Way, namespace: &str, pod: &str, port: u16) -> Self {
        let name = format!("{namespace}/{pod}");
        Self { name, role: "sidecar of", ..Self::of_controller(way, namespace, pod, port) }
    }

    fn of_controller(way: &Way, namespace: &str, pod: &str, port: u16) -> Self {
        let (name, pod) = (pod.to_owned(), pod.to_owned());
        Self { name, role: "controller", namespace: namespace.to_owned(), pod, port, way: way.clone() }
    }

    /// Asks: the body of the answer.
    ///
    /// # Errors
    /// It cannot be reached, or answers with anything but 200; says what it said.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.ask(Method::GET, path).await
    }

    /// Pulls a lever: the body of the answer.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn post(&self, path: &str) -> Result<Bytes> {
        self.ask(Method::POST, path).await
    }

    /// Asks for an answer that has no end, line by line.
    ///
    /// # Errors
    /// As [`Admin::get`].
    pub async fn stream(&self, path: &str) -> Result<Lines> {
        let opened = async { talk::open(self.connect().await?, path).await };
        opened.await.with_context(|| self.failed(path))
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Bytes> {
        let asked = async { talk::ask(self.connect().await?, method, path).await };
        asked.await.with_context(|| self.failed(path))
    }

    async fn connect(&self) -> Result<talk::Stream> {
        match &self.way {
            Way::Local(mesh) => local::connect(mesh, &self.namespace, &self.pod, self.port).await,
            Way::Cluster(client) => cluster::connect(client, &self.namespace, &self.pod, self.port).await,
        }
    }

    fn failed(&self, path: &str) -> String {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        format!("the {} {} does not answer {path}", self.role, self.name)
    }
}
