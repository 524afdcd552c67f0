//! Kubernetes in tests: a control plane of a test's own, and the cluster that the suites share.
//!
//! `ApiServer` is etcd, kube-apiserver and kube-controller-manager on ports of its own: no node, no root, three
//! seconds. `shared` is a cluster with nodes: that of KUBECONFIG; or one that kind makes, where Docker runs; or the
//! Docker-free one of `e2e/cluster`. Both end with the test, however it ends: what runs them waits for the end of a pipe
//! that the test's process holds.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::kubectl::{Kubectl, succeeded};

/// A control plane of its own.
#[derive(Debug)]
pub struct ApiServer {
    running: Running,
}

impl ApiServer {
    /// Starts one, and compiles it first if that was never done. `None` where the machine lacks what it takes: it says so.
    ///
    /// # Panics
    /// When it does not start; with `CI=true`, when something is lacking.
    pub fn start() -> Option<Self> {
        if lacking(&missing(&["python3", "openssl"])) {
            return None;
        }
        let running = Running::start(&["--no-node"]).expect("a control plane");
        Some(Self { running })
    }

    /// `kubectl` as its administrator.
    pub fn kubectl(&self) -> Kubectl {
        self.running.kubectl()
    }

    /// Where it is told how to reach it as its administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.running.kubeconfig
    }
}

/// A cluster with nodes.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    origin: Origin,
    _running: Option<Running>,
}

/// How a cluster came to be, which is how it gets images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// `e2e/cluster`.
    DockerFree,
    /// kind.
    Kind,
    /// Somebody's: it finds images by itself.
    Given,
}

/// The cluster that all tests of this process share. `None` where there is none and none can be made: it says why.
///
/// # Panics
/// When it cannot be made; with `CI=true`, when something is lacking.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(Cluster::find).as_ref()
}

impl Cluster {
    fn find() -> Option<Self> {
        if let Some(given) = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
            return Some(Self::given(&PathBuf::from(given)));
        }
        if let Some(there) = Self::up_already() {
            return Some(there);
        }
        if answers("kind", &["version"]) && answers("docker", &["info"]) {
            return Some(Self::made_by_kind().expect("a cluster of kind"));
        }
        let mut without = missing(&["python3", "openssl"]);
        if !is_root() {
            without.push("root, or KUBECONFIG, or kind with Docker".to_owned());
        }
        if lacking(&without) {
            return None;
        }
        let running = Running::start(&[]).expect("a cluster");
        Some(Self { kubectl: running.kubectl(), origin: Origin::DockerFree, _running: Some(running) })
    }

    /// The Docker-free one, where somebody keeps it up.
    fn up_already() -> Option<Self> {
        let kubeconfig = programs().with_file_name("run/admin.kubeconfig");
        let there = Self::given(&kubeconfig);
        let answers = kubeconfig.exists() && there.kubectl.run(&["get", "nodes"]).is_ok();
        (answers && there.origin == Origin::DockerFree).then_some(there)
    }

    fn given(kubeconfig: &Path) -> Self {
        let docker_free = kubeconfig.parent().is_some_and(|folder| folder.join("containerd.sock").exists());
        let (origin, programs) =
            if docker_free { (Origin::DockerFree, Some(programs())) } else { (Origin::Given, None) };
        Self { kubectl: Kubectl::new(kubeconfig, programs), origin, _running: None }
    }

    fn made_by_kind() -> Result<Self> {
        let mut command = Command::new(folder().join("kind/up"));
        let output = command.stderr(Stdio::inherit()).output()?;
        succeeded(&command, &output)?;
        let kubeconfig = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Self { kubectl: Kubectl::new(kubeconfig, None), origin: Origin::Kind, _running: None })
    }

    /// `kubectl` as its administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Whether images are put onto its nodes by [`Cluster::load`].
    pub fn takes_archives(&self) -> bool {
        self.origin != Origin::Given
    }

    /// Puts image archives onto its nodes. A cluster that was given must find its images by itself.
    ///
    /// # Errors
    /// What the loading program said.
    pub fn load(&self, archives: &[PathBuf]) -> Result<()> {
        let mut command = match self.origin {
            Origin::Given => return Ok(()),
            Origin::DockerFree => Command::new(script()),
            Origin::Kind => Command::new(folder().join("kind/load")),
        };
        if self.origin == Origin::DockerFree {
            command.arg("load");
        }
        let output = command.args(archives).output()?;
        succeeded(&command, &output)
    }
}

/// `cluster run`, which ends when its standard input is closed.
#[derive(Debug)]
struct Running {
    child: Child,
    kubeconfig: PathBuf,
}

impl Running {
    fn start(flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(script());
        command.arg("run").args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let output = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let kubeconfig = line.trim().strip_prefix("KUBECONFIG=").context("the cluster did not start")?.into();
        Ok(Self { child, kubeconfig })
    }

    fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig, Some(programs()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Compiles parts of a cluster, such as `helm`, where that was never done.
///
/// # Errors
/// It does not build.
pub fn build(parts: &[&str]) -> Result<()> {
    let mut command = Command::new(script());
    let output = command.arg("build").args(parts).stderr(Stdio::inherit()).output()?;
    succeeded(&command, &output)
}

/// A program that a test needs without a cluster (`jaeger`, `helm`), compiled where it is not there yet; `None`, said
/// once, on a machine without Go.
///
/// # Panics
/// With `CI` set, where it is not there and cannot be built.
pub fn program(name: &str) -> Option<PathBuf> {
    let program = programs().join(name);
    if program.exists() || (answers("go", &["version"]) && build(&[name]).is_ok()) {
        return Some(program);
    }
    assert!(std::env::var_os("CI").is_none(), "{name} is not there, and Go is not installed");
    eprintln!("skipped: {name} is not there; Go would compile it");
    None
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn script() -> PathBuf {
    folder().join("cluster/cluster")
}

/// The folder of `kubectl`, `helm` and the parts of a cluster, as `e2e/cluster/cluster --help` says.
fn programs() -> PathBuf {
    let given = std::env::var_os("WEFT_CLUSTER_DIR").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/weft-cluster");
    given.unwrap_or_else(home).join("bin")
}

/// Which of these programs are not here; and Go, unless what it would compile is there already.
fn missing(needed: &[&str]) -> Vec<String> {
    let mut without: Vec<String> =
        needed.iter().filter(|p| !answers(p, &["--help"])).map(ToString::to_string).collect();
    if !programs().join("hyperkube").exists() && !answers("go", &["version"]) {
        without.push("go".to_owned());
    }
    without
}

/// Says what is lacking, once for each; fails where CI is set.
fn lacking(without: &[String]) -> bool {
    if without.is_empty() {
        return false;
    }
    let why = format!("no Kubernetes: {} missing", without.join(", "));
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    true
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    let tried = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}
