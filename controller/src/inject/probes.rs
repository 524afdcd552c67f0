//! Probes and lifecycle hooks by way of the sidecar.
//!
//! The kubelet speaks no mTLS: where STRICT holds, what it asks a pod's port for would be refused. So it asks the
//! sidecar's health port, under `/app-health/CONTAINER/`, and the sidecar, which was told what the author wrote,
//! asks the application from inside. A probe of a command needs no such help, nor does one that names another host.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::raw::{is_native_sidecar, items, name};
use super::settings::Ports;

/// The probes of a pod by their path at the sidecar, as the sidecar is told them.
pub(super) type Told = BTreeMap<String, Value>;

/// Path of what the sidecar answers for the application.
const PREFIX: &str = "/app-health/";
/// Lists of containers that can have probes.
const LISTS: [&str; 2] = ["containers", "initContainers"];
/// Where a container has something to ask, and its name at the sidecar.
const PLACES: [(&str, &str); 5] = [
    ("/livenessProbe", "livez"),
    ("/readinessProbe", "readyz"),
    ("/startupProbe", "startupz"),
    ("/lifecycle/postStart", "poststartz"),
    ("/lifecycle/preStop", "prestopz"),
];
/// What can be asked.
const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Sends the probes of the application's containers to the sidecar, and gives what it has to be told.
pub(super) fn rewrite(spec: &mut Value, ports: Ports, warnings: &mut Vec<String>) -> Told {
    let mut told = Told::new();
    for list in LISTS {
        for (i, container) in own_containers(spec, list) {
            let at = format!("spec.{list}[{i}]");
            rewrite_container(container, &at, ports, &mut told, warnings);
        }
    }
    told
}

/// Undoes [`rewrite`].
pub(super) fn restore(spec: &mut Value, told: &Told) {
    for list in LISTS {
        for (_, container) in own_containers(spec, list) {
            for (place, _) in PLACES {
                restore_one(container.pointer_mut(place), told);
            }
        }
    }
}

fn own_containers<'a>(spec: &'a mut Value, list: &str) -> impl Iterator<Item = (usize, &'a mut Value)> {
    let has_probes =
        move |list: &str, container: &Value| list == "containers" || is_native_sidecar(container);
    let list = list.to_owned();
    let all = spec.get_mut(&list).and_then(Value::as_array_mut);
    all.into_iter().flatten().enumerate().filter(move |(_, container)| has_probes(&list, container))
}

fn rewrite_container(
    container: &mut Value,
    at: &str,
    ports: Ports,
    told: &mut Told,
    warnings: &mut Vec<String>,
) {
    for (place, short) in PLACES {
        let path = format!("{PREFIX}{}/{short}", name(container));
        let Some(probe) = container.pointer(place).and_then(Value::as_object) else { continue };
        let asked = match original(container, probe, ports) {
            Ok(Some(mut asked)) => {
                if place.ends_with("Probe") {
                    asked["timeoutSeconds"] =
                        json!(probe.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(1));
                }
                asked
            }
            Ok(None) => continue,
            Err(problem) => {
                let field = place.replace('/', ".");
                warnings.push(format!("{at}{field}: {problem}; where mTLS is STRICT it fails"));
                continue;
            }
        };
        if let Some(probe) = container.pointer_mut(place).and_then(Value::as_object_mut) {
            ACTIONS.iter().for_each(|action| drop(probe.shift_remove(*action)));
            probe.insert("httpGet".to_owned(), json!({"path": path, "port": ports.health}));
        }
        told.insert(path, asked);
    }
}

/// What is asked, with the port as a number; `None` where it is not the sidecar's to ask.
fn original(container: &Value, probe: &Map<String, Value>, ports: Ports) -> Result<Option<Value>, String> {
    let Some(action) = ACTIONS.iter().find(|action| probe.get(**action).is_some_and(Value::is_object)) else {
        return Ok(None);
    };
    let mut asked = probe[*action].clone();
    let goes_elsewhere = asked["host"].as_str().is_some_and(|host| !host.is_empty());
    if goes_elsewhere {
        return Ok(None);
    }
    let port = number(container, &asked["port"])?;
    if port == ports.health || port == ports.metrics {
        return Ok(None);
    }
    asked["port"] = json!(port);
    Ok(Some(json!({ *action: asked })))
}

