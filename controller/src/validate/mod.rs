//! An object to a fragment, or to what is wrong with it. Pure: the webhook, `weft validate`, the status and the
//! compiler all ask this one function, and so cannot disagree.

/// What validation finds.
pub mod findings;
/// Checks that several kinds share.
pub mod common;
/// Lists where maps belong.
pub mod shape;
/// The bounds that the API server keeps.
pub mod bounds;
/// The conditions of HTTP rules.
pub mod http_match;
/// What HTTP rules do.
pub mod http_action;
/// What few HTTP rules ask for.
pub mod http_extras;
/// VirtualServices.
pub mod virtual_service;
/// Limits and times of connections.
pub mod connection_pool;
/// When an endpoint is set aside.
pub mod outlier;
/// DestinationRules.
pub mod destination_rule;
/// Values of AuthorizationPolicies.
pub mod policy_values;
/// Conditions of AuthorizationPolicies.
pub mod condition;
/// AuthorizationPolicies.
pub mod authorization;
/// PeerAuthentications.
pub mod peer_authentication;
/// Sidecars.
pub mod sidecar;
/// Kubernetes' own kinds.
pub mod kubernetes;
/// Telemetries.
pub mod telemetry;
/// Telemetry in mesh-wide settings.
pub mod mesh_telemetry;
/// Mesh-wide settings.
pub mod mesh;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_core::model::name::ObjectName;
use weft_crds::core::{self, CoreKind};
use weft_crds::decode::{self, decode_object};
use weft_crds::kind::{self, Kind, LookupError};
use weft_crds::meta::ObjectMeta;
use weft_crds::schema;

use self::findings::Findings;
use crate::fragment::mesh::Mesh;
use crate::fragment::meta::{Age, Meta, Origin, Selector};
use crate::fragment::{Fragment, FragmentKey};
use crate::source::object::{Object, ObjectId};

/// What became of an object.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What is in force: nothing for an object that is refused, except a policy, which then denies.
    pub fragment: Option<Fragment>,
    /// All that was found.
    pub findings: Findings,
}

/// What an object means. One of a kind that the mesh does not read means nothing.
pub fn validate(object: &Object) -> Verdict {
    let mut findings = Findings::default();
    let fragment = match recognise(&object.id, object.api_version()) {
        Ok(Some(Recognised::Mesh(kind, origin))) => mesh_kind(&mut findings, kind, origin, object),
        Ok(Some(Recognised::Core(kind))) => core_kind(&mut findings, kind, object),
        Ok(None) => None,
        Err(error @ LookupError::NotHonouredYet { .. }) => {
            findings.unhonoured("kind", error.to_string());
            None
        }
        Err(error) => {
            findings.error("apiVersion", error.to_string());
            None
        }
    };
    let closed = matches!(fragment, Some(Fragment::AuthorizationPolicy(_)));
    Verdict { fragment: fragment.filter(|_| findings.accepted() || closed), findings }
}

/// The fragment that an object of this name makes, if the mesh reads its kind.
pub fn key_of(id: &ObjectId) -> Option<FragmentKey> {
    let name = ObjectName { namespace: id.namespace.clone(), name: id.name.clone() };
    let kinds = Kind::ALL.into_iter().flat_map(|kind| kind::Origin::ALL.map(|origin| (kind, origin)));
    let mut of_mesh =
        kinds.filter(|(kind, origin)| kind.name() == &*id.kind && kind.group(*origin) == &*id.group);
    if let Some((kind, origin)) = of_mesh.next() {
        let key = (name, origin_of(origin));
        return Some(match kind {
            Kind::VirtualService => FragmentKey::VirtualService(key),
            Kind::DestinationRule => FragmentKey::DestinationRule(key),
            Kind::AuthorizationPolicy => FragmentKey::AuthorizationPolicy(key),
            Kind::PeerAuthentication => FragmentKey::PeerAuthentication(key),
            Kind::Sidecar => FragmentKey::Sidecar(key),
            Kind::Telemetry => FragmentKey::Telemetry(key),
        });
    }
    Some(match (&*id.group, &*id.kind) {
        ("", "Namespace") => FragmentKey::Namespace(id.name.clone()),
        ("", "Service") => FragmentKey::Service(name),
        ("", "Pod") => FragmentKey::Pod(name),
        ("discovery.k8s.io", "EndpointSlice") => FragmentKey::EndpointSlice(name),
        ("", "ConfigMap") if is_mesh_settings(id) => FragmentKey::Mesh(id.namespace.clone()),
        _ => return None,
    })
}

