//! A namespace of a test's own, and applications in it.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft::load::tally::Summary;
use weft_e2e::kubectl::Kubectl;
use weft_e2e::local::binary;

use crate::fixture::{Fixture, ROOT, explain_control_plane};

/// The image of the echo application.
pub(crate) const ECHO: &str = "localhost/weft-echo:dev";
/// Most lines of one log in an explanation.
const LINES: &str = "30";

/// A namespace that goes with the value; a test that fails is explained first.
pub(crate) struct Space<'a> {
    fixture: &'a Fixture,
    kubectl: Kubectl,
    test: &'static str,
}

impl<'a> Space<'a> {
    /// A namespace with these labels.
    pub(crate) fn new(fixture: &'a Fixture, test: &'static str, labels: &str) -> Self {
        let name = format!("{test}-{}", std::process::id());
        let namespace =
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}");
        fixture.kubectl().apply(&namespace).expect("a namespace");
        fixture.say(test);
        Self { fixture, kubectl: fixture.kubectl().within(&name), test }
    }

    /// A namespace whose pods get sidecars.
    pub(crate) fn meshed(fixture: &'a Fixture, test: &'static str) -> Self {
        Self::new(fixture, test, "weft.dev/injection: enabled")
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.kubectl.namespace()
    }

    /// `kubectl` in it.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Says what is going on.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        self.fixture.say(format!("{}: {}", self.test, text.as_ref()));
    }

    /// Applies manifests.
    pub(crate) fn apply(&self, manifests: &str) -> Result<String> {
        self.kubectl.apply(manifests)
    }

    /// Waits until all pods of a workload, such as `deployment/web`, are ready.
    pub(crate) fn ready(&self, workload: &str) -> Result<()> {
        self.kubectl.run(&["rollout", "status", workload, "--timeout=180s"]).map(drop)
    }

    /// An echo application of so many replicas, and its Service; not waited for.
    pub(crate) fn echo(&self, name: &str, replicas: u32, arguments: &str) -> Result<()> {
        self.apply(&echo(name, replicas, arguments)).map(drop)
    }

    /// Sends requests from a workload's container `app`, and counts the answers.
    pub(crate) fn load(&self, from: &str, arguments: &[&str]) -> Result<Summary> {
        self.loading(from, arguments)?.finish()
    }

    /// The same, going on.
    pub(crate) fn loading(&self, from: &str, arguments: &[&str]) -> Result<Loading> {
        let mut all = vec!["exec", from, "--container", "app", "--", "/weft", "load", "--output", "json"];
        all.extend(arguments);
        let mut command = self.kubectl.command(&all);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("kubectl exec")?;
        Ok(Loading { child, what: format!("{command:?}") })
    }

    /// `weft` asked about this namespace, not started yet.
    pub(crate) fn weft(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).args(["-n", self.name()]).env("KUBECONFIG", self.kubectl.kubeconfig());
        command.stdin(Stdio::null());
        command
    }

    /// The JSON that `weft` prints, whatever its exit code.
    pub(crate) fn weft_json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.weft(arguments).output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&out).with_context(|| format!("{arguments:?}: {out}{err}"))
    }

    fn explain(&self) -> String {
        let mut text = format!("\n=== {} failed; namespace {}\n", self.test, self.name());
        let mut add = |arguments: &[&str]| {
            let said = self.kubectl.run(arguments).unwrap_or_else(|e| format!("{e:#}"));
            text += &format!("--- kubectl {}\n{said}\n", arguments.join(" "));
        };
        add(&["get", "pods,services,endpointslices,deployments,statefulsets,jobs", "-o", "wide"]);
        add(&["get", "weft,istio-io", "-o", "yaml", "--ignore-not-found"]);
        add(&["get", "events", "--sort-by=.lastTimestamp"]);
        let pods = self.kubectl.run(&["get", "pods", "-o", "name"]).unwrap_or_default();
        for pod in pods.lines() {
            add(&["logs", pod, "--all-containers", "--prefix", "--tail", LINES]);
        }
        text + &format!("--- {ROOT}\n{}", explain_control_plane(self.fixture.kubectl()))
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fixture.say(self.explain());
        }
        let _ = self.fixture.kubectl().run(&["delete", "namespace", self.name(), "--wait=false"]);
    }
}

/// A load generator in a pod.
pub(crate) struct Loading {
    child: Child,
    what: String,
}

impl Loading {
    /// What it counted, once it has ended.
    pub(crate) fn finish(self) -> Result<Summary> {
        let output = self.child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last();
        let failed = || format!("{}: {text}{}", self.what, String::from_utf8_lossy(&output.stderr));
        let summary: Summary = last.and_then(|line| serde_json::from_str(line).ok()).with_context(failed)?;
        Ok(summary)
    }
}

/// All were answered 200.
///
/// # Errors
/// Some were not: how they were answered.
pub(crate) fn all_succeeded(summary: &Summary) -> Result<()> {
    let only = summary.statuses.keys().all(|status| status == "200");
    ensure!(
        summary.errors.is_empty() && only && summary.requests > 0,
        "not all were answered 200: {summary:?}"
    );
    Ok(())
}

/// How many were answered so.
pub(crate) fn answered(summary: &Summary, status: &str) -> u64 {
    summary.statuses.get(status).copied().unwrap_or(0)
}

/// The condition `Accepted` of an object.
///
/// # Errors
/// It has another status than this one: the object.
pub(crate) fn accepted(kubectl: &Kubectl, object: &str, status: &str) -> Result<Value> {
    let object = kubectl.get(&[object])?;
    let found = condition(&object, "Accepted").clone();
    ensure!(found["status"] == status, "Accepted is not {status}: {object}");
    Ok(found)
}

/// A condition of an object's status.
fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let all =
        object.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// The manifests of an echo application, with a service account and a Service (port 80) of its name.
pub(crate) fn echo(name: &str, replicas: u32, arguments: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  template:
    metadata: {{labels: {{app: {name}, version: v1}}}}
    spec:
      serviceAccountName: {name}
      containers:
      - {container}
",
        container = container(arguments),
    )
}

/// The echo application's container `app`, in one line.
pub(crate) fn container(arguments: &str) -> String {
    let pod = "{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}";
    format!(
        "{{name: app, image: {ECHO}, args: [--http, \"8080\"{arguments}], env: [{pod}], ports: [{{name: http, containerPort: 8080}}], \
         readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}, \
         livenessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 5}}}}"
    )
}
