//! From a pod's manifest to what its agent has to run, with every value resolved. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_controller::inject::{Annotated, InjectionSettings, Injector, Namespace, Skipped};

use crate::up::manifest::{Container, Meta, PodSpec, Port, Template, Volume};
use crate::up::net::PodAddress;
use crate::up::probe::{PortRef, Probe};
use crate::up::values::{Identity, References, Values, expand};

/// The image that needs no image.
pub const ECHO_IMAGE: &str = "weft/echo";
/// The container name by which the sidecar is known.
pub const SIDECAR: &str = "weft-proxy";

/// What one pod's agent runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodPlan {
    /// Unique in this mesh, for ever.
    pub uid: String,
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What `hostname` says in it.
    pub hostname: String,
    /// Its addresses.
    pub address: PodAddress,
    /// When ended containers start again.
    pub restart: Restart,
    /// Seconds that containers may take to end.
    pub grace: u64,
    /// What runs first, in this order.
    pub init: Vec<ContainerPlan>,
    /// What runs.
    pub containers: Vec<ContainerPlan>,
    /// What they share.
    pub volumes: Vec<VolumePlan>,
    /// Its sidecar.
    pub sidecar: Option<SidecarPlan>,
    /// Further lines of its hosts file.
    pub host_aliases: Vec<String>,
}

/// When ended containers start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Whenever they end.
    Always,
    /// When they fail.
    OnFailure,
    /// Not.
    Never,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Its name.
    pub name: String,
    /// Program and arguments; the program `weft/echo` is this binary's own.
    pub argv: Vec<String>,
    /// Its whole environment but for what every container gets.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// Its user; never 0.
    pub uid: Option<u32>,
    /// Whether it is an init container that runs on beside the others.
    pub beside: bool,
    /// What it mounts.
    pub mounts: Vec<MountPlan>,
    /// Whether it may get requests.
    pub readiness: Option<ProbePlan>,
    /// Whether it must be restarted.
    pub liveness: Option<ProbePlan>,
    /// Whether it has started.
    pub startup: Option<ProbePlan>,
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Which volume.
    pub volume: String,
    /// A path in it.
    pub sub_path: Option<String>,
    /// Where it appears.
    pub target: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePlan {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing, at first.
    Empty,
    /// Files by path.
    Files(BTreeMap<String, Vec<u8>>),
    /// A path of this machine.
    Host(String),
}

/// A probe, defaults filled in; times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// What is asked.
    pub action: Action,
    /// Before the first.
    pub delay: u64,
    /// Between two.
    pub period: u64,
    /// For one.
    pub timeout: u64,
    /// Failures in a row that count.
    pub failures: u32,
    /// Successes in a row that count.
    pub successes: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A command's exit code.
    Exec(Vec<String>),
    /// A port, path and headers.
    Http(u16, String, Vec<(String, String)>),
    /// A port.
    Tcp(u16),
    /// A port and a service's name, by gRPC's protocol of health.
    Grpc(u16, String),
}

/// A pod's sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarPlan {
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What is redirected to it, as arguments of `weft-proxy redirect`; `None` for nothing.
    pub redirect: Option<Vec<String>>,
}

/// Resolves a template for one pod. The sidecar is the caller's to add.
///
/// # Errors
/// The path of the field that cannot be resolved, and why.
pub fn plan(identity: &Identity, template: &Template, refs: References<'_>) -> Result<PodPlan, String> {
    let pod = Pod { template, values: Values { identity, template, refs } };
    let spec = &template.spec;
    let containers = pod.containers("containers", &spec.containers)?;
    if containers.is_empty() {
        return Err("spec.containers: at least one is required".into());
    }
    Ok(PodPlan {
        uid: identity.uid.clone(),
        namespace: identity.namespace.clone(),
        name: identity.name.clone(),
        hostname: spec.hostname.clone().unwrap_or_else(|| identity.name.clone()),
        address: identity.address,
        restart: restart(spec)?,
        grace: spec.termination_grace_period_seconds.unwrap_or(30),
        init: pod.containers("initContainers", &spec.init_containers)?,
        containers,
        volumes: spec.volumes.iter().map(|v| pod.volume(v)).collect::<Result<_, _>>()?,
        sidecar: None,
        host_aliases: spec
            .host_aliases
            .iter()
            .map(|a| format!("{} {}", a.ip, a.hostnames.join(" ")))
            .collect(),
    })
}