enum Recognised {
    Mesh(Kind, kind::Origin),
    Core(CoreKind),
}

/// The kind, if it is one that the mesh reads; an error only for groups that are the mesh's.
fn recognise(id: &ObjectId, api_version: &str) -> Result<Option<Recognised>, LookupError> {
    let ours = kind::Origin::ALL.iter().any(|origin| origin.has_group(&id.group));
    match ours {
        true => {
            Kind::lookup(api_version, &id.kind).map(|(kind, origin)| Some(Recognised::Mesh(kind, origin)))
        }
        false => Ok(CoreKind::lookup(api_version, &id.kind).map(Recognised::Core)),
    }
}

fn is_mesh_settings(id: &ObjectId) -> bool {
    &*id.name == mesh::NAME && Mesh::is_root(&id.namespace)
}

fn mesh_kind(findings: &mut Findings, kind: Kind, origin: kind::Origin, object: &Object) -> Option<Fragment> {
    let spec = object.value.get("spec").cloned().unwrap_or(Value::Null);
    shape::check(findings, kind, &spec);
    let fragment = of_kind(findings, kind, origin_of(origin), object);
    bounds::check(findings, kind, origin, &spec);
    for path in weft_crds::honoured::unhonoured(kind, &spec) {
        if !findings.unhonoured.iter().any(|known| known.path == path) {
            findings.unhonoured(path, "is not honoured yet");
        }
    }
    // A policy is made before the table of fields has spoken.
    match fragment {
        Some(Fragment::AuthorizationPolicy(policy)) if !findings.accepted() => {
            Some(Fragment::AuthorizationPolicy(authorization::closed(policy.meta, policy.selector)))
        }
        other => other,
    }
}

fn of_kind(findings: &mut Findings, kind: Kind, origin: Origin, object: &Object) -> Option<Fragment> {
    match kind {
        Kind::VirtualService => {
            let (meta, spec) = typed(findings, object, origin)?;
            common::few_regexes(findings, "spec.http", &object.value["spec"]["http"]);
            Some(Fragment::VirtualService(virtual_service::virtual_service(findings, meta, &spec)))
        }
        Kind::DestinationRule => {
            let (meta, spec) = typed(findings, object, origin)?;
            let rule = destination_rule::destination_rule(findings, meta, &spec)?;
            Some(Fragment::DestinationRule(Box::new(rule)))
        }
        Kind::AuthorizationPolicy => Some(authorization_policy(findings, object, origin)),
        Kind::PeerAuthentication => {
            let (meta, spec) = typed(findings, object, origin)?;
            Some(Fragment::PeerAuthentication(peer_authentication::peer_authentication(
                findings, meta, &spec,
            )))
        }
        Kind::Sidecar => {
            let (meta, spec) = typed(findings, object, origin)?;
            Some(Fragment::Sidecar(sidecar::sidecar(findings, meta, &spec)))
        }
        Kind::Telemetry => {
            let (meta, spec) = typed(findings, object, origin)?;
            Some(Fragment::Telemetry(telemetry::telemetry(findings, meta, &spec)))
        }
    }
}

/// A policy whose shape is not understood denies what its selector selects, if that much can be read.
fn authorization_policy(findings: &mut Findings, object: &Object, origin: Origin) -> Fragment {
    let policy = match typed(findings, object, origin) {
        Some((meta, spec)) => authorization::authorization_policy(findings, meta, &spec),
        None => {
            let labels = &object.value["spec"]["selector"]["matchLabels"];
            let labels: BTreeMap<String, String> = serde_json::from_value(labels.clone()).unwrap_or_default();
            let meta =
                decode::decode::<ObjectMeta>(&object.value["metadata"]).map(|d| d.value).unwrap_or_default();
            authorization::closed(meta_of(object, &meta, origin), Selector(common::labels(&labels).to_vec()))
        }
    };
    Fragment::AuthorizationPolicy(policy)
}

