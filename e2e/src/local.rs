//! Local meshes in tests: the binary, directories of manifests, and whether this machine can run them at all.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use weft::up::api::Logs;
use weft::up::{Mesh, Options, State, Target};

/// How long anything may take on a machine that is busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The namespace `default`, whose pods get sidecars; to be put behind other documents.
pub const INJECTED: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {weft.dev/injection: enabled}}
";

/// The file of a test that has one file of manifests.
pub const FILE: &str = "mesh.yaml";

/// A request of which only the status and the address that answered are told.
pub const CURL: &str = "curl -s -m 10 -o /dev/null -w '%{http_code} %{remote_ip}'";

/// Runs one test on a runtime of its own.
///
/// # Panics
/// When the test fails, or takes too long.
pub fn run(test: impl Future<Output = anyhow::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime
        .block_on(async { tokio::time::timeout(LIMIT * 3, test).await.expect("the test ends") })
        .expect("the test passes");
}

/// Runs a shell script as the application of a pod of the namespace `default`; its exit code, and what it wrote.
///
/// # Errors
/// When there is no such pod.
pub async fn sh(mesh: &Mesh, target: &str, script: &str) -> anyhow::Result<(i32, String)> {
    let output = mesh.exec(&pod(target), None, &["sh", "-c", script]).await?;
    Ok((output.code, format!("{}{}", output.stdout, output.stderr).trim().to_owned()))
}

/// What a container of a pod of the namespace `default` wrote, the first one's where none is named.
///
/// # Errors
/// When there is no such pod or container.
pub async fn log(mesh: &Mesh, target: &str, container: Option<&str>) -> anyhow::Result<String> {
    let container = container.map(str::to_owned);
    let mut text = String::new();
    let logs = Logs { target: pod(target), container, tail: None, follow: false };
    mesh.logs(logs, |part| text.push_str(part)).await?;
    Ok(text)
}

/// The `weft` binary of this build, built once; or the one that WEFT_E2E_BINARY names.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    if let Some(given) = std::env::var_os("WEFT_E2E_BINARY") {
        return given.into();
    }
    let test = std::env::current_exe().expect("this test's own path");
    let folder = test.ancestors().nth(2).expect("the folder of the profile").to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "weft", "--bin", "weft"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(built.success(), "weft does not build");
    folder.join("weft")
}

/// Whether this machine lacks something that a local mesh, or a test of one, needs. Says so once, and fails where `CI` is set.
///
/// # Panics
/// With `CI=true`, when something is lacking.
pub fn lacking(programs: &[&str]) -> bool {
    let why = programs.iter().find(|p| !installed(p)).map(|p| format!("{p} is not installed"));
    let Some(why) = why.or_else(no_namespaces) else { return false };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
    true
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Tried with util-linux's `unshare`, which every Debian has.
fn no_namespaces() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--pid", "--fork", "true"])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(e) => Some(format!("no unshare: {e}")),
    }
}

/// A directory of manifests that is gone with the value.
#[derive(Debug)]
pub struct Manifests(PathBuf);

impl Manifests {
    /// Manifests of a test that needs these programs and local meshes; `None` where one is lacking, as [`lacking`] says.
    ///
    /// # Panics
    /// As [`lacking`], and as [`Manifests::new`].
    pub fn of(programs: &[&str], text: &str) -> Option<Self> {
        if lacking(programs) {
            return None;
        }
        let manifests = Self::new();
        manifests.save(FILE, text);
        Some(manifests)
    }

    /// Runs a test on a mesh of them, from when all is ready; the mesh ends with the test.
    ///
    /// # Panics
    /// When the test fails, or takes too long.
    pub fn run(&self, test: impl AsyncFnOnce(&Mesh, State) -> anyhow::Result<()>) {
        run(async {
            let mesh = self.up().await?;
            let state = mesh.wait_ready(LIMIT).await?;
            test(&mesh, state).await?;
            mesh.down().await
        });
    }

    /// A new directory, readable by everybody.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weft-e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory for manifests");
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Saves a file in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn save(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a manifest");
    }

    /// Its name, which also names its mesh.
    pub fn name(&self) -> String {
        self.0.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Starts a mesh from it.
    ///
    /// # Errors
    /// When the mesh cannot be set up.
    pub async fn up(&self) -> anyhow::Result<Mesh> {
        Mesh::start(Options { name: self.name(), binary: Some(binary()), ..Options::new(&self.0) }).await
    }
}

impl Default for Manifests {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A pod, or a workload that stands for one, of the namespace `default`.
pub fn pod(name: &str) -> Target {
    Target { namespace: "default".into(), name: name.into() }
}