/// Checks a template without making a pod of it; what of it has no effect.
///
/// # Errors
/// As [`plan`].
pub fn check(meta: &Meta, template: &Template, refs: References<'_>) -> Result<Vec<String>, String> {
    let identity = Identity {
        uid: String::new(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        address: PodAddress::nth(0, false),
    };
    plan(&identity, template, refs).map(drop)?;
    annotated(&template.metadata).map(|said| said.warnings)
}

/// The number of a named port, in whichever container has it.
pub fn named_port(spec: &PodSpec, port: &PortRef) -> Option<u16> {
    match port {
        PortRef::Number(number) => Some(*number),
        PortRef::Name(name) => {
            let beside = spec.init_containers.iter().filter(|c| c.restart_policy.is_some());
            let mut ports = spec.containers.iter().chain(beside).flat_map(|c| &c.ports);
            ports.find(|p: &&Port| p.name.as_deref() == Some(name)).map(|p| p.container_port)
        }
    }
}

/// Whether a template's pods get a sidecar: what the injector says in a cluster.
///
/// # Errors
/// Why not.
pub fn injected(namespace: Namespace<'_>, template: &Template) -> Result<(), Skipped> {
    let named = |c: &Container| json!({ "name": c.name, "image": c.image });
    let mut pod = raw(&template.metadata);
    pod["spec"] = json!({ "containers": template.spec.containers.iter().map(named).collect::<Vec<_>>() });
    Injector::new(InjectionSettings::default()).select(namespace, &pod)
}

/// What a pod's annotations say of its sidecar: what the injector reads in a cluster.
///
/// # Errors
/// The annotation that cannot be read.
pub fn annotated(meta: &Meta) -> Result<Annotated, String> {
    Injector::new(InjectionSettings::default()).annotated(&raw(meta)).map_err(|e| e.to_string())
}

/// As much of a pod as its author's word on the sidecar needs.
fn raw(meta: &Meta) -> Value {
    json!({ "metadata": { "labels": meta.labels, "annotations": meta.annotations } })
}

struct Pod<'a> {
    template: &'a Template,
    values: Values<'a>,
}

