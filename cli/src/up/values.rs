//! The values that a pod's containers get: variables, and files of volumes, out of the pod's own fields, ConfigMaps and
//! Secrets. Pure.

use std::collections::BTreeMap;

use base64::Engine;

use crate::up::manifest::{
    Container, Data, Downward, Env, EnvFrom, Item, Map, ObjectRef, Resource, Template, ValueFrom, Volume,
};
use crate::up::net::PodAddress;

/// What a pod may refer to: the ConfigMaps and Secrets of all namespaces by `namespace/name`.
#[derive(Clone, Copy, Debug)]
pub struct References<'a> {
    /// ConfigMaps.
    pub config_maps: &'a BTreeMap<String, Data>,
    /// Secrets.
    pub secrets: &'a BTreeMap<String, Data>,
}

/// Who a new pod is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique in this mesh.
    pub uid: String,
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub address: PodAddress,
}

/// A pod whose values are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Who it is.
    pub identity: &'a Identity,
    /// What it is made from.
    pub template: &'a Template,
    /// What it may refer to.
    pub refs: References<'a>,
}

type Files = BTreeMap<String, Vec<u8>>;

impl Values<'_> {
    /// A container's environment.
    ///
    /// # Errors
    /// The path of the field that cannot be resolved, and why.
    pub fn env(&self, c: &Container) -> Result<Vec<(String, String)>, String> {
        let mut env = vec![("HOSTNAME".to_owned(), self.identity.name.clone())];
        for (index, from) in c.env_from.iter().enumerate() {
            self.env_from(from, &mut env).map_err(|e| format!("envFrom[{index}]{e}"))?;
        }
        for (index, variable) in c.env.iter().enumerate() {
            let value = self.variable(c, variable, &env).map_err(|e| format!("env[{index}]{e}"))?;
            if let Some(value) = value {
                set(&mut env, &variable.name, value);
            }
        }
        Ok(env)
    }

    fn env_from(&self, from: &EnvFrom, env: &mut Vec<(String, String)>) -> Result<(), String> {
        let sources = [(&from.config_map_ref, false), (&from.secret_ref, true)];
        for (reference, secret) in sources {
            let Some(reference) = reference else { continue };
            for (key, value) in self.data(&reference.name, secret, reference.optional)? {
                let text = String::from_utf8(value).map_err(|_| format!(": key {key:?} is not text"))?;
                set(env, &format!("{}{key}", from.prefix), text);
            }
        }
        Ok(())
    }

    fn variable(
        &self,
        c: &Container,
        variable: &Env,
        env: &[(String, String)],
    ) -> Result<Option<String>, String> {
        match &variable.value_from {
            None => Ok(Some(expand(variable.value.as_deref().unwrap_or(""), env))),
            Some(ValueFrom { field_ref: Some(field), .. }) => {
                let value = self.field(&field.field_path);
                value.map(Some).ok_or_else(|| {
                    format!(".valueFrom.fieldRef.fieldPath: {:?} is not known here", field.field_path)
                })
            }
            Some(ValueFrom { config_map_key_ref: Some(key), .. }) => self.key(key, false),
            Some(ValueFrom { secret_key_ref: Some(key), .. }) => self.key(key, true),
            Some(ValueFrom { resource_field_ref: Some(asked), .. }) => resource(c, asked).map(Some),
            Some(_) => Err(
                ".valueFrom: one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef is required"
                    .into(),
            ),
        }
    }

    fn key(&self, key: &crate::up::manifest::KeyRef, secret: bool) -> Result<Option<String>, String> {
        let value = self.data(&key.name, secret, key.optional)?.remove(&key.key);
        match value {
            Some(bytes) => {
                String::from_utf8(bytes).map(Some).map_err(|_| format!(": key {:?} is not text", key.key))
            }
            None if key.optional => Ok(None),
            None => Err(format!(": {:?} has no key {:?}", key.name, key.key)),
        }
    }

    fn field(&self, path: &str) -> Option<String> {
        let (id, meta) = (self.identity, &self.template.metadata);
        let keyed = |prefix: &str, map: &Map| {
            let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
            Some(map.get(key).cloned().unwrap_or_default())
        };
        let addresses = || id.address.all().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match path {
            "metadata.name" => Some(id.name.clone()),
            "metadata.namespace" => Some(id.namespace.clone()),
            "metadata.uid" => Some(id.uid.clone()),
            "spec.serviceAccountName" => Some(self.template.spec.account().to_owned()),
            "spec.nodeName" => Some("local".into()),
            "status.podIP" => Some(id.address.v4.to_string()),
            "status.podIPs" => Some(addresses()),
            "status.hostIP" => Some(crate::up::net::GATEWAY.to_string()),
            _ => keyed("metadata.labels['", &meta.labels)
                .or_else(|| keyed("metadata.annotations['", &meta.annotations)),
        }
    }

    /// The files of a volume; none for one that begins empty.
    ///
    /// # Errors
    /// What cannot be resolved, and why.
    pub fn files(&self, volume: &Volume) -> Result<Option<Files>, String> {
        let Some(projected) = &volume.projected else {
            return self.of(&volume.config_map, &volume.secret, &volume.downward_api);
        };
        let mut all = Files::new();
        for source in &projected.sources {
            let files = self.of(&source.config_map, &source.secret, &source.downward_api)?;
            all.extend(files.unwrap_or_default());
        }
        Ok(Some(all))
    }

    fn of(
        &self,
        config_map: &Option<ObjectRef>,
        secret: &Option<ObjectRef>,
        own: &Option<Downward>,
    ) -> Result<Option<Files>, String> {
        match (config_map, secret, own) {
            (Some(config_map), ..) => self.picked(config_map, false).map(Some),
            (_, Some(secret), _) => self.picked(secret, true).map(Some),
            (_, _, Some(own)) => self.own(own).map(Some),
            _ => Ok(None),
        }
    }

    fn picked(&self, reference: &ObjectRef, secret: bool) -> Result<Files, String> {
        picked(self.data(&reference.name, secret, reference.optional)?, &reference.items)
    }

    fn own(&self, own: &Downward) -> Result<Files, String> {
        let file = |(index, item): (usize, &crate::up::manifest::DownwardItem)| {
            let meta = &self.template.metadata;
            let text = match item.field_ref.field_path.as_str() {
                "metadata.labels" => Some(lines(&meta.labels)),
                "metadata.annotations" => Some(lines(&meta.annotations)),
                path => self.field(path),
            };
            let unknown =
                || format!(".downwardAPI.items[{index}]: only a fieldRef that is known is taken here");
            Ok((item.path.clone(), text.ok_or_else(unknown)?.into_bytes()))
        };
        own.items.iter().enumerate().map(file).collect()
    }

    fn data(&self, name: &str, secret: bool, optional: bool) -> Result<Files, String> {
        let (all, kind) =
            if secret { (self.refs.secrets, "Secret") } else { (self.refs.config_maps, "ConfigMap") };
        let key = format!("{}/{name}", self.identity.namespace);
        match all.get(&key) {
            Some(data) => decode(data, secret),
            None if optional => Ok(BTreeMap::new()),
            None => Err(format!(": there is no {kind} {key}")),
        }
    }
}

