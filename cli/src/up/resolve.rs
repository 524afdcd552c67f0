//! From a pod's manifest to its plan. Pure.

use crate::up::injection::annotated;
use crate::up::manifest::{Container, Meta, PodSpec, Port, Template, Volume};
use crate::up::net::PodAddress;
use crate::up::plan::{
    Action, ContainerPlan, Content, ECHO_IMAGE, MountPlan, PodPlan, ProbePlan, Restart, VolumePlan,
};
use crate::up::probe::{PortRef, Probe};
use crate::up::values::{Identity, References, Values, expand};

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
    use std::collections::BTreeMap;

    use super::*;
    use crate::up::manifest::Data;

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
}