impl Pod<'_> {
    fn containers(&self, list: &str, all: &[Container]) -> Result<Vec<ContainerPlan>, String> {
        let each = all.iter().enumerate();
        each.map(|(i, c)| self.container(c).map_err(|e| format!("spec.{list}[{i}].{e}"))).collect()
    }

    fn container(&self, c: &Container) -> Result<ContainerPlan, String> {
        let env = self.values.env(c)?;
        let words = c.command.iter().chain(&c.args).map(|word| expand(word, &env));
        let mut argv: Vec<String> = words.collect();
        if c.command.is_empty() {
            let image = c.image.rsplit_once(':').map_or(c.image.as_str(), |(name, _)| name);
            if image != ECHO_IMAGE {
                return Err(format!(
                    "command: container {:?} has none; a local mesh does not use images, so write the command to run \
                     (only {ECHO_IMAGE} is built in)",
                    c.name
                ));
            }
            argv.insert(0, ECHO_IMAGE.to_owned());
        }
        let probe = |p: &Option<Probe>, name: &str| {
            p.as_ref().map(|p| self.probe(p).map_err(|e| format!("{name}{e}"))).transpose()
        };
        Ok(ContainerPlan {
            name: c.name.clone(),
            argv,
            cwd: c.working_dir.clone(),
            uid: self.uid(c),
            beside: c.restart_policy.as_deref() == Some("Always"),
            mounts: c
                .volume_mounts
                .iter()
                .enumerate()
                .map(|(i, m)| self.mount(i, m))
                .collect::<Result<_, _>>()?,
            readiness: probe(&c.readiness_probe, "readinessProbe")?,
            liveness: probe(&c.liveness_probe, "livenessProbe")?,
            startup: probe(&c.startup_probe, "startupProbe")?,
            env,
        })
    }

    fn uid(&self, c: &Container) -> Option<u32> {
        let of_pod = self.template.spec.security_context.as_ref();
        let contexts = [c.security_context.as_ref(), of_pod];
        contexts.into_iter().flatten().find_map(|s| s.run_as_user).filter(|uid| *uid != 0)
    }

    fn mount(&self, index: usize, mount: &crate::up::manifest::Mount) -> Result<MountPlan, String> {
        let known = self.template.spec.volumes.iter().any(|v| v.name == mount.name);
        if !known {
            return Err(format!("volumeMounts[{index}].name: no volume is called {:?}", mount.name));
        }
        if !mount.mount_path.starts_with('/') {
            return Err(format!("volumeMounts[{index}].mountPath: must start with /"));
        }
        Ok(MountPlan {
            volume: mount.name.clone(),
            sub_path: mount.sub_path.clone(),
            target: mount.mount_path.clone(),
            read_only: mount.read_only,
        })
    }

    fn volume(&self, volume: &Volume) -> Result<VolumePlan, String> {
        let content = match &volume.host_path {
            Some(host) => Ok(Content::Host(host.path.clone())),
            None => self.values.files(volume).map(|files| files.map_or(Content::Empty, Content::Files)),
        };
        let content = content.map_err(|e| format!("spec.volumes[{}]{e}", volume.name))?;
        Ok(VolumePlan { name: volume.name.clone(), content })
    }

    fn probe(&self, probe: &Probe) -> Result<ProbePlan, String> {
        let port = |port: &PortRef, at: &str| {
            named_port(&self.template.spec, port)
                .ok_or_else(|| format!(".{at}.port: no container port is called {port:?}"))
        };
        let action = match probe {
            Probe { exec: Some(exec), .. } => Action::Exec(exec.command.clone()),
            Probe { tcp_socket: Some(tcp), .. } => Action::Tcp(port(&tcp.port, "tcpSocket")?),
            Probe { http_get: Some(http), .. } => {
                if http.scheme.as_deref().is_some_and(|s| s != "HTTP") {
                    return Err(".httpGet.scheme: only HTTP is known here".into());
                }
                let headers = http.http_headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
                Action::Http(
                    port(&http.port, "httpGet")?,
                    http.path.clone().unwrap_or_else(|| "/".into()),
                    headers,
                )
            }
            Probe { grpc: Some(grpc), .. } => {
                Action::Grpc(grpc.port, grpc.service.clone().unwrap_or_default())
            }
            _ => return Err(": one of exec, grpc, httpGet and tcpSocket is required".into()),
        };
        Ok(ProbePlan {
            action,
            delay: probe.initial_delay_seconds.unwrap_or(0),
            period: probe.period_seconds.unwrap_or(10).max(1),
            timeout: probe.timeout_seconds.unwrap_or(1).max(1),
            failures: probe.failure_threshold.unwrap_or(3).max(1),
            successes: probe.success_threshold.unwrap_or(1).max(1),
        })
    }
}

