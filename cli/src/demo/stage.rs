//! What the steps work with: the mesh, its pods, its files, and where progress is shown.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::demo::sample::Sample;
use crate::demo::traffic::Traffic;
use crate::demo::view::View;
use crate::load::tally::Summary;
use crate::up::api::PodState;
use crate::up::{Mesh, Target};

/// The content service, as a client inside the mesh calls it.
pub const CONTENT: &str = "http://content-service/";
/// The same as a client outside the mesh's namespace calls it.
pub const CONTENT_FULL: &str = "http://content-service.default/";
/// The content service behind the gateway.
pub const GATEWAY: &str = "http://api-gateway/";
/// Where the sidecars' metrics are.
pub const METRICS: u16 = 15020;
/// How often something is looked at that is waited for.
pub const LOOK: Duration = Duration::from_millis(50);

/// The stage of the tour.
#[derive(Debug)]
pub struct Stage {
    /// The mesh.
    pub mesh: Rc<Mesh>,
    /// Its files.
    pub sample: Sample,
    /// Progress.
    pub view: View,
}

/// Something of the namespace `default`.
pub fn target(name: &str) -> Target {
    Target { namespace: "default".into(), name: name.into() }
}

impl Stage {
    /// Starts requests of the client.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn client(&self, url: &str, args: &[&str]) -> Result<Traffic> {
        Traffic::start(&self.mesh, &target("deploy/client"), url, args)
    }

    /// Requests of the caller outside the mesh, to the end.
    ///
    /// # Errors
    /// When they cannot be started.
    pub async fn outsider(&self, args: &[&str]) -> Result<Summary> {
        let outsider = Target { namespace: "outside".into(), name: "deploy/outsider".into() };
        Traffic::start(&self.mesh, &outsider, CONTENT_FULL, args)?.finish().await
    }

    /// The ready pods of a version of the content service.
    ///
    /// # Errors
    /// When the mesh has ended.
    pub async fn content(&self, version: &str) -> Result<Vec<PodState>> {
        let label = |pod: &PodState, key: &str, value: &str| pod.labels.get(key).is_some_and(|v| v == value);
        let of_version = |pod: &PodState| {
            pod.ready && label(pod, "app", "content-service") && label(pod, "version", version)
        };
        Ok(self.mesh.state().await?.pods.into_iter().filter(of_version).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is none.
    pub async fn replica(&self, version: &str) -> Result<Target> {
        let pod = self.content(version).await?.into_iter().next();
        Ok(target(&pod.with_context(|| format!("no pod of content-service {version} is ready"))?.name))
    }

    /// Tells an application something over its control path.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn tell(&self, pod: &Target, method: &str, query: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:8080/control?{query}");
        let told = Traffic::start(&self.mesh, pod, &url, &["-X", method, "-n", "1"])?.finish().await?;
        anyhow::ensure!(told.ok() == 1, "{}: {method} {url}: {told:?}", pod.name);
        Ok(())
    }

    /// What an application counted.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn counted(&self, pod: &Target) -> Result<Value> {
        let (_, body) = self.mesh.admin_get(pod, 8080, "/control").await?;
        serde_json::from_str(&body).with_context(|| format!("{}: {body}", pod.name))
    }

    /// The metrics of every sidecar of the content service, in one text.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn content_metrics(&self) -> Result<String> {
        let mut all = String::new();
        for version in ["v1", "v2"] {
            for pod in self.content(version).await? {
                let (status, text) =
                    self.mesh.admin_get(&target(&pod.name), METRICS, "/stats/prometheus").await?;
                anyhow::ensure!(status == 200, "{}: metrics: status {status}", pod.name);
                all += &text;
            }
        }
        Ok(all)
    }

    /// A page of the controller.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn controller(&self, path: &str) -> Result<Value> {
        match self.mesh.controller_get(path).await? {
            (200, body) => serde_json::from_str(&body).with_context(|| format!("controller: {path}")),
            (status, body) => bail!("controller: {path}: status {status}: {body}"),
        }
    }
}