/// As the kubelet writes labels.
fn lines(map: &Map) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect()
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    env.retain(|(n, _)| n != name);
    env.push((name.to_owned(), value));
}

fn decode(data: &Data, secret: bool) -> Result<Files, String> {
    let decoded = |(key, value): (&String, &String)| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.trim());
        bytes.map(|b| (key.clone(), b)).map_err(|e| format!(": key {key:?} is not base64: {e}"))
    };
    let plain = |(key, value): (&String, &String)| (key.clone(), value.clone().into_bytes());
    let mut all = BTreeMap::new();
    if secret {
        all.extend(data.data.iter().map(decoded).collect::<Result<Vec<_>, _>>()?);
        all.extend(data.string_data.iter().map(plain));
    } else {
        all.extend(data.data.iter().map(plain));
        all.extend(data.binary_data.iter().map(decoded).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(all)
}

fn picked(mut data: Files, items: &[Item]) -> Result<Files, String> {
    if items.is_empty() {
        return Ok(data);
    }
    let each = items.iter().map(|item| {
        let value = data.remove(&item.key).ok_or_else(|| format!(".items: no key {:?}", item.key))?;
        Ok((item.path.clone(), value))
    });
    each.collect()
}

/// Replaces `$(NAME)` by the variable's value; `$$(NAME)` stands for `$(NAME)`, unknown names stay as they are.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        let found =
            name.and_then(|(name, after)| env.iter().find(|(n, _)| n == name).map(|(_, v)| (v, after)));
        match found {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

/// What `resourceFieldRef` gives: in whole units of its divisor, rounded up.
fn resource(container: &Container, asked: &Resource) -> Result<String, String> {
    let bad = |what: &str| format!(".valueFrom.resourceFieldRef: cannot read {what:?}");
    let (list, name) = asked.resource.split_once('.').ok_or_else(|| bad(&asked.resource))?;
    let written = match list {
        "limits" => &container.resources.limits,
        "requests" => &container.resources.requests,
        _ => return Err(bad(&asked.resource)),
    };
    // Without a limit it is the node's: here, as if it were a small one.
    let amount = written.get(name).map_or(if name == "cpu" { "1" } else { "1Gi" }.to_owned(), text);
    let divisor = asked.divisor.as_ref().map_or("1".to_owned(), text);
    let divisor = quantity(&divisor).filter(|d| *d > 0.0).ok_or_else(|| bad(&divisor))?;
    let amount = quantity(&amount).ok_or_else(|| bad(&amount))?;
    Ok(format!("{:.0}", (amount / divisor - 1e-9).ceil()))
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `500m`, `64Mi`, `2`.
fn quantity(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 11] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    number.parse::<f64>().ok().map(|n| n * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let env = [("A".to_owned(), "1".to_owned())];
        assert_eq!(expand("$(A) $$(A) $(B) $A $", &env), "1 $(A) $(B) $A $");
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        assert_eq!(
            ["500m", "64Mi", "2", "1e3", "1.5G"].map(quantity),
            [0.5, 67_108_864.0, 2.0, 1e3, 1.5e9].map(Some)
        );
        assert_eq!(quantity("many"), None);
    }
}
