//! Which fields of an object are kept: an object of the API server is cut down to what the mesh reads while it is being
//! decoded, so that what else it carries (managed fields, last applied configurations, a megabyte of annotations) is
//! never held.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Number, Value};

/// What is kept of a value.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// All of it.
    All,
    /// That it is there: an empty text stands for it.
    Mark,
    /// These members of an object, or of each object of a list.
    Members(&'static [(&'static str, Keep)]),
}

/// A kind of which some fields are read.
pub trait Fields: Clone + Send + 'static {
    /// What is kept of an object.
    const KEEP: Keep;
}

/// An object of which only the fields of `F` are kept.
#[derive(Clone, Debug)]
pub struct Kept<F> {
    /// What is left.
    pub value: Value,
    fields: PhantomData<F>,
}

macro_rules! metadata {
    ($labels:expr, $annotations:expr) => {
        (
            "metadata",
            Members(&[
                ("name", All),
                ("namespace", All),
                ("resourceVersion", All),
                ("uid", All),
                ("creationTimestamp", All),
                ("deletionTimestamp", Mark),
                ("generation", All),
                ("ownerReferences", Members(&[("kind", All), ("name", All), ("controller", All)])),
                ("labels", $labels),
                ("annotations", Members($annotations)),
            ]),
        )
    };
}

use Keep::{All, Mark, Members};

/// Namespaces.
#[derive(Clone, Debug)]
pub struct NamespaceFields;
/// Services.
#[derive(Clone, Debug)]
pub struct ServiceFields;
/// EndpointSlices.
#[derive(Clone, Debug)]
pub struct SliceFields;
/// Pods.
#[derive(Clone, Debug)]
pub struct PodFields;
/// ConfigMaps of mesh-wide settings.
#[derive(Clone, Debug)]
pub struct SettingsFields;
/// The mesh's own kinds.
#[derive(Clone, Debug)]
pub struct MeshFields;
/// CustomResourceDefinitions, as far as they say what is served.
#[derive(Clone, Debug)]
pub struct DefinitionFields;

impl Fields for NamespaceFields {
    const KEEP: Keep = Members(&[metadata!(All, &[])]);
}

impl Fields for ServiceFields {
    const KEEP: Keep = Members(&[
        metadata!(All, &[("networking.istio.io/exportTo", All), ("weft.dev/allow-routes-from", All)]),
        (
            "spec",
            Members(&[
                ("clusterIP", All),
                ("clusterIPs", All),
                ("externalIPs", All),
                ("externalName", All),
                ("ipFamilies", All),
                ("publishNotReadyAddresses", All),
                ("selector", All),
                ("type", All),
                (
                    "ports",
                    Members(&[
                        ("name", All),
                        ("port", All),
                        ("targetPort", All),
                        ("protocol", All),
                        ("appProtocol", All),
                    ]),
                ),
            ]),
        ),
    ]);
}

impl Fields for SliceFields {
    const KEEP: Keep = Members(&[
        metadata!(Members(&[("kubernetes.io/service-name", All)]), &[]),
        ("addressType", All),
        (
            "endpoints",
            Members(&[
                ("addresses", All),
                ("conditions", All),
                ("targetRef", Members(&[("kind", All), ("name", All)])),
                ("zone", All),
            ]),
        ),
        ("ports", Members(&[("name", All), ("port", All), ("protocol", All)])),
    ]);
}

/// What is kept of a container.
const CONTAINER: Keep =
    Members(&[("ports", Members(&[("name", All), ("containerPort", All), ("protocol", All)]))]);

impl Fields for PodFields {
    const KEEP: Keep = Members(&[
        metadata!(
            All,
            &[("weft.dev/status", Mark), ("weft.dev/trace-sampling", All), ("proxy.istio.io/config", All)]
        ),
        (
            "spec",
            Members(&[
                ("serviceAccountName", All),
                ("nodeName", All),
                ("hostNetwork", All),
                ("containers", CONTAINER),
                ("initContainers", CONTAINER),
            ]),
        ),
        (
            "status",
            Members(&[
                ("phase", All),
                ("podIP", All),
                ("podIPs", All),
                ("conditions", Members(&[("type", All), ("status", All)])),
            ]),
        ),
    ]);
}

