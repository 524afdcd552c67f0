//! Asking the API server. What this user may not see is left out, and judged as absent.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde_json::{Value, json};
use weft_controller::leader;

use crate::check::facts::Facts;
use crate::objects::{self, items, name, namespace};

/// What an install creates: group, resource, and whether it is in a namespace.
const CREATED: [(&str, &str, bool); 6] = [
    ("apps", "deployments", true),
    ("", "secrets", true),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
];
/// The mesh's kinds, by group.
const KINDS: [(&str, &[&str]); 2] = [
    ("networking", &["virtualservices", "destinationrules", "serviceentries", "sidecars"]),
    ("security", &["authorizationpolicies", "peerauthentications", "requestauthentications"]),
];

/// Asks for all that [`Facts`] holds; pods and objects of one namespace only, if one is given.
///
/// # Errors
/// There is no cluster, or it does not answer.
pub async fn gather(root: &str, revision: &str, only: Option<&str>) -> Result<Facts> {
    let client =
        objects::client(None).await.context("no cluster: neither KUBECONFIG nor ~/.kube/config names one")?;
    let version = objects::get(&client, "/version").await.context("the API server does not answer")?;
    let asked = Asked(client);
    let within = only.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    let controller =
        if revision == "default" { "weft-controller".into() } else { format!("weft-controller-{revision}") };
    let hooks = "/apis/admissionregistration.k8s.io/v1";
    let mut namespaces = asked.list("/api/v1/namespaces").await;
    namespaces.retain(|found| only.is_none_or(|only| name(found) == only));
    let maps =
        asked.list(&format!("/api/v1{within}/configmaps?fieldSelector=metadata.name%3Dweft-root")).await;
    let mut pods = asked.list(&format!("/api/v1{within}/pods")).await;
    if only.is_some_and(|only| only != root) {
        pods.extend(asked.list(&format!("/api/v1/namespaces/{root}/pods")).await);
    }
    Ok(Facts {
        root: root.to_owned(),
        revision: revision.to_owned(),
        version: version.unwrap_or_default(),
        forbidden: asked.forbidden(root).await,
        namespaces,
        pods,
        deployment: asked.get(&format!("/apis/apps/v1/namespaces/{root}/deployments/{controller}")).await,
        lease: asked
            .get(&format!("/apis/coordination.k8s.io/v1/namespaces/{root}/leases/{}", leader::SHARED))
            .await,
        injectors: asked.list(&format!("{hooks}/mutatingwebhookconfigurations")).await,
        validators: asked.list(&format!("{hooks}/validatingwebhookconfigurations")).await,
        kinds: asked.kinds().await,
        rooted: maps.iter().map(|map| namespace(map).to_owned()).collect(),
        objects: asked.objects(&within).await,
    })
}

/// The API server.
struct Asked(Client);

impl Asked {
    /// One object; `None` also where it may not be seen.
    async fn get(&self, path: &str) -> Option<Value> {
        objects::get(&self.0, path).await.ok().flatten()
    }

    /// All items; those before the first failure.
    async fn list(&self, path: &str) -> Vec<Value> {
        let mut all = Vec::new();
        // What this user may not see is judged as absent.
        let _ = objects::list(&self.0, path, &mut all).await;
        all
    }

    /// Names alone: the definitions themselves are large.
    async fn kinds(&self) -> BTreeSet<String> {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let names = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let Ok(request) = Request::get(path).header("accept", names).body(Vec::new()) else {
            return Default::default();
        };
        let found: Value = self.0.request(request).await.unwrap_or_default();
        items(&found, "/items").iter().map(|kind| name(kind).to_owned()).collect()
    }

    async fn objects(&self, within: &str) -> Vec<Value> {
        let mut all = Vec::new();
        for origin in ["weft.dev", "istio.io"] {
            for (family, kinds) in KINDS {
                for kind in kinds {
                    all.extend(self.list(&format!("/apis/{family}.{origin}/v1{within}/{kind}")).await);
                }
            }
        }
        all
    }

    /// What of an install this user may not do.
    async fn forbidden(&self, root: &str) -> Vec<String> {
        let mut all = Vec::new();
        for (group, resource, namespaced) in CREATED {
            let mut attributes = json!({"group": group, "resource": resource, "verb": "create"});
            if namespaced {
                attributes["namespace"] = root.into();
            }
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                                "spec": {"resourceAttributes": attributes}});
            if self.allowed(&review).await == Some(false) {
                all.push(format!("create {resource}"));
            }
        }
        all
    }

    async fn allowed(&self, review: &Value) -> Option<bool> {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request::post(path).header("content-type", "application/json");
        let answer: Value = self.0.request(request.body(review.to_string().into_bytes()).ok()?).await.ok()?;
        answer.pointer("/status/allowed").and_then(Value::as_bool)
    }
}
