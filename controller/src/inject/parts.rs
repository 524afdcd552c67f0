//! What is put into a pod: the container that redirects, the sidecar, and their volumes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::options::Options;
use super::probes::Told;
use super::settings::{AccessLog, InjectionSettings, Ports, RedirectMode, Resources};
use super::traffic::Plan;

/// Name of the init container that redirects.
pub const REDIRECT: &str = "weft-redirect";
/// Name of the sidecar's container.
pub const SIDECAR: &str = "weft-proxy";
/// Names of the volumes.
pub const VOLUMES: [&str; 3] = ["weft-token", "weft-root", "weft-state"];
/// The variable that tells the sidecar which probes it answers.
pub(super) const PROBES: &str = "WEFT_APP_PROBES";
/// Where the sidecar keeps the last good configuration.
const STATE: &str = "/var/run/weft/state";

/// The init container that waits for the sidecar and sets up redirection: root, with the capabilities that takes and no
/// others.
pub(super) fn redirect(settings: &InjectionSettings, plan: &Plan) -> Value {
    let redirect = &settings.redirect;
    let iptables = redirect.mode == RedirectMode::Iptables;
    let mut container = json!({
        "name": REDIRECT,
        "image": redirect.image.as_ref().unwrap_or(&settings.image),
        "args": arguments(settings, plan),
        "resources": resources(&redirect.resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {
                "add": if iptables { vec!["NET_ADMIN", "NET_RAW"] } else { vec!["NET_ADMIN"] },
                "drop": ["ALL"]
            },
            "privileged": false,
            // iptables takes a lock file.
            "readOnlyRootFilesystem": !iptables,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"}
        }
    });
    pull_policy(&mut container, settings);
    container
}

fn arguments(settings: &InjectionSettings, plan: &Plan) -> Vec<String> {
    let (ports, usual) = (settings.ports, InjectionSettings::default());
    let mut args = vec!["redirect".to_owned(), format!("--once-ready={}", ports.health)];
    let mut differing = |flag: &str, value: String, usual: String| {
        if value != usual {
            args.push(format!("{flag}={value}"));
        }
    };
    differing("--within", settings.startup_seconds.to_string(), usual.startup_seconds.to_string());
    differing("--uid", settings.uid.to_string(), usual.uid.to_string());
    differing("--outbound-port", ports.outbound.to_string(), usual.ports.outbound.to_string());
    differing("--inbound-port", ports.inbound.to_string(), usual.ports.inbound.to_string());
    differing("--own-ports", own_ports(ports), own_ports(usual.ports));
    if settings.redirect.mode == RedirectMode::Iptables {
        args.push("--mode=iptables".to_owned());
    }
    args.extend(plan.args.iter().cloned());
    args
}

/// Ports of the sidecar that are reached directly from outside.
fn own_ports(ports: Ports) -> String {
    format!("{},{}", ports.metrics, ports.health)
}

/// The sidecar: a native one, that starts before the application and ends after it.
pub(super) fn sidecar(settings: &InjectionSettings, options: &Options, told: &Told) -> Value {
    let ports = settings.ports;
    let ready = json!({"path": "/healthz/ready", "port": ports.health});
    let mut container = json!({
        "name": SIDECAR,
        "image": settings.image,
        "args": ["run"],
        "restartPolicy": "Always",
        "ports": [{"name": "weft-metrics", "containerPort": ports.metrics, "protocol": "TCP"}],
        "env": environment(settings, options, told),
        "resources": resources(&options.resources),
        "readinessProbe": {
            "httpGet": ready,
            "initialDelaySeconds": options.readiness.initial_delay,
            "periodSeconds": options.readiness.period,
            "timeoutSeconds": 3,
            "failureThreshold": options.readiness.failures
        },
        "securityContext": confined(settings.uid),
        "volumeMounts": [
            {"name": "weft-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true},
            {"name": "weft-root", "mountPath": "/var/run/secrets/weft", "readOnly": true},
            {"name": "weft-state", "mountPath": STATE}
        ]
    });
    // Where a container follows that waits for the sidecar, the kubelet need not: it looks once a second.
    if options.redirect.is_none() {
        container["startupProbe"] = json!({
            "httpGet": {"path": "/healthz/startup", "port": ports.health},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": settings.startup_seconds
        });
    }
    pull_policy(&mut container, settings);
    container
}

/// All that Pod Security's `restricted` asks for.
fn confined(uid: u32) -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": uid,
        "runAsNonRoot": true,
        "runAsUser": uid,
        "seccompProfile": {"type": "RuntimeDefault"}
    })
}