fn core_kind(findings: &mut Findings, kind: CoreKind, object: &Object) -> Option<Fragment> {
    let meta = |meta: &ObjectMeta| meta_of(object, meta, Origin::Kubernetes);
    match kind {
        CoreKind::Namespace => {
            let written: core::Namespace = lenient(findings, object)?;
            Some(Fragment::Namespace(kubernetes::namespace(&meta(&written.metadata))))
        }
        CoreKind::Service => {
            let written: core::Service = lenient(findings, object)?;
            Some(Fragment::Service(kubernetes::service(findings, meta(&written.metadata), &written.spec)))
        }
        CoreKind::Pod => {
            let written: core::Pod = lenient(findings, object)?;
            Some(Fragment::Pod(kubernetes::pod(findings, meta(&written.metadata), &written)))
        }
        CoreKind::EndpointSlice => {
            let written: core::EndpointSlice = lenient(findings, object)?;
            kubernetes::endpoint_slice(findings, meta(&written.metadata), &written)
                .map(Fragment::EndpointSlice)
        }
        CoreKind::ConfigMap if is_mesh_settings(&object.id) => {
            let written: core::ConfigMap = lenient(findings, object)?;
            let settings = mesh::mesh(findings, &written.data);
            Some(Fragment::Mesh(object.id.namespace.clone(), settings))
        }
        CoreKind::ConfigMap | CoreKind::ServiceAccount => None,
    }
}

/// An object of the mesh's own kinds: a field that no type knows is an error.
fn typed<S: Default + DeserializeOwned>(
    findings: &mut Findings,
    object: &Object,
    origin: Origin,
) -> Option<(Meta, S)> {
    let weight = common::weight(&object.value);
    if weight > common::OBJECT_LIMIT {
        let reason = format!("the object has about {weight} bytes; the most is {}", common::OBJECT_LIMIT);
        findings.error("spec", reason);
        return None;
    }
    match decode_object::<S>(&object.value) {
        Ok(decoded) => {
            for (nth, path) in decoded.unknown.into_iter().enumerate() {
                let meant = if nth < HINTS { meant(object, &path) } else { None };
                findings.error(path, unknown(meant));
            }
            for path in decoded.nulls {
                findings.warn(path, "is null, which counts as not written");
            }
            Some((meta_of(object, &decoded.value.metadata, origin), decoded.value.spec))
        }
        Err(error) => {
            findings.error(error.path, error.reason);
            None
        }
    }
}

/// Of so many fields of an object that no type knows it is looked what was meant: that takes the kind's schema.
const HINTS: usize = 8;

fn meant(object: &Object, path: &str) -> Option<String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == &*object.id.kind)?;
    schema::meant(kind, path)
}

/// Why a field is refused that no type knows.
fn unknown(meant: Option<String>) -> String {
    match meant {
        Some(field) => format!("is not known (did you mean {field}?)"),
        None => "is not known; look for a slip of the pen, or a field of another kind or version".to_owned(),
    }
}

/// An object of Kubernetes: fields that the mesh does not read are no concern of its.
fn lenient<T: DeserializeOwned>(findings: &mut Findings, object: &Object) -> Option<T> {
    match decode::decode::<T>(&object.value) {
        Ok(decoded) => Some(decoded.value),
        Err(error) => {
            findings.error(error.path, error.reason);
            None
        }
    }
}

fn origin_of(origin: kind::Origin) -> Origin {
    match origin {
        kind::Origin::Weft => Origin::Weft,
        kind::Origin::Istio => Origin::Istio,
    }
}

fn meta_of(object: &Object, written: &ObjectMeta, origin: Origin) -> Meta {
    let name = ObjectName { namespace: object.id.namespace.clone(), name: object.id.name.clone() };
    let created = written.creation_timestamp.as_deref().unwrap_or_default().into();
    Meta {
        age: Age { created, name: name.name.clone(), namespace: name.namespace.clone() },
        name,
        labels: Arc::new(written.labels.clone()),
        annotations: Arc::new(written.annotations.clone()),
        origin,
    }
}

#[cfg(test)]
mod tests;
