//! What route rules ask for beside a destination, through two sidecars of a local mesh: faults, origins of browsers.

use std::time::Instant;

use weft::up::Mesh;
use weft_e2e::local::{FILE, INJECTED, LIMIT, Manifests, sh};

const PODS: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: weft/echo, ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {port: http}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  template:
    metadata: {labels: {app: client}}
    spec: {containers: [{name: client, command: [sleep, infinity]}]}
";

/// One person waits, everybody else is refused: as Istio's samples have it.
const FAULTS: &str = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    fault: {delay: {percentage: {value: 100}, fixedDelay: 2s}}
    route: [{destination: {host: web}}]
  - fault: {abort: {percentage: {value: 100}, httpStatus: 500}}
    route: [{destination: {host: web}}]
";

/// What `weft test` expects of [`FAULTS`].
const TESTS: &str = "
---
apiVersion: test.weft.dev/v1
kind: MeshTest
metadata: {name: web}
tests:
- name: one waits
  from: deploy/client
  request: {url: http://web/, headers: {end-user: jason}}
  expect: {verdict: forwarded, fault: delay 2s for 100%}
- name: everybody else is refused
  from: deploy/client
  request: {url: http://web/}
  expect: {verdict: answered, status: 500, reason: fault_injected, fault: abort 500 for 100%}
";

#[test]
fn f2_tests_of_manifests_expect_faults() {
    let manifests = Manifests::new();
    let passed = |tests: &str| {
        manifests.save(FILE, &format!("{PODS}{INJECTED}{FAULTS}{tests}"));
        let told = weft::mesh_test::tested(&[manifests.path().to_owned()]).expect("tests that can be read");
        told[0].outcomes.iter().map(|outcome| outcome.failures()).collect::<Vec<_>>()
    };
    assert_eq!(passed(TESTS), [Vec::<String>::new(), Vec::new()]);
    let other = passed(&TESTS.replace("fault: delay 2s for 100%", "fault: none"));
    assert!(other[0][0].ends_with("`none` is expected, and it is delay 2s for 100%"), "{other:?}");
}

/// As Istio's reference has it.
const CORS: &str = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - corsPolicy:
      allowOrigins: [{exact: 'https://example.com'}]
      allowMethods: [POST, GET]
      allowCredentials: false
      allowHeaders: [X-Foo-Bar]
      maxAge: 24h
    route: [{destination: {host: web}}]
";

/// Asks until the answer begins so.
async fn until(mesh: &Mesh, script: &str, begins: &str) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let said = sh(mesh, "deploy/client", script).await?.1;
        if said.starts_with(begins) {
            return Ok(said);
        }
        anyhow::ensure!(began.elapsed() < LIMIT, "never {begins}: {said}");
    }
}

#[test]
fn f2_faults_hit_whom_they_are_for() {
    let Some(manifests) = Manifests::of(&["curl"], &format!("{PODS}{INJECTED}{FAULTS}")) else { return };
    manifests.run(async |mesh, _| {
        let ask = "curl -s -m 10 -w ' %{http_code} %header{x-weft-reason} %{time_total}' http://web/";
        let refused = until(mesh, ask, "fault filter abort 500 fault_injected ").await?;
        let quick: f64 = refused.rsplit(' ').next().unwrap_or_default().trim().parse()?;
        assert!(quick < 1.5, "{refused}");
        let jason =
            "curl -s -m 10 -o /dev/null -H 'end-user: jason' -w '%{http_code} %{time_total}' http://web/";
        let held = sh(mesh, "deploy/client", jason).await?.1;
        let time: f64 = held.strip_prefix("200 ").unwrap_or_default().trim().parse()?;
        assert!((2.0..4.0).contains(&time), "{held}");
        // Mended by saving the file.
        manifests.save(FILE, &format!("{PODS}{INJECTED}{}", FAULTS.replace("value: 100", "value: 0")));
        until(mesh, "curl -s -m 10 -o /dev/null -w '%{http_code}' http://web/", "200").await?;
        Ok(())
    });
}

#[test]
fn f3_browsers_are_told_who_may_read() {
    let Some(manifests) = Manifests::of(&["curl"], &format!("{PODS}{INJECTED}{CORS}")) else { return };
    manifests.run(async |mesh, _| {
        let preflight = "curl -s -m 10 -o /dev/null -X OPTIONS -H 'Origin: https://example.com' \
             -H 'Access-Control-Request-Method: POST' \
             -w '%header{access-control-allow-origin} %header{access-control-allow-methods} \
             %header{access-control-allow-headers} %header{access-control-max-age} %{http_code}' http://web/";
        until(mesh, preflight, "https://example.com POST,GET X-Foo-Bar 86400 200").await?;
        let read = |origin: &str| {
            let told = "%{http_code} [%header{access-control-allow-origin}]";
            format!("curl -s -m 10 -o /dev/null -H 'Origin: {origin}' -w '{told}' http://web/")
        };
        assert_eq!(
            sh(mesh, "deploy/client", &read("https://example.com")).await?.1,
            "200 [https://example.com]"
        );
        assert_eq!(sh(mesh, "deploy/client", &read("https://other.com")).await?.1, "200 []");
        Ok(())
    });
}
