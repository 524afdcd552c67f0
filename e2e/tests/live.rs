//! What `weft proxy`, `weft tap` and `weft top` show of a mesh that runs, against traffic that was counted.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft::reach::{Place, Reach};
use weft::top;
use weft::up::Mesh;
use weft_e2e::local::{INJECTED, LIMIT, Manifests, binary, log, pod, sh};

const SHOP: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers:
      - {name: web, image: weft/echo, ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /healthz, port: http}}}
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
    spec: {serviceAccountName: client, containers: [{name: client, command: [sleep, infinity]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-delete}
spec:
  action: DENY
  rules: [{to: [{operation: {methods: [DELETE]}}]}]
";

/// Runs a test on a mesh of two workloads, of which the client has asked once.
fn shop(test: impl AsyncFnOnce(&Mesh, Reach) -> Result<()>) {
    let Some(manifests) = Manifests::of(&["curl"], &format!("{SHOP}{INJECTED}")) else { return };
    manifests.run(async |mesh, _| {
        ask(mesh, 1, "GET", "/first").await?;
        let reach = Place { mesh: Some(mesh.name().to_owned()), ..Place::default() }.reach().await?;
        test(mesh, reach).await
    });
}

const ASIDE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 120s, maxEjectionPercent: 50}
";

#[test]
fn a_replica_that_fails_is_shown_as_ejected_and_explained() {
    shop(async |mesh, reach| {
        let name = mesh.name();
        let state = mesh.state().await?;
        std::fs::write(state.dir.join("aside.yaml"), ASIDE)?;
        let failing = reach.sidecar("deploy/web").await?.pod;
        let other = reach.sidecars("deploy/web").await?.into_iter().find(|it| it.pod != failing);
        let other = other.context("a second replica")?.pod;
        let (code, said) =
            sh(mesh, &failing, "curl -sf -X PUT 'http://127.0.0.1:8080/control?fail=503'").await?;
        ensure!(code == 0, "{said}");
        let began = Instant::now();
        let set_aside = loop {
            ask(mesh, 5, "GET", "/").await?;
            let page = json(&["proxy", "endpoints", "deploy/client", "-o", "json"], name).await?;
            let all = page["held"][0]["endpoints"].as_array().cloned().unwrap_or_default();
            let found = all.into_iter().find(|endpoint| endpoint["state"] == "ejected");
            match found {
                Some(found) => break found,
                None => ensure!(began.elapsed() < LIMIT, "never ejected: {page}"),
            }
        };
        assert_eq!(set_aside["pod"], failing.as_str(), "{set_aside}");
        assert!(set_aside["ejectedForMillis"].as_u64().is_some_and(|left| left > 60_000), "{set_aside}");
        let (_, out, _) = weft(&["proxy", "endpoints", "deploy/client"], name).await?;
        let row = out.lines().find(|line| line.contains(&failing)).context("a row of the replica")?;
        assert!(row.contains("ejected "), "{out}");
        let told = json(&["explain", "deploy/client", "http://web/", "-o", "json"], name).await?;
        assert_eq!(told["verdict"], "forwarded", "{told}");
        for endpoint in told["endpoints"].as_array().context("endpoints")? {
            let why = endpoint["why"].as_str().unwrap_or_default();
            assert_eq!(endpoint["takes"], endpoint["pod"] == other.as_str(), "{endpoint}");
            assert_eq!(
                why.starts_with("ejected by outlier detection for 1"),
                endpoint["pod"] == failing.as_str()
            );
        }
        let (code, out, err) = weft(&["explain", "deploy/client", "http://web/"], name).await?;
        let address = set_aside["address"].as_str().unwrap_or_default();
        let said = format!("out: {failing} ({address}) ejected by outlier detection for 1");
        assert!(code == 0 && out.contains(&said), "{out}{err}");
        Ok(())
    });
}

/// Sends so many requests, one after the other.
async fn ask(mesh: &Mesh, count: usize, method: &str, path: &str) -> Result<()> {
    let script = format!(
        "for i in $(seq {count}); do curl -s -m 10 -o /dev/null -X {method} -H 'authorization: Bearer s3cr3t-word' \
         http://web{path} || exit 1; done"
    );
    let (code, said) = sh(mesh, "deploy/client", &script).await?;
    ensure!(code == 0, "{code}: {said}");
    Ok(())
}

/// Runs `weft` and gives what it printed.
async fn weft(arguments: &[&str], mesh: &str) -> Result<(i32, String, String)> {
    let mut command = Command::new(binary());
    command.args(arguments).args(["-N", mesh]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

async fn json(arguments: &[&str], mesh: &str) -> Result<Value> {
    let (code, out, err) = weft(arguments, mesh).await?;
    serde_json::from_str(&out).with_context(|| format!("{arguments:?}: {code}: {out}{err}"))
}

#[test]
fn sidecars_are_reached_by_pod_and_by_workload() {
    shop(async |mesh, reach| {
        let both = reach.sidecars("deploy/web").await?;
        assert_eq!(both.len(), 2);
        let certs: Value = serde_json::from_slice(&both[0].get("/certs").await?)?;
        assert!(
            certs["certificate"]["identity"].as_str().is_some_and(|id| id.ends_with("/ns/default/sa/web"))
        );
        assert_eq!(reach.sidecar(&both[0].pod).await?.name(), both[0].name());
        assert_eq!(reach.everywhere(None).await?.len(), 3);
        let refused = both[0].get("/no-such-page").await.unwrap_err();
        assert!(format!("{refused:#}").contains("404"), "{refused:#}");
        for (target, hint) in [("deploy/nobody", "its pods are: "), ("svc/web", "deploy/NAME")] {
            let error = reach.sidecars(target).await.err().context("nobody is there")?;
            assert!(format!("{error:#}").contains(hint), "{error:#}");
        }
        who_may_ask_what(mesh, &both[0].pod).await
    });
}

/// A Service, its pods by their workload and by name; and what there is not, which is no yes.
async fn who_may_ask_what(mesh: &Mesh, pod: &str) -> Result<()> {
    let cases = [
        ("GET", "web", 0, "yes: "),
        ("DELETE", "web", 1, "default/no-delete"),
        ("GET", "deploy/web", 0, ":8080"),
        ("DELETE", pod, 1, "default/no-delete"),
        ("GET", "web:99", 2, "no port 99, but 80"),
        ("GET", "wbe", 2, "did you mean web?"),
    ];
    for (method, target, expected, words) in cases {
        let can = ["authz", "can", "ns/default/sa/client", method, target, "/"];
        let (code, out, err) = weft(&can, mesh.name()).await?;
        assert!(code == expected && format!("{out}{err}").contains(words), "{can:?}: {code}: {out}{err}");
    }
    let (code, _, err) = weft(&["explain", "-n", "shop", "deploy/web", "http://web/"], mesh.name()).await?;
    assert!(code == 2 && err.contains("there are some in default (choose with -n)"), "{code}: {err}");
    Ok(())
}

#[test]
fn what_a_sidecar_holds_is_what_the_controller_means() {
    shop(async |mesh, _| {
        let name = mesh.name();
        let routes = json(&["proxy", "routes", "deploy/client", "-o", "json"], name).await?;
        assert!(routes["held"].to_string().contains("web.default.svc.cluster.local"), "{routes}");
        assert_eq!(routes["difference"]["differences"], serde_json::json!([]), "{routes}");
        let endpoints = json(&["proxy", "endpoints", "deploy/client", "-o", "json"], name).await?;
        assert_eq!(endpoints["held"][0]["endpoints"].as_array().map(Vec::len), Some(2), "{endpoints}");
        for (view, expected) in [
            ("routes", "web.default.svc.cluster.local"),
            ("clusters", "outbound|80||web.default.svc.cluster.local"),
            ("endpoints", "spiffe://cluster.local/ns/default/sa/web"),
            ("listeners", "no-delete"),
            ("certs", "spiffe://cluster.local/ns/default/sa/client"),
        ] {
            let (code, out, err) = weft(&["proxy", view, "deploy/client"], name).await?;
            assert!(code == 0 && out.contains(expected), "{view}: {out}{err}");
            assert!(err.contains("holds what the controller means it to hold"), "{view}: {err}");
        }
        let (code, out, _) = weft(&["proxy", "diff", "deploy/client"], name).await?;
        assert_eq!(code, 0, "{out}");
        mesh.stop_controller().await?;
        let (code, _, err) = weft(&["proxy", "diff", "deploy/client"], name).await?;
        assert!(code == 1 && err.contains("controller"), "{code}: {err}");
        let (code, out, err) = weft(&["proxy", "routes", "deploy/client"], name).await?;
        assert!(code == 0 && out.contains("web.default") && err.contains("not known"), "{out}{err}");
        Ok(())
    });
}

#[test]
fn a_tap_shows_what_is_wanted_with_reasons_and_the_limit_of_taps_holds() {
    shop(async |mesh, reach| {
        let sidecars = reach.sidecars("deploy/web").await?;
        let mut taps = Vec::new();
        for sidecar in &sidecars {
            taps.push(sidecar.stream("/tap?path=%2Fapi&status=403&from=client").await?);
        }
        ask(mesh, 20, "GET", "/api/good").await?;
        ask(mesh, 20, "DELETE", "/other").await?;
        ask(mesh, 20, "DELETE", "/api/bad").await?;
        let mut seen = Vec::new();
        let (first, second) = taps.split_at_mut(1);
        while seen.len() < 20 {
            let line = tokio::time::timeout(LIMIT, async {
                tokio::select! { line = first[0].next() => line, line = second[0].next() => line }
            });
            let line = line.await.context("not all was shown")??.context("the tap ended")?;
            if !line.is_empty() {
                seen.push(serde_json::from_slice::<Value>(&line)?);
            }
        }
        for line in &seen {
            assert_eq!((&line["path"], &line["status"]), (&"/api/bad".into(), &403.into()), "{line}");
            assert_eq!(
                (&line["reason"], &line["policy"]),
                (&"policy_denied".into(), &"default/no-delete".into())
            );
            assert_eq!(line["source"]["principal"], "spiffe://cluster.local/ns/default/sa/client");
        }
        drop(taps);
        a_hundred_taps(&sidecars[0]).await?;
        a_command_that_taps(mesh, mesh.name()).await?;
        Ok(())
    });
}

/// Eight get a place, the others are told why not; when they have gone there is room again.
async fn a_hundred_taps(sidecar: &weft::reach::Sidecar) -> Result<()> {
    let began = Instant::now();
    let all = loop {
        let mut open = Vec::new();
        for _ in 0..100 {
            match sidecar.stream("/tap").await {
                Ok(tap) => open.push(tap),
                Err(error) => ensure!(format!("{error:#}").contains("8 taps are open"), "{error:#}"),
            }
        }
        // The places of the taps before are given back when the sidecar notices that they have gone.
        if open.len() == 8 || began.elapsed() > LIMIT {
            break open;
        }
    };
    assert_eq!(all.len(), 8);
    sidecar.get("/certs").await?;
    drop(all);
    while sidecar.stream("/tap").await.is_err() {
        ensure!(began.elapsed() < LIMIT, "the places are not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn a_command_that_taps(mesh: &Mesh, name: &str) -> Result<()> {
    let arguments = ["tap", "deploy/client", "--path", "/counted", "-c", "5", "--for", "60s", "-o", "json"];
    let tapping = weft(&arguments, name);
    let asking = async {
        // Until the tap has seen enough and ended.
        loop {
            ask(mesh, 5, "GET", "/counted").await?;
        }
    };
    let (code, out, err) = tokio::select! { over = tapping => over?, failed = asking => return failed };
    assert!(code == 0 && out.lines().count() == 5, "{code}: {out}{err}");
    for line in out.lines() {
        let line: Value = serde_json::from_str(line)?;
        assert_eq!(
            (&line["side"], &line["destination"]["workload"]),
            (&"outbound".into(), &"web".into()),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn top_shows_the_requests_that_were_counted() {
    shop(async |mesh, reach| {
        let sidecars = reach.everywhere(None).await?;
        let before = top::sample(&sidecars).await?;
        ask(mesh, 40, "GET", "/").await?;
        ask(mesh, 10, "DELETE", "/").await?;
        let rows = top::rows::rows(&before, &top::sample(&sidecars).await?);
        let row = rows.first().context("nothing is shown")?;
        assert_eq!((&*row.source, &*row.destination), ("default/client", "default/web"));
        assert_eq!((row.requests, row.refused, row.failed), (50.0, 10.0, 0.0), "{rows:?}");
        assert!(row.p50.is_some_and(|p50| p50 > 0.0) && row.p50 <= row.p99, "{row:?}");
        assert!(row.connections.is_some_and(|open| open >= 1.0), "{row:?}");
        let page = json(&["top", "--once", "--interval", "500ms", "-o", "json"], mesh.name()).await?;
        assert_eq!((&page["sidecars"], &page["silent"]), (&3.into(), &0.into()), "{page}");
        let (code, out, err) = weft(&["top", "--interval", "500ms"], mesh.name()).await?;
        assert!(
            code == 0 && out.starts_with("3 sidecars;"),
            "one page where there is no terminal: {out}{err}"
        );
        Ok(())
    });
}

#[test]
fn logs_change_their_level_while_they_run_and_hold_nothing_secret() {
    shop(async |mesh, _| {
        let name = mesh.name();
        for target in ["deploy/client", "deploy/web", "@controller"] {
            let (code, out, err) = weft(&["proxy", "log", target, "trace"], name).await?;
            assert!(code == 0 && out.contains("trace"), "{target}: {out}{err}");
        }
        let (code, _, err) = weft(&["proxy", "log", "deploy/client", "loud"], name).await?;
        assert!(code == 1 && err.contains("no log level"), "{code}: {err}");
        let (_, out, _) = weft(&["proxy", "log", "deploy/client"], name).await?;
        assert!(out.trim_end().ends_with(": trace"), "{out}");
        ask(mesh, 3, "GET", "/?password=s3cr3t-word").await?;
        ask(mesh, 1, "DELETE", "/").await?;
        // A new certificate and new streams, too.
        mesh.kill_pod(&pod("@controller")).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        mesh.wait_ready(LIMIT).await?;
        let token = mesh
            .exec(&pod("deploy/client"), Some("weft-proxy"), &["sh", "-c", "cat /.weft/pods/*/token"])
            .await?;
        let secrets = ["s3cr3t-word".to_owned(), "PRIVATE KEY".to_owned(), token.stdout.trim().to_owned()];
        ensure!(secrets[2].len() > 16, "the token was read: {token:?}");
        for (target, container) in
            [("deploy/client", Some("weft-proxy")), ("deploy/web", Some("weft-proxy")), ("@controller", None)]
        {
            let text = log(mesh, target, container).await?;
            ensure!(text.contains("TRACE") || text.contains("DEBUG"), "{target} logs little: {text}");
            for secret in &secrets {
                assert!(!text.contains(secret), "{target} logs {secret}");
            }
        }
        Ok(())
    });
}
