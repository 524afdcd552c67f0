//! What `weft explain` says, of manifests and of a mesh that runs, is what then happens.

use std::path::PathBuf;

use serde_json::Value;
use weft::explain::{live, question::question};
use weft::metrics::sum;
use weft::offline::{Offline, Query};
use weft::reach::Reach;
use weft::up::{Mesh, Target};
use weft_core::explain::Explanation;
use weft_core::explain::told::Verdict;
use weft_e2e::local::{INJECTED, Manifests, pod, sh};

const APPLICATIONS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-raw, port: 81, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: strict}
spec: {selector: {app: strict}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: outside, labels: {app: outside, sidecar.istio.io/inject: 'false'}}
spec: {serviceAccountName: outside, containers: [{name: c, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: far}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: far, labels: {app: far}}
spec: {containers: [{name: c, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Service
metadata: {name: kept}
spec: {selector: {app: kept}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-kept, port: 82, targetPort: 8082}]}
---
apiVersion: v1
kind: Pod
metadata: {name: kept, labels: {app: kept}, annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '8082'}}
spec:
  containers: [{name: c, image: weft/echo, args: [--http, '8080', --http, '8082'], readinessProbe: {httpGet: {port: 8082}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: direct, labels: {app: direct}, annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: '80,82'}}
spec: {containers: [{name: c, command: [sleep, infinity]}]}
";

const RULES: &str = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - {match: [{uri: {exact: /teapot}}], directResponse: {status: 418}}
  - {match: [{uri: {prefix: /old}}], redirect: {uri: /new, redirectCode: 308}}
  - {match: [{uri: {prefix: /lost}}], route: [{destination: {host: web, subset: v9}}]}
  - name: api
    match: [{uri: {prefix: /api/}, headers: {end-user: {exact: premium}}}, {queryParams: {beta: {exact: 'yes'}}}]
    rewrite: {uri: /v2/}
    route: [{destination: {host: web, subset: v2}}]
  - {match: [{method: {exact: PUT}}], route: [{destination: {host: empty}}]}
  - route: [{destination: {host: web, subset: v1}, weight: 70}, {destination: {host: web, subset: v2}, weight: 30}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: strict}
spec: {host: strict, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict}
spec: {selector: {matchLabels: {app: strict}}, mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin}
spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - {from: [{source: {principals: [cluster.local/ns/default/sa/client]}}], to: [{operation: {methods: [GET, HEAD]}}]}
  - {from: [{source: {namespaces: [default]}}], when: [{key: 'request.headers[x-token]', values: ['let-me-*']}]}
";

/// A workload of the echo application, or one that only waits.
fn deployment(name: &str, app: &str, version: &str) -> String {
    format!(
        "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  template:
    metadata: {{labels: {{app: {app}, version: {version}}}}}
    spec:
      serviceAccountName: {app}
      containers:
      - name: echo
        image: weft/echo
        args: [--http, '8080']
        env: [{{name: VERSION, value: {version}}}]
        readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
"
    )
}

/// A request: client, method, URL, headers.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    ("deploy/client", "GET", "http://web/", &[]),
    ("deploy/client", "GET", "http://web/api/items?page=2", &["end-user: premium"]),
    ("deploy/client", "GET", "http://web/api/./items/../x", &["end-user: premium"]),
    ("deploy/client", "GET", "http://web/anything?beta=yes", &[]),
    ("deploy/client", "GET", "http://web/teapot", &[]),
    ("deploy/client", "GET", "http://web/old/path?q=1", &[]),
    ("deploy/client", "GET", "http://web/lost", &[]),
    ("deploy/client", "GET", "http://web/admin/users", &[]),
    ("deploy/client", "GET", "http://web//admin//users", &[]),
    ("deploy/client", "GET", "http://web/a%2fb", &[]),
    ("deploy/client", "POST", "http://web/", &[]),
    ("deploy/client", "POST", "http://web/items", &["x-token: let-me-in"]),
    ("deploy/client", "PUT", "http://web/items", &["x-token: let-me-in"]),
    ("deploy/client", "TRACE", "http://web/", &[]),
    ("deploy/client", "GET", "http://web:81/", &[]),
    ("deploy/client", "GET", "http://web:99/", &[]),
    ("deploy/client", "GET", "http://empty/", &[]),
    ("deploy/client", "GET", "http://strict/", &[]),
    ("deploy/client", "GET", "http://kept/", &[]),
    ("deploy/client", "GET", "http://kept:82/", &[]),
    ("direct", "GET", "http://kept/", &[]),
    ("direct", "GET", "http://kept:82/", &[]),
    ("direct", "GET", "http://strict/", &[]),
    ("deploy/other", "GET", "http://web/", &[]),
    ("deploy/other", "GET", "http://web/", &["x-token: let-me-see"]),
];

/// What happened to a request.
#[derive(Debug, Default)]
struct Happened {
    status: u16,
    reason: String,
    version: String,
    location: String,
    path: Option<String>,
}

async fn send(mesh: &Mesh, (client, method, url, headers): Case) -> anyhow::Result<Happened> {
    let headers: String = headers.iter().map(|header| format!(" -H '{header}'")).collect();
    let said = r"\n%{http_code}|%header{x-weft-reason}|%header{x-echo-version}|%header{location}";
    let script = format!("curl -s -m 10 --path-as-is -X {method}{headers} -w '{said}' '{url}'");
    let (_, text) = sh(mesh, client, &script).await?;
    let (body, said) = text.rsplit_once('\n').unwrap_or(("", &text));
    let words: Vec<&str> = said.split('|').collect();
    let word = |n: usize| words.get(n).copied().unwrap_or_default().to_owned();
    let body: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    Ok(Happened {
        status: word(0).parse()?,
        reason: word(1),
        version: word(2),
        location: word(3),
        path: body["path"].as_str().map(str::to_owned),
    })
}

/// Whether what was said is what happened.
fn agrees(case: Case, how: &str, said: &Explanation, happened: &Happened) {
    let place = format!("{how}: {case:?}: {happened:?}: {said:#?}");
    match said.verdict {
        Verdict::Forwarded => {
            assert_eq!((happened.status, happened.reason.as_str()), (200, ""), "{place}");
            let meant = said.destinations.iter().filter(|d| d.share > 0.0);
            let meant: Vec<_> = meant.filter_map(|d| d.subset.clone()).collect();
            assert!(meant.is_empty() || meant.contains(&happened.version), "{place}");
            if said.path.is_some() {
                assert_eq!(said.path, happened.path, "{place}");
            }
        }
        Verdict::Answered | Verdict::Refused => {
            assert_eq!(said.status.unwrap_or(0), happened.status, "{place}");
            if said.status.is_some() {
                assert_eq!(said.reason.as_deref(), Some(happened.reason.as_str()), "{place}");
            }
            assert_eq!(said.location.clone().unwrap_or_default(), happened.location, "{place}");
        }
    }
}

#[test]
fn what_is_explained_is_what_happens() {
    let workloads = [("web-v1", "web", "v1"), ("web-v2", "web", "v2"), ("strict", "strict", "v1")];
    let clients = [("client", "client", "v1"), ("other", "other", "v1")];
    let all: String =
        workloads.iter().chain(&clients).map(|(name, app, v)| deployment(name, app, v)).collect();
    let Some(manifests) = Manifests::of(&["curl"], &format!("{APPLICATIONS}{all}{RULES}{INJECTED}")) else {
        return;
    };
    manifests.run(async |mesh, _| {
        let reach = Reach::of_mesh(Mesh::find(mesh.name())?, "default");
        let offline = Offline::read(&[PathBuf::from(manifests.path())])?;
        for case in CASES {
            let (client, method, url, headers) = *case;
            let headers =
                headers.iter().filter_map(|h| h.split_once(": ")).map(|(n, v)| (n.into(), v.into()));
            let (host, request) = question(method, url, &headers.collect::<Vec<(String, String)>>())?;
            let (namespace, name) = ("default".to_owned(), client.to_owned());
            let query = Query { namespace, client: name, host: host.clone(), request: request.clone() };
            let of_files = offline.explain(&query)?;
            let of_sidecars = live::explain(&reach, client, host, request).await?;
            let happened = send(mesh, *case).await?;
            agrees(*case, "offline", &of_files, &happened);
            agrees(*case, "live", &of_sidecars, &happened);
            assert_eq!(of_files.policy, of_sidecars.policy, "{case:?}");
            assert_eq!(of_files.route, of_sidecars.route, "{case:?}");
        }
        denials_are_counted_under_the_policy_that_was_named(mesh).await?;
        nobody_outside_gets_in(mesh, &offline, &reach).await?;
        nobody_gets_in_from_where_no_sidecar_is(mesh).await
    });
}

async fn denials_are_counted_under_the_policy_that_was_named(mesh: &Mesh) -> anyhow::Result<()> {
    let mut text = String::new();
    for web in ["deploy/web-v1", "deploy/web-v2"] {
        text += &mesh.admin_get(&pod(web), 15020, "/stats/prometheus").await?.1;
    }
    for (policy, reason) in [("default/no-admin", "policy_denied"), ("default/readers", "policy_not_allowed")]
    {
        let counted = sum(&text, "weft_rejected_total", &[("policy", policy), ("reason", reason)]);
        anyhow::ensure!(counted > 0.0, "no {reason} by {policy}");
    }
    Ok(())
}

/// A pod without a sidecar: the manifests tell what its requests meet, and so do the sidecars of others.
async fn nobody_outside_gets_in(mesh: &Mesh, offline: &Offline, reach: &Reach) -> anyhow::Result<()> {
    for (url, status, policy) in [("http://web/", 403, Some("default/readers")), ("http://strict/", 0, None)]
    {
        let (host, request) = question("GET", url, &[])?;
        let (namespace, client) = ("default".to_owned(), "outside".to_owned());
        let live = live::explain(reach, &client, host.clone(), request.clone()).await?;
        let said = offline.explain(&Query { namespace, client, host, request })?;
        assert_eq!((live.verdict, live.status, &live.policy), (said.verdict, said.status, &said.policy));
        assert_eq!(live.client, "default/outside");
        let happened = send(mesh, ("outside", "GET", url, &[])).await?;
        assert_eq!((said.verdict, said.status.unwrap_or(0)), (Verdict::Refused, status), "{said:#?}");
        assert_eq!((happened.status, said.policy.as_deref()), (status, policy), "{happened:?}");
    }
    Ok(())
}

/// A pod of a namespace without sidecars: those of another namespace tell.
async fn nobody_gets_in_from_where_no_sidecar_is(mesh: &Mesh) -> anyhow::Result<()> {
    let reach = Reach::of_mesh(Mesh::find(mesh.name())?, "far");
    let url = "http://web.default/";
    let (host, request) = question("GET", url, &[])?;
    let said = live::explain(&reach, "far", host, request).await?;
    assert_eq!((said.verdict, said.status, said.client.as_str()), (Verdict::Refused, Some(403), "far/far"));
    assert_eq!(said.policy.as_deref(), Some("default/readers"));
    let target = Target { namespace: "far".into(), name: "far".into() };
    let script = format!("curl -s -m 10 -o /dev/null -w '%{{http_code}}' {url}");
    assert_eq!(mesh.exec(&target, None, &["sh", "-c", &script]).await?.stdout.trim(), "403");
    Ok(())
}