fn restart(spec: &PodSpec) -> Result<Restart, String> {
    match spec.restart_policy.as_deref() {
        None | Some("Always") => Ok(Restart::Always),
        Some("OnFailure") => Ok(Restart::OnFailure),
        Some("Never") => Ok(Restart::Never),
        Some(other) => Err(format!("spec.restartPolicy: {other:?} is none of Always, OnFailure, Never")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::manifest::Data;
    use crate::up::manifest::Map;

    fn template(yaml: &str) -> Template {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn planned(yaml: &str) -> Result<PodPlan, String> {
        let maps = BTreeMap::from([(
            "default/settings".to_owned(),
            serde_saphyr::from_str::<Data>(
                "{metadata: {name: settings}, data: {LEVEL: high, file.conf: a=1}}",
            )
            .unwrap(),
        )]);
        let refs = References { config_maps: &maps, secrets: &BTreeMap::new() };
        let (namespace, name) = ("default".to_owned(), "web-0".to_owned());
        let identity = Identity { uid: "u".into(), namespace, name, address: PodAddress::nth(0, false) };
        plan(&identity, &template(yaml), refs)
    }

    #[test]
    fn environment_comes_from_fields_and_config_maps() {
        let plan = planned(
            "{spec: {containers: [{name: c, command: [run, '$(IP):80'], envFrom: [{configMapRef: {name: settings}}],
              env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: L2, value: 'very $(LEVEL)'}]}]}}",
        )
        .unwrap();
        let c = &plan.containers[0];
        assert_eq!(c.argv, ["run", "10.244.0.2:80"]);
        assert!(c.env.contains(&("L2".into(), "very high".into())), "{:?}", c.env);
    }

    #[test]
    fn volumes_and_variables_tell_of_the_pod_itself() {
        let plan = planned(
            "{metadata: {labels: {app: web, tier: a}}, spec: {
              containers: [{name: c, command: [run], resources: {limits: {cpu: 1500m, memory: 64Mi}}, env: [
                {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
                {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]}],
              volumes: [
                {name: v, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}},
                {name: w, projected: {sources: [{configMap: {name: settings}},
                  {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}]}}",
        )
        .unwrap();
        let has = |name: &str, value: &str| plan.containers[0].env.contains(&(name.into(), value.into()));
        assert!(has("CPU", "2") && has("MEM", "64"), "{:?}", plan.containers[0].env);
        let Content::Files(labels) = &plan.volumes[0].content else { panic!("files") };
        assert_eq!(labels["labels"], b"app=\"web\"\ntier=\"a\"\n");
        let Content::Files(all) = &plan.volumes[1].content else { panic!("files") };
        assert_eq!((all["name"].as_slice(), all["LEVEL"].as_slice()), (&b"web-0"[..], &b"high"[..]));
    }

    #[test]
    fn a_container_without_a_command_is_an_error_that_names_it() {
        let error = planned("{spec: {containers: [{name: web, image: nginx}]}}").unwrap_err();
        assert!(error.starts_with("spec.containers[0].command: container \"web\" has none"), "{error}");
        let echo =
            planned("{spec: {containers: [{name: web, image: 'weft/echo:1', args: [--port=1]}]}}").unwrap();
        assert_eq!(echo.containers[0].argv, ["weft/echo", "--port=1"]);
    }

    #[test]
    fn missing_references_name_their_field() {
        let error =
            planned("{spec: {containers: [{name: a, command: [b], envFrom: [{configMapRef: {name: no}}]}]}}");
        assert_eq!(error.unwrap_err(), "spec.containers[0].envFrom[0]: there is no ConfigMap default/no");
        let error = planned(
            "{spec: {containers: [{name: a, command: [b], volumeMounts: [{name: v, mountPath: /x}]}]}}",
        );
        assert_eq!(error.unwrap_err(), "spec.containers[0].volumeMounts[0].name: no volume is called \"v\"");
    }

    #[test]
    fn the_pod_decides_on_injection_before_its_namespace() {
        let on = Map::from([("istio-injection".to_owned(), "enabled".to_owned())]);
        let off = Map::new();
        let pod = |inject: &str| {
            template(&format!("{{metadata: {{annotations: {{sidecar.istio.io/inject: '{inject}'}}}}}}"))
        };
        let injected = |labels: &Map, pod: &Template| {
            super::injected(Namespace { name: "default", labels }, pod).is_ok()
        };
        assert!(injected(&on, &Template::default()) && !injected(&on, &pod("false")));
        assert!(injected(&off, &pod("true")) && !injected(&off, &Template::default()));
    }

    #[test]
    fn annotations_are_read_as_in_a_cluster() {
        let read = |key: &str, value: &str| {
            let annotations = [(key.to_owned(), value.to_owned())].into();
            annotated(&Meta { annotations, ..Meta::default() })
        };
        let ports = read("traffic.sidecar.istio.io/includeOutboundPorts", "5432").unwrap();
        assert_eq!(ports.redirect.unwrap(), ["--include-outbound-ports=5432"]);
        assert_eq!(read("sidecar.istio.io/interceptionMode", "NONE").unwrap().redirect, None);
        let config = read("proxy.istio.io/config", "proxyMetadata: {WEFT_ACCESS_LOG: json}").unwrap();
        assert_eq!(config.env["WEFT_ACCESS_LOG"], "json");
        let scraped = read("prometheus.io/port", "9090").unwrap();
        assert_eq!(scraped.env["WEFT_APP_METRICS"], "9090/metrics");
        assert_eq!(read("sidecar.istio.io/nonsense", "x").unwrap().warnings.len(), 1);
        assert!(
            read("proxy.istio.io/config", "concurrency: many")
                .unwrap_err()
                .starts_with("metadata.annotations[proxy.istio.io/config]")
        );
    }
}