fn number(container: &Value, port: &Value) -> Result<u16, String> {
    let number = match port {
        Value::String(text) if text.parse::<u16>().is_err() => {
            let named = items(container, "ports").iter().find(|p| p["name"] == *text);
            named.ok_or_else(|| format!("the container has no port of the name `{text}`"))?["containerPort"]
                .as_u64()
        }
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0).ok_or_else(|| "has no port".to_owned())
}

fn restore_one(probe: Option<&mut Value>, told: &Told) {
    let Some(probe) = probe.and_then(Value::as_object_mut) else { return };
    let Some(asked) = probe.get("httpGet").and_then(|get| told.get(get["path"].as_str()?)) else { return };
    let asked = asked.as_object().into_iter().flatten().filter(|(key, _)| ACTIONS.contains(&key.as_str()));
    let asked: Vec<_> = asked.map(|(key, value)| (key.clone(), value.clone())).collect();
    probe.shift_remove("httpGet");
    probe.extend(asked);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "initContainers": [
                {"name": "once", "readinessProbe": {"tcpSocket": {"port": 1}}},
                {"name": "beside", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": "9000"}}}
            ],
            "containers": [{
                "name": "app",
                "ports": [{"name": "web", "containerPort": 8080}],
                "livenessProbe": {
                    "httpGet": {"path": "/live", "port": "web", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]},
                    "periodSeconds": 7, "timeoutSeconds": 3
                },
                "readinessProbe": {"grpc": {"port": 9001, "service": "x"}},
                "startupProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/stop", "port": 8080}}}
            }, {
                "name": "other",
                "livenessProbe": {"httpGet": {"path": "/", "port": 80, "host": "10.0.0.1"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": "nowhere"}},
                "startupProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}}
            }]
        })
    }

    #[test]
    fn probes_go_by_way_of_the_sidecar() {
        let (mut spec, mut warnings) = (spec(), Vec::new());
        let told = rewrite(&mut spec, Ports::default(), &mut warnings);
        let expected = json!({
            "/app-health/app/livez": {
                "httpGet": {"path": "/live", "port": 8080, "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]},
                "timeoutSeconds": 3
            },
            "/app-health/app/readyz": {"grpc": {"port": 9001, "service": "x"}, "timeoutSeconds": 1},
            "/app-health/app/prestopz": {"httpGet": {"path": "/stop", "port": 8080}},
            "/app-health/beside/startupz": {"tcpSocket": {"port": 9000}, "timeoutSeconds": 1}
        });
        assert_eq!(json!(told), expected);
        let app = &spec["containers"][0];
        let live = json!({
            "periodSeconds": 7, "timeoutSeconds": 3,
            "httpGet": {"path": "/app-health/app/livez", "port": 15021}
        });
        assert_eq!(app["livenessProbe"], live);
        assert_eq!(
            app["readinessProbe"],
            json!({"httpGet": {"path": "/app-health/app/readyz", "port": 15021}})
        );
        assert_eq!(app["startupProbe"]["exec"], json!({"command": ["true"]}));
        let named = "spec.containers[1].readinessProbe: the container has no port of the name `nowhere`; where mTLS is STRICT it fails";
        assert_eq!(warnings, [named]);
    }

    #[test]
    fn what_was_rewritten_comes_back() {
        let mut rewritten = spec();
        let told = rewrite(&mut rewritten, Ports::default(), &mut Vec::new());
        let mut restored = rewritten.clone();
        restore(&mut restored, &told);
        assert_eq!(restored["containers"][0]["readinessProbe"], spec()["containers"][0]["readinessProbe"]);
        let again = rewrite(&mut restored, Ports::default(), &mut Vec::new());
        assert_eq!((restored, again), (rewritten, told));
    }
}