impl Fields for SettingsFields {
    const KEEP: Keep = Members(&[metadata!(Members(&[]), &[]), ("data", Members(&[("mesh", All)]))]);
}

impl Fields for MeshFields {
    const KEEP: Keep = Members(&[metadata!(All, &[("istio.io/dry-run", All)]), ("spec", All)]);
}

impl Fields for DefinitionFields {
    const KEEP: Keep = Members(&[
        metadata!(Members(&[]), &[]),
        (
            "spec",
            Members(&[
                ("group", All),
                ("names", Members(&[("kind", All), ("plural", All)])),
                ("versions", Members(&[("name", All), ("served", All)])),
            ]),
        ),
    ]);
}

impl<'de, F: Fields> Deserialize<'de> for Kept<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = F::KEEP.deserialize(deserializer)?;
        Ok(Self { value, fields: PhantomData })
    }
}

impl<'de> DeserializeSeed<'de> for Keep {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Self::All => Value::deserialize(deserializer),
            Self::Mark => {
                let there = Option::<IgnoredAny>::deserialize(deserializer)?;
                Ok(there.map_or(Value::Null, |_| Value::String(String::new())))
            }
            Self::Members(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Keep {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match self.member(&key) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(keep) => {
                    let value = map.next_value_seed(keep)?;
                    if !value.is_null() {
                        kept.insert(key.into_owned(), value);
                    }
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            kept.push(item);
        }
        Ok(Value::Array(kept))
    }

    // What is no object where one is wanted is left for validation to name.
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

impl Keep {
    fn member(self, key: &str) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Mark => None,
            Self::Members(all) => all.iter().find(|(name, _)| *name == key).map(|(_, keep)| *keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept<F: Fields>(value: &Value) -> Value {
        serde_json::from_str::<Kept<F>>(&value.to_string()).unwrap().value
    }

    #[test]
    fn a_pod_is_cut_down_to_what_is_read() {
        let megabyte = "x".repeat(1 << 20);
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {"app": "a"},
                "annotations": {"big": megabyte, "weft.dev/status": megabyte},
                "managedFields": [{"manager": "kubectl"}],
                "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": true, "uid": "u"}],
                "deletionTimestamp": null,
            },
            "spec": {
                "serviceAccountName": "sa",
                "volumes": [{"name": "v"}],
                "containers": [{"name": "c", "image": "i", "env": [], "ports": [{"name": "web", "containerPort": 80}]}],
            },
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [],
                       "conditions": [{"type": "Ready", "status": "True", "message": "m"}]},
        });
        let wanted = json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"app": "a"},
                "annotations": {"weft.dev/status": ""},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": true}],
            },
            "spec": {
                "serviceAccountName": "sa", "containers": [{"ports": [{"name": "web", "containerPort": 80}]}],
            },
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                       "conditions": [{"type": "Ready", "status": "True"}]},
        });
        assert_eq!(kept::<PodFields>(&pod), wanted);
    }

    #[test]
    fn what_a_user_wrote_is_kept_whole_without_its_status() {
        let route = json!({
            "metadata": {"name": "r", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "spec": {"hosts": ["a"], "typo": 1, "http": [{"timeout": null}]},
            "status": {"conditions": []},
        });
        let wanted = json!({
            "metadata": {"name": "r", "annotations": {}},
            "spec": {"hosts": ["a"], "typo": 1, "http": [{"timeout": null}]},
        });
        assert_eq!(kept::<MeshFields>(&route), wanted);
    }

    #[test]
    fn nulls_and_odd_shapes_do_no_harm() {
        let slice = json!({"metadata": {"name": "s"}, "endpoints": null, "ports": "none", "addressType": 4});
        let wanted = json!({"metadata": {"name": "s"}, "ports": "none", "addressType": 4});
        assert_eq!(kept::<SliceFields>(&slice), wanted);
    }
}
