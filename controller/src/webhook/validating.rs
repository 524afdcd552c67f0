//! The validating webhook: says of an object what `weft validate` and the status say of it. Pure.
//!
//! Objects of our own groups are refused where they are wrong. Those of Istio's groups are never refused, for an Istio
//! beside us may know better: what is wrong with them comes as a warning. Nobody is kept from mending or deleting an
//! object that is bad already.

use std::sync::Arc;

use serde_json::Value;
use weft_crds::kind::Origin;

use super::review::{Answer, Operation, Request};
use crate::analyse;
use crate::source::object::{Object, ObjectId, Place};
use crate::validate::findings::{Finding, Findings};
use crate::validate::validate;
use crate::world::World;

/// The most findings that one refusal names.
const NAMED: usize = 20;
/// The age of an object that has none yet: the youngest of all.
const NOT_YET: &str = "9999-12-31T23:59:59Z";

/// Answers a question about an object, in the company of what the world has.
pub fn review(request: &Request, world: &World) -> Answer {
    let changes = matches!(request.operation, Operation::Create | Operation::Update);
    let leaves = !request.object["metadata"]["deletionTimestamp"].is_null();
    if !changes || leaves || !request.object.is_object() {
        return Answer::default();
    }
    let object = object(request);
    let verdict = validate(&object);
    let mut findings = verdict.findings;
    if let Some(fragment) = verdict.fragment.filter(|_| findings.accepted()) {
        findings.warnings.extend(analyse::beside(world, fragment, &object.id));
    }
    let ours = Origin::Weft.has_group(&object.id.group);
    match ours && !only_its_frame_changes(request) {
        true => strictly(&findings),
        false => Answer::allow(all_as_warnings(&findings)),
    }
}

fn object(request: &Request) -> Object {
    let mut value = request.object.clone();
    let metadata = &mut value["metadata"];
    if metadata["creationTimestamp"].is_null() && metadata.is_object() {
        metadata["creationTimestamp"] = NOT_YET.into();
    }
    let name = match request.name.as_str() {
        "" => metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or_default(),
        name => name,
    };
    let id = ObjectId {
        group: request.kind.group.as_str().into(),
        kind: request.kind.kind.as_str().into(),
        namespace: request.namespace.as_str().into(),
        name: name.into(),
    };
    Object { id, value: Arc::new(value), place: Place::Cluster }
}

/// Whether labels, finalizers and their like change, and what the object says does not.
fn only_its_frame_changes(request: &Request) -> bool {
    request.operation == Operation::Update
        && request.old_object.is_object()
        && without_frame(&request.object) == without_frame(&request.old_object)
}

fn without_frame(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion")).collect()
}

fn strictly(findings: &Findings) -> Answer {
    let warnings = findings.warnings.iter().map(ToString::to_string).collect();
    let wrong: Vec<&Finding> = findings.errors.iter().chain(&findings.unhonoured).collect();
    if wrong.is_empty() {
        return Answer::allow(warnings);
    }
    let mut named: Vec<String> = wrong.iter().take(NAMED).map(ToString::to_string).collect();
    if wrong.len() > NAMED {
        named.push(format!("and {} more", wrong.len() - NAMED));
    }
    Answer::deny(named.join("; "), warnings)
}

