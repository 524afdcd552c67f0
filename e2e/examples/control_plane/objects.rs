//! What is made in the API server: kinds, services of four pods each in twenty namespaces, routes, rules and policies.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use weft_crds::crd;
use weft_crds::kind::Origin;

/// Pods of a service.
pub(crate) const PODS: usize = 4;
/// A service of which one endpoint comes and goes.
pub(crate) const QUIET: usize = 60;
/// Services with a VirtualService and a DestinationRule.
const ROUTED: usize = 50;
/// AuthorizationPolicies.
const POLICIES: usize = 20;
const NAMESPACES: usize = 20;
/// The namespace of the control plane.
const CONTROL_PLANE: &str = "weft-system";
/// Kinds of which there are objects here.
const MESH: [(&str, &str); 3] = [
    ("networking", "virtualservices"),
    ("networking", "destinationrules"),
    ("security", "authorizationpolicies"),
];
/// How long it may take until kinds that were made are served.
const SERVED: Duration = Duration::from_secs(30);
/// Requests under way at a time.
const AT_ONCE: usize = 32;

/// How much there is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Services.
    pub(crate) services: usize,
    /// Sidecars.
    pub(crate) sidecars: usize,
}

/// What was made.
pub(crate) struct Objects {
    client: Client,
    size: Size,
    addresses: Vec<IpAddr>,
}

impl Objects {
    /// Makes everything that is not there yet.
    pub(crate) async fn make(client: Client, size: Size) -> Result<Self> {
        let mut objects = Self { client, size, addresses: Vec::new() };
        objects.kinds().await?;
        objects.all([("/api/v1/namespaces".to_owned(), named(CONTROL_PLANE))].into_iter()).await?;
        objects.all((0..NAMESPACES).map(|n| ("/api/v1/namespaces".to_owned(), named(&namespace(n))))).await?;
        let account = |n| (format!("/api/v1/namespaces/{}/serviceaccounts", namespace(n)), named("a0"));
        objects.all((0..NAMESPACES).map(account)).await?;
        let services = (0..size.services).map(|s| (list("services", s), service(s)));
        let made = objects.all(services).await?;
        let address = |made: Value| made["spec"]["clusterIP"].as_str().map(str::parse);
        let addresses: Option<Result<_, _>> = made.into_iter().map(address).collect();
        objects.addresses = addresses.context("a service without address")??;
        let pods = || (0..size.services).flat_map(|s| (0..PODS).map(move |p| (s, p)));
        objects.all(pods().map(|(s, p)| (list("pods", s), pod(s, p)))).await?;
        let status = |(s, p)| (format!("{}/{}/status", list("pods", s), pod_name(s, p)), running(s, p));
        objects.patch_all(pods().map(status)).await?;
        let path = |s| format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", namespace(s));
        objects.all((0..size.services).map(|s| (path(s), slice(s, PODS)))).await?;
        objects.all((0..ROUTED).map(|s| (mesh("networking", "virtualservices", s), route(s, 10)))).await?;
        objects.all((0..ROUTED).map(|s| (mesh("networking", "destinationrules", s), rule(s)))).await?;
        let policies = (0..POLICIES).map(|s| (mesh("security", "authorizationpolicies", s), policy(s)));
        objects.all(policies).await?;
        Ok(objects)
    }

