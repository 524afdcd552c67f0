//! What all tests share: a cluster with Weft in it, as the chart installs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use anyhow::Result;
use weft_e2e::cluster::{self, Cluster};
use weft_e2e::kubectl::{Kubectl, succeeded};

/// How long anything may take on a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);
/// The namespace of the control plane.
pub(crate) const ROOT: &str = "weft-system";

/// A cluster with Weft in it.
#[derive(Debug)]
pub(crate) struct Fixture {
    cluster: &'static Cluster,
    calm: RwLock<()>,
    began: Instant,
}

/// The fixture, made at the first call; `None` where no cluster can be had, which was said.
pub(crate) fn fixture() -> Option<&'static Fixture> {
    static MADE: OnceLock<Option<Fixture>> = OnceLock::new();
    let make = || {
        let began = Instant::now();
        let fixture = Fixture { cluster: cluster::shared()?, calm: RwLock::new(()), began };
        fixture.prepare().expect("Weft is installed");
        Some(fixture)
    };
    MADE.get_or_init(make).as_ref()
}

impl Fixture {
    /// Runs a test beside others, in which the controller is there.
    pub(crate) fn calm(&self) -> RwLockReadGuard<'_, ()> {
        self.calm.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs a test that takes the controller away: no other runs.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.calm.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// `kubectl`.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        self.cluster.kubectl()
    }

    /// Says what is going on, whether or not the test passes.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        let line = format!("  [{:4.0} s] {}\n", self.began.elapsed().as_secs_f64(), text.as_ref());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn prepare(&self) -> Result<()> {
        if self.cluster.takes_archives() {
            self.say("building images");
            self.cluster.load(&images()?)?;
        }
        cluster::build(&["helm"])?;
        self.say("installing the chart");
        let namespace = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ROOT}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
        );
        self.kubectl().apply(&namespace)?;
        self.install(&[])?;
        self.say("Weft is installed");
        Ok(())
    }

    /// Installs or upgrades the chart, and waits until it is ready.
    pub(crate) fn install(&self, more: &[&str]) -> Result<String> {
        let images = ["image.registry=localhost", "image.tag=dev", "image.pullPolicy=IfNotPresent"];
        let mut arguments = vec!["upgrade", "--install", "weft", "--wait", "--timeout", "3m"];
        arguments.extend(images.iter().chain(more).flat_map(|value| ["--set", value]));
        self.helm(&arguments, Some(&chart()))
    }

    /// Other values of the chart until what is returned goes.
    pub(crate) fn changed(&self, values: &[&str]) -> Result<Changed<'_>> {
        let changed = Changed(self);
        self.install(values)?;
        Ok(changed)
    }

    /// `helm` in the control plane's namespace.
    pub(crate) fn helm(&self, arguments: &[&str], chart: Option<&Path>) -> Result<String> {
        let mut command = self.kubectl().program("helm");
        command.args(arguments).args(["--namespace", ROOT]).args(chart);
        let output = command.output()?;
        if !output.status.success() {
            self.say(explain_control_plane(self.kubectl()));
        }
        succeeded(&command, &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The chart has values of a test's own.
pub(crate) struct Changed<'a>(&'a Fixture);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.install(&[]) {
            self.0.say(format!("the chart's own values again: {error:#}"));
        }
    }
}

/// The chart of this repository.
pub(crate) fn chart() -> PathBuf {
    repository().join("charts/weft")
}

/// This repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).expect("e2e is in the repository").to_owned()
}

/// Builds the images, unless WEFT_E2E_IMAGES says that what lies there is to be used.
fn images() -> Result<Vec<PathBuf>> {
    let archives = ["weft-proxy", "weft-controller", "weft-echo"];
    if std::env::var_os("WEFT_E2E_IMAGES").is_none() {
        let mut command = Command::new(repository().join("e2e/images"));
        let output = command.stderr(Stdio::inherit()).output()?;
        succeeded(&command, &output)?;
    }
    Ok(archives.map(|name| repository().join(format!("target/images/{name}.tar"))).into())
}

/// The state and the logs of the control plane.
pub(crate) fn explain_control_plane(kubectl: &Kubectl) -> String {
    let root = kubectl.within(ROOT);
    let parts = [
        vec!["get", "pods,leases", "-o", "wide"],
        vec!["describe", "pods", "--selector", "app.kubernetes.io/name=weft-controller"],
        vec!["get", "events", "--sort-by=.lastTimestamp"],
        vec!["logs", "--selector", "app.kubernetes.io/name=weft-controller", "--tail", "40", "--prefix"],
    ];
    parts
        .iter()
        .map(|part| root.run(part).unwrap_or_else(|e| format!("{e:#}\n")))
        .collect::<Vec<_>>()
        .join("\n")
}