fn all_as_warnings(findings: &Findings) -> Vec<String> {
    let wrong = findings.errors.iter().chain(&findings.unhonoured);
    let wrong = wrong.map(|finding| format!("not in force: {finding}"));
    wrong.chain(findings.warnings.iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(group: &str, kind: &str, spec: Value) -> Request {
        let object = json!({
            "apiVersion": format!("{group}/v1"), "kind": kind,
            "metadata": {"name": "x", "namespace": "shop"}, "spec": spec,
        });
        Request {
            uid: "u".into(),
            kind: super::super::review::GroupVersionKind {
                group: group.into(),
                version: "v1".into(),
                kind: kind.into(),
            },
            operation: Operation::Create,
            name: "x".into(),
            namespace: "shop".into(),
            object,
            old_object: Value::Null,
        }
    }

    fn bad() -> Value {
        json!({"hosts": ["a"], "http": [{"timeout": "5", "route": [{"destination": {"host": "a"}}]}]})
    }

    fn good() -> Value {
        json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]})
    }

    #[test]
    fn ours_are_refused_with_the_field_path_and_istios_are_warned_about() {
        let world = World::default();
        let ours = review(&request("networking.weft.dev", "VirtualService", bad()), &world);
        let why = ours.denied.unwrap();
        assert!(why.starts_with("spec.http[0].timeout: "), "{why}");
        let istios = review(&request("networking.istio.io", "VirtualService", bad()), &world);
        assert_eq!(istios.denied, None);
        assert_eq!(istios.warnings, [format!("not in force: {why}")]);
    }

    #[test]
    fn what_is_not_honoured_yet_is_refused_in_our_group_and_told_of_istios() {
        let world = World::default();
        let spec = json!({"hosts": ["a"], "http": [{"delegate": {"name": "b"}}]});
        let ours = review(&request("networking.weft.dev", "VirtualService", spec), &world);
        assert_eq!(ours.denied.as_deref(), Some("spec.http[0].delegate: is not honoured yet"));
        let later = review(&request("networking.istio.io", "ServiceEntry", json!({"hosts": ["x"]})), &world);
        assert_eq!(later.denied, None);
        assert!(later.warnings[0].contains("ServiceEntry"), "{:?}", later.warnings);
    }

    #[test]
    fn nobody_is_kept_from_mending_or_deleting_what_is_bad_already() {
        let world = World::default();
        let mut update = request("networking.weft.dev", "VirtualService", bad());
        update.operation = Operation::Update;
        update.old_object = update.object.clone();
        update.object["metadata"]["finalizers"] = json!([]);
        update.old_object["apiVersion"] = json!("networking.weft.dev/v1alpha1");
        let answer = review(&update, &world);
        assert_eq!(answer.denied, None);
        assert!(answer.warnings[0].starts_with("not in force: spec.http[0].timeout"), "{answer:?}");
        update.object["spec"]["http"][0]["timeout"] = json!("6");
        assert!(review(&update, &world).denied.is_some(), "another bad spec");
        update.object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(review(&update, &world), Answer::default());
        let mut delete = request("networking.weft.dev", "VirtualService", bad());
        (delete.operation, delete.old_object, delete.object) =
            (Operation::Delete, delete.object, Value::Null);
        assert_eq!(review(&delete, &world), Answer::default());
    }

    #[test]
    fn warnings_come_back_for_what_is_in_force() {
        let everyone = json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]});
        let answer =
            review(&request("security.weft.dev", "AuthorizationPolicy", everyone), &World::default());
        assert_eq!(answer.denied, None);
        assert!(answer.warnings[0].starts_with("spec.rules[0]: "), "{answer:?}");
        assert!(answer.warnings[0].contains("to everyone"), "{answer:?}");
        let hidden = json!({"hosts": ["a"], "http": [
            {"route": [{"destination": {"host": "a"}}]}, {"route": [{"destination": {"host": "b"}}]}]});
        let answer = review(&request("networking.weft.dev", "VirtualService", hidden), &World::default());
        assert!(answer.warnings[0].contains("is never reached"), "{answer:?}");
    }

    #[test]
    fn references_to_nothing_warn() {
        let mut world = World::default();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
        });
        let mut known = request("", "Service", Value::Null);
        (known.object, known.name) = (service, "b".into());
        let mut dirty = crate::world::dirty::Dirty::default();
        if let Some(fragment) = validate(&object(&known)).fragment {
            dirty.add(world.apply(fragment));
        }
        world.settle(&dirty);
        let answer = review(&request("networking.weft.dev", "VirtualService", good()), &world);
        assert_eq!(answer.denied, None);
        assert!(answer.warnings.iter().any(|w| w.contains("there is no Service")), "{answer:?}");
        assert!(world.virtual_services.in_force().next().is_none(), "the world is not changed");
    }

    #[test]
    fn f5_objects_that_make_no_sense_are_refused_and_never_panic() {
        for object in
            [json!({}), json!({"metadata": []}), json!({"metadata": null, "spec": 7}), json!({"spec": []})]
        {
            let mut odd = request("networking.weft.dev", "VirtualService", Value::Null);
            odd.object = object;
            assert!(review(&odd, &World::default()).denied.is_some(), "{odd:?}");
        }
        let mut none = request("networking.weft.dev", "VirtualService", Value::Null);
        none.object = Value::Null;
        assert_eq!(review(&none, &World::default()), Answer::default());
    }
}