    /// Makes the kinds of our groups, and waits until all that are used here are served.
    async fn kinds(&self) -> Result<()> {
        let list = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        self.all(crd::crds(Origin::Weft).into_iter().map(|kind| (list.to_owned(), kind))).await?;
        for (family, plural) in MESH {
            let began = Instant::now();
            while let Err(error) = self.request(Method::GET, mesh(family, plural, 0), &Value::Null).await {
                ensure!(began.elapsed() < SERVED, "{error:#}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// A token for each sidecar, bound to its pod.
    pub(crate) async fn tokens(&self) -> Result<Vec<String>> {
        let all = stream::iter(0..self.size.sidecars).map(|k| self.token(k));
        all.buffered(AT_ONCE).try_collect().await
    }

    /// The root of trust that the controller has made, PEM.
    pub(crate) async fn root(&self) -> Result<Vec<u8>> {
        let path = format!("/api/v1/namespaces/{CONTROL_PLANE}/secrets/weft-ca");
        let secret = self.request(Method::GET, path, &Value::Null).await?;
        let text = secret["data"]["root-cert.pem"].as_str().context("a root in the Secret weft-ca")?;
        Ok(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)?)
    }

    async fn token(&self, sidecar: usize) -> Result<String> {
        let pod = format!("{}/{}", list("pods", sidecar), pod_name(sidecar, 0));
        let uid = self.request(Method::GET, pod, &Value::Null).await?["metadata"]["uid"].clone();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod_name(sidecar, 0), "uid": uid});
        let request = json!({"spec": {"audiences": ["weft.dev"], "boundObjectRef": bound}});
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/a0/token", namespace(sidecar));
        let answer = self.request(Method::POST, path, &request).await?;
        answer["status"]["token"].as_str().map(str::to_owned).context("a token")
    }

    /// Where a service is reached.
    pub(crate) fn address(&self, service: usize) -> SocketAddr {
        SocketAddr::new(self.addresses[service], 80)
    }

    /// Changes the weight that all sidecars hear of; done when the API server says so.
    pub(crate) async fn set_weight(&self, round: usize) -> Result<()> {
        let path = format!("{}/s0", mesh("networking", "virtualservices", 0));
        self.patch(path, json!({"spec": route(0, 11 + round as u64 % 70)["spec"]})).await
    }

    /// Takes an endpoint away, and brings it back.
    pub(crate) async fn set_ready(&self, round: usize) -> Result<()> {
        let left = PODS - (round + 1) % 2;
        self.set_endpoints(QUIET, left).await
    }

    /// So many pods go and come back, a hundred a second.
    pub(crate) async fn churn(&self, pods: usize) -> Result<()> {
        let start = tokio::time::Instant::now();
        for (done, s) in (0..self.size.services).cycle().take(pods / 2).enumerate() {
            tokio::time::sleep_until(start + Duration::from_millis(20 * done as u64)).await;
            let path = format!("{}/{}", list("pods", s), pod_name(s, 3));
            self.request(Method::DELETE, format!("{path}?gracePeriodSeconds=0"), &json!({})).await?;
            self.set_endpoints(s, PODS - 1).await?;
            self.request(Method::POST, list("pods", s), &pod(s, 3)).await?;
            self.patch(format!("{path}/status"), running(s, 3)).await?;
            self.set_endpoints(s, PODS).await?;
        }
        Ok(())
    }

    async fn set_endpoints(&self, s: usize, left: usize) -> Result<()> {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/s{s}-x", namespace(s));
        self.patch(path, json!({"endpoints": slice(s, left)["endpoints"]})).await
    }

    async fn patch(&self, path: String, value: Value) -> Result<()> {
        self.request(Method::PATCH, path, &value).await.map(drop)
    }

    async fn all(&self, all: impl Iterator<Item = (String, Value)>) -> Result<Vec<Value>> {
        stream::iter(all)
            .map(|(path, value)| self.make_one(path, value))
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn patch_all(&self, all: impl Iterator<Item = (String, Value)>) -> Result<()> {
        stream::iter(all).map(|(path, value)| self.patch(path, value)).buffered(AT_ONCE).try_collect().await
    }

    /// Makes an object, or reads the one that is there.
    async fn make_one(&self, path: String, value: Value) -> Result<Value> {
        match self.request(Method::POST, path.clone(), &value).await {
            Err(error) if error.to_string().contains("AlreadyExists") => {
                let name = value["metadata"]["name"].as_str().unwrap_or_default();
                self.request(Method::GET, format!("{path}/{name}"), &Value::Null).await
            }
            other => other,
        }
    }

    async fn request(&self, method: Method, path: String, value: &Value) -> Result<Value> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if value.is_null() { Vec::new() } else { value.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(&path).header("content-type", kind).body(body)?;
        let answer = self.client.request::<Value>(request).await;
        answer.map_err(|error| anyhow::anyhow!("{path}: {error:?}"))
    }
}

fn namespace(s: usize) -> String {
    format!("bench-{}", s % NAMESPACES)
}

fn pod_name(s: usize, p: usize) -> String {
    format!("s{s}-7c9f6d5b8-{p}")
}

fn list(plural: &str, s: usize) -> String {
    format!("/api/v1/namespaces/{}/{plural}", namespace(s))
}

fn mesh(family: &str, plural: &str, s: usize) -> String {
    format!("/apis/{family}.weft.dev/v1/namespaces/{}/{plural}", namespace(s))
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn service(s: usize) -> Value {
    json!({
        "metadata": {"name": format!("s{s}"), "labels": {"app": format!("s{s}")}},
        "spec": {"selector": {"app": format!("s{s}")}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

fn pod(s: usize, p: usize) -> Value {
    json!({
        "metadata": {
            "name": pod_name(s, p),
            "labels": {
                "app": format!("s{s}"), "version": format!("v{}", 1 + p % 2), "pod-template-hash": "7c9f6d5b8",
                "app.kubernetes.io/part-of": "bench", "weft.dev/revision": "default",
            },
            "annotations": {
                "weft.dev/status": "{\"revision\":\"default\"}",
                "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(2000),
            },
        },
        "spec": {
            "serviceAccountName": "a0",
            "containers": [{"name": "app", "image": "weft/echo", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
    })
}

fn address(s: usize, p: usize) -> String {
    let number = s * PODS + p;
    format!("10.244.{}.{}", number / 250, number % 250 + 1)
}

fn running(s: usize, p: usize) -> Value {
    json!({"status": {
        "phase": "Running", "podIP": address(s, p), "podIPs": [{"ip": address(s, p)}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }})
}

fn slice(s: usize, pods: usize) -> Value {
    let endpoint = |p| {
        json!({
            "addresses": [address(s, p)], "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace(s), "name": pod_name(s, p)}, "zone": "a",
        })
    };
    json!({
        "metadata": {
            "name": format!("s{s}-x"),
            "labels": {"kubernetes.io/service-name": format!("s{s}"), "endpointslice.kubernetes.io/managed-by": "bench"},
        },
        "addressType": "IPv4",
        "endpoints": (0..pods).map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn route(s: usize, weight: u64) -> Value {
    let to = |subset: &str, weight: u64| json!({"destination": {"host": format!("s{s}"), "subset": subset}, "weight": weight});
    json!({
        "apiVersion": "networking.weft.dev/v1", "kind": "VirtualService",
        "metadata": {"name": format!("s{s}"), "annotations": {"weft.dev/note": "bench"}},
        "spec": {
            "hosts": [format!("s{s}")],
            "http": [
                {"match": [{"uri": {"prefix": "/slow"}}], "timeout": "3s", "route": [to("v2", 100)]},
                {"route": [to("v1", 100 - weight), to("v2", weight)], "retries": {"attempts": 2}},
            ],
        },
    })
}

fn rule(s: usize) -> Value {
    json!({
        "apiVersion": "networking.weft.dev/v1", "kind": "DestinationRule",
        "metadata": {"name": format!("s{s}")},
        "spec": {
            "host": format!("s{s}"),
            "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}},
            "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
        },
    })
}

fn policy(s: usize) -> Value {
    json!({
        "apiVersion": "security.weft.dev/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": format!("s{s}")},
        "spec": {
            "selector": {"matchLabels": {"app": format!("s{s}")}},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"namespaces": [namespace(s), "bench-1"]}}], "to": [{"operation": {"methods": ["GET", "POST"]}}]}],
        },
    })
}