fn environment(settings: &InjectionSettings, options: &Options, told: &Told) -> Vec<Value> {
    let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
    let mut env = vec![
        json!({"name": "WEFT_POD_NAME", "valueFrom": field("metadata.name")}),
        json!({"name": "WEFT_POD_NAMESPACE", "valueFrom": field("metadata.namespace")}),
        json!({"name": "WEFT_POD_IPS", "valueFrom": field("status.podIPs")}),
        json!({"name": "WEFT_SERVICE_ACCOUNT", "valueFrom": field("spec.serviceAccountName")}),
        json!({"name": "WEFT_CPU_REQUEST",
            "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1"}}}),
    ];
    for (name, value) in texts(settings, options, told) {
        env.retain(|variable| variable["name"] != name);
        env.push(json!({"name": name, "value": value}));
    }
    env
}

fn texts(settings: &InjectionSettings, options: &Options, told: &Told) -> BTreeMap<String, String> {
    let ports = settings.ports;
    let access = match settings.log.access {
        AccessLog::Off => "off",
        AccessLog::Json => "json",
        AccessLog::Text => "text",
    };
    let mut env: BTreeMap<String, String> = [
        ("WEFT_CONTROLLER", settings.controller.address.clone()),
        ("WEFT_CONTROLLER_NAME", settings.controller.name.clone()),
        ("WEFT_TRUST_DOMAIN", settings.trust_domain.clone()),
        ("WEFT_STATE_DIR", STATE.to_owned()),
        ("WEFT_OUTBOUND_PORT", ports.outbound.to_string()),
        ("WEFT_INBOUND_PORT", ports.inbound.to_string()),
        ("WEFT_ADMIN", format!("127.0.0.1:{}", ports.admin)),
        ("WEFT_METRICS_PORT", ports.metrics.to_string()),
        ("WEFT_HEALTH_PORT", ports.health.to_string()),
        ("WEFT_LOG", options.log_level.clone()),
        ("WEFT_ACCESS_LOG", access.to_owned()),
        ("WEFT_DRAIN_TIMEOUT", options.drain_timeout.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    env.extend(options.env.clone());
    // Text of ours: nothing of it is to be expanded by Kubernetes.
    env.extend((!told.is_empty()).then(|| (PROBES.to_owned(), json!(told).to_string().replace("$(", "$$("))));
    env
}

/// What the sidecar was told of probes, in a pod that has it.
pub(super) fn told(sidecar: &Value) -> Told {
    let variables = sidecar["env"].as_array().into_iter().flatten();
    let text = variables.filter(|v| v["name"] == PROBES).find_map(|v| v["value"].as_str());
    text.and_then(|text| serde_json::from_str(&text.replace("$$(", "$(")).ok()).unwrap_or_default()
}

/// Tells a sidecar anew of probes.
pub(super) fn tell(sidecar: &mut Value, told: &Told) {
    let Some(env) = sidecar["env"].as_array_mut() else { return };
    let text = json!(told).to_string().replace("$(", "$$(");
    match env.iter_mut().find(|variable| variable["name"] == PROBES) {
        Some(variable) => variable["value"] = json!(text),
        None if told.is_empty() => {}
        None => env.push(json!({"name": PROBES, "value": text})),
    }
}

/// The volumes that the sidecar mounts.
pub(super) fn volumes(settings: &InjectionSettings) -> Vec<Value> {
    vec![
        json!({"name": "weft-token", "projected": {"sources": [{"serviceAccountToken": {
            "audience": settings.token.audience,
            "expirationSeconds": settings.token.expiration_seconds,
            "path": "weft-token"
        }}]}}),
        json!({"name": "weft-root", "configMap": {"name": settings.root_config_map}}),
        json!({"name": "weft-state", "emptyDir": {"medium": "Memory", "sizeLimit": settings.state_size}}),
    ]
}

fn resources(resources: &Resources) -> Value {
    let mut map = Map::new();
    for (key, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        if !amounts.is_empty() {
            map.insert(key.to_owned(), json!(amounts));
        }
    }
    Value::Object(map)
}

fn pull_policy(container: &mut Value, settings: &InjectionSettings) {
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
}
