//! A real Prometheus on a local mesh: the queries of Istio's public dashboards and of Flagger, against what the load
//! generator counted; and the chart's rules, as `promtool` reads them.

/// Families of queries, each against what the load counted.
mod counted;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft::query::encode;
use weft::up::{Mesh, State};
use weft_e2e::local::{INJECTED, LIMIT, Manifests, lacking, log, pod, sh};

const WORKLOADS: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata:
      labels: {app: web, version: v1}
      annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '9100', prometheus.io/path: /own}
    spec:
      serviceAccountName: web
      containers:
      - {name: web, image: weft/echo, readinessProbe: {httpGet: {port: 8080}}}
      - name: own
        command: [python3, /scripts/own.py]
        volumeMounts: [{name: scripts, mountPath: /scripts}]
      volumes: [{name: scripts, configMap: {name: scripts}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: scripts}
data:
  own.py: |
    import http.server
    class Own(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'# TYPE shop_orders_total counter\\nshop_orders_total{kind=\"a\"} 42\\n# EOF\\n'
            self.send_response(200 if self.path == '/own' else 404)
            self.send_header('content-length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_): pass
    http.server.HTTPServer(('127.0.0.1', 9100), Own).serve_forever()
  load.py: |
    import sys, time, urllib.error, urllib.request
    counted = {}
    for status, times in [pair.split('=') for pair in sys.argv[1:]]:
        for _ in range(int(times)):
            try:
                code = urllib.request.urlopen(f'http://web/?status={status}').status
            except urllib.error.HTTPError as error:
                code = error.code
            counted[code] = counted.get(code, 0) + 1
    print(' '.join(f'{code}={times}' for code, times in sorted(counted.items())))
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  template:
    metadata: {labels: {app: client}}
    spec:
      serviceAccountName: client
      containers:
      - name: client
        command: [sleep, infinity]
        volumeMounts: [{name: scripts, mountPath: /scripts}]
      volumes: [{name: scripts, configMap: {name: scripts}}]
";

/// What is told of the traffic: a log of what fails, in the server's sidecar alone, and a metric without a label.
const TELEMETRY: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: weft, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: short
      envoyFileAccessLog:
        path: /dev/stdout
        logFormat: {labels: {code: '%RESPONSE_CODE%', who: '%DOWNSTREAM_PEER_URI_SAN%', what: '%REQ(:METHOD)% %REQ(:PATH)%'}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: server}
spec:
  selector: {matchLabels: {app: web}}
  accessLogging:
  - match: {mode: SERVER}
    providers: [{name: short}]
    filter: {expression: 'response.code >= 500'}
  metrics:
  - overrides: [{match: {metric: REQUEST_SIZE}, tagOverrides: {source_app: {operation: REMOVE}}}]
";

/// The lines that a sidecar wrote to its access log.
async fn logged(mesh: &Mesh, target: &str) -> anyhow::Result<Vec<Value>> {
    let text = log(mesh, target, Some("weft-proxy")).await?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok()).collect())
}

#[test]
fn a_telemetry_says_what_is_logged_and_shown() {
    let Some(manifests) = Manifests::of(&["python3"], &format!("{WORKLOADS}{INJECTED}{TELEMETRY}")) else {
        return;
    };
    manifests.run(async |mesh, _| {
        load(mesh, 5, 3).await?;
        let began = Instant::now();
        let lines = loop {
            let lines = logged(mesh, "deploy/web").await?;
            if lines.len() >= 3 || began.elapsed() > LIMIT {
                break lines;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(lines.len(), 3, "what succeeds is not logged: {lines:?}");
        for line in lines {
            assert_eq!(line["code"], 500);
            assert_eq!(line["what"], "GET /?status=500");
            assert_eq!(line["who"], "spiffe://cluster.local/ns/default/sa/client");
        }
        assert!(logged(mesh, "deploy/client").await?.is_empty(), "the client's side logs nothing");
        let (_, text) = mesh.admin_get(&pod("deploy/web"), 15020, "/stats/prometheus").await?;
        let shown = |metric: &str| {
            let found = text
                .lines()
                .find(|line| line.starts_with(metric) && line.contains("destination_app=\"web\""));
            found.unwrap_or_default().to_owned()
        };
        assert!(shown("istio_requests_total{").contains("source_app=\"client\""), "{text}");
        let size = shown("istio_request_bytes_count{");
        assert!(!size.is_empty() && !size.contains("source_app="), "{size}");
        Ok(())
    });
}

/// Prometheus as a pod without a sidecar, that scrapes every sidecar there is.
fn prometheus(state: &State) -> String {
    let targets: Vec<String> = state.pods.iter().map(|pod| format!("'{}:15020'", pod.ips[0])).collect();
    format!(
        "
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: prometheus}}
data:
  prometheus.yml: |
    global: {{scrape_interval: 1s, scrape_timeout: 1s}}
    scrape_configs:
    - job_name: pods
      metrics_path: /stats/prometheus
      static_configs: [{{targets: [{}]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: prometheus, labels: {{sidecar.istio.io/inject: 'false'}}}}
spec:
  containers:
  - name: prometheus
    command: [prometheus, --config.file=/config/prometheus.yml, --storage.tsdb.path=/tmp/tsdb,
      '--web.listen-address=127.0.0.1:9090']
    volumeMounts: [{{name: config, mountPath: /config}}]
  volumes: [{{name: config, configMap: {{name: prometheus}}}}]
",
        targets.join(", ")
    )
}

/// The samples of a query, each with its labels.
async fn samples(mesh: &Mesh, query: &str) -> anyhow::Result<Vec<(Value, f64)>> {
    let path = format!("/api/v1/query?query={}", encode(query));
    let Ok((_, body)) = mesh.admin_get(&pod("prometheus"), 9090, &path).await else { return Ok(Vec::new()) };
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    anyhow::ensure!(answer["status"] != "error", "{query}: {body}");
    let sample = |of: &Value| Some((of["metric"].clone(), of["value"][1].as_str()?.parse().ok()?));
    Ok(answer["data"]["result"].as_array().into_iter().flatten().filter_map(sample).collect())
}

/// The value of a query that has one; `None` for none.
async fn ask(mesh: &Mesh, query: &str) -> anyhow::Result<Option<f64>> {
    Ok(samples(mesh, query).await?.first().map(|(_, value)| *value))
}

/// Waits until a query's value is as wanted.
async fn until(mesh: &Mesh, query: &str, wanted: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
    let began = Instant::now();
    loop {
        let value = ask(mesh, query).await?;
        if let Some(value) = value.filter(|value| wanted(*value)) {
            return Ok(value);
        }
        anyhow::ensure!(began.elapsed() < LIMIT, "{query} stays at {value:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Sums that have to be what was counted, to the last request: of the 200s, of the 500s (which nobody tries again), of both.
const SUMS: [(&str, [f64; 3]); 6] = [
    (
        r#"sum(istio_requests_total{reporter="source",destination_service=~"web.default.svc.cluster.local",response_code="200"})"#,
        [1.0, 0.0, 0.0],
    ),
    (
        r#"sum(istio_requests_total{reporter="destination",destination_workload_namespace="default",destination_workload=~"web",response_code=~"5.*"})"#,
        [0.0, 1.0, 0.0],
    ),
    (
        r#"sum(istio_requests_total{reporter=~"destination",destination_canonical_service="web",source_canonical_service="client",request_protocol="http"})"#,
        [0.0, 0.0, 1.0],
    ),
    (
        r#"sum(istio_requests_total{connection_security_policy="mutual_tls",destination_service=~"web.default.svc.cluster.local",reporter=~"destination",source_workload=~"client",source_workload_namespace=~"default"}) by (source_workload, source_workload_namespace)"#,
        [0.0, 0.0, 1.0],
    ),
    (
        r#"sum(istio_request_duration_milliseconds_count{reporter="destination",destination_version="v1",destination_app="web",source_principal="spiffe://cluster.local/ns/default/sa/client"})"#,
        [0.0, 0.0, 1.0],
    ),
    (
        r#"sum(istio_response_bytes_bucket{reporter="source",destination_workload="web",le="+Inf"})"#,
        [0.0, 0.0, 1.0],
    ),
];

/// As Flagger's `request-success-rate` asks.
const SUCCESS_RATE: &str = r#"sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="default",destination_workload=~"web",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter="destination",destination_workload_namespace="default",destination_workload=~"web"}[1m])) * 100"#;
/// As Flagger's `request-duration` asks.
const DURATION: &str = r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter="destination",destination_workload_namespace="default",destination_workload=~"web"}[1m])) by (le))"#;
/// As Istio's service and workload dashboards ask: only that there is an answer above zero.
const DASHBOARDS: [&str; 6] = [
    r#"round(sum(irate(istio_requests_total{reporter=~"source|destination",destination_service=~"web.*"}[1m])), 0.001)"#,
    r#"(histogram_quantile(0.50, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"source",destination_service=~"web.*"}[1m])) by (le)) / 1000) or histogram_quantile(0.50, sum(irate(istio_request_duration_seconds_bucket{reporter=~"source",destination_service=~"web.*"}[1m])) by (le))"#,
    r#"histogram_quantile(0.95, sum(irate(istio_response_bytes_bucket{reporter=~"destination",connection_security_policy="mutual_tls",destination_service=~"web.*"}[1m])) by (source_workload, source_workload_namespace, le))"#,
    r#"label_join(sum by (destination_workload,destination_workload_namespace,destination_service) (rate(istio_requests_total{reporter="source"}[1m])), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"sum by (response_code) (round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",destination_service=~"web.*",reporter=~"source"}[1m])) by (source_workload, response_code), 0.001))"#,
    r#"sum(rate(weft_process_cpu_seconds_total[1m]))"#,
];

async fn load(mesh: &Mesh, ok: u32, broken: u32) -> anyhow::Result<()> {
    let script = format!("python3 /scripts/load.py 200={ok} 500={broken}");
    let (code, said) = sh(mesh, "deploy/client", &script).await?;
    anyhow::ensure!(code == 0 && said == format!("200={ok} 500={broken}"), "the load: {said}");
    Ok(())
}

#[test]
fn prometheus_says_what_the_load_generator_counted() {
    let Some(manifests) = Manifests::of(&["prometheus", "python3"], &format!("{WORKLOADS}{INJECTED}")) else {
        return;
    };
    manifests.run(async |mesh, state| {
        manifests.save("prometheus.yaml", &prometheus(&state));
        // A rate knows of a series only what happens after it was first seen.
        load(mesh, 1, 1).await?;
        until(mesh, SUMS[2].0, |value| value == 2.0).await?;
        load(mesh, 90, 30).await?;
        let (ok, broken) = (91.0, 31.0);
        for (query, of) in SUMS {
            let wanted = of[0] * ok + of[1] * broken + of[2] * (ok + broken);
            until(mesh, query, |value| value == wanted).await?;
        }
        until(mesh, SUCCESS_RATE, |percent| (percent - 75.0).abs() < 1.0).await?;
        until(mesh, DURATION, |millis| millis > 0.0 && millis < 60_000.0).await?;
        load(mesh, 20, 1).await?;
        for query in DASHBOARDS {
            until(mesh, query, |value| value >= 0.0).await?;
        }
        assert_eq!(until(mesh, "shop_orders_total", |_| true).await?, 42.0, "the application's own");
        assert_eq!(until(mesh, "count(up == 0) or vector(0)", |_| true).await?, 0.0, "every scrape is read");
        let (_, text) = mesh.admin_get(&pod("deploy/web"), 15020, "/stats/prometheus").await?;
        let linted = promtool(&["check", "metrics"], Some(&text));
        assert!(!linted.contains("error while linting"), "{linted}");
        Ok(())
    });
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/weft/files")
}

/// What `promtool` says.
fn promtool(arguments: &[&str], input: Option<&str>) -> String {
    let scratch = std::env::temp_dir().join(format!("weft-promtool-{}", std::process::id()));
    std::fs::write(&scratch, input.unwrap_or_default()).expect("a scratch file");
    let stdin = std::fs::File::open(&scratch).expect("the scratch file");
    let output = Command::new("promtool").args(arguments).current_dir(files()).stdin(stdin).output();
    let _ = std::fs::remove_file(&scratch);
    let output = output.expect("promtool runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    format!("{} {}", output.status, said.concat())
}

#[test]
fn the_charts_rules_are_valid_and_fire_as_they_say() {
    if lacking(&["promtool"]) {
        return;
    }
    let checked = promtool(&["check", "rules", "rules.yaml"], None);
    assert!(checked.starts_with("exit status: 0") && checked.contains("SUCCESS"), "{checked}");
    let tested = promtool(&["test", "rules", "rules-test.yaml"], None);
    assert!(tested.starts_with("exit status: 0"), "{tested}");
}

#[test]
fn the_dashboards_ask_for_what_there_is() {
    if lacking(&["promtool"]) {
        return;
    }
    let mut rules = String::from("groups:\n- name: dashboards\n  rules:\n");
    let mut count = 0;
    for entry in std::fs::read_dir(files().join("dashboards")).expect("the dashboards") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        for target in panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets")) {
            let expression = target["expr"].as_str().expect("a query").replace("$__rate_interval", "5m");
            rules.push_str(&format!("  - record: panel:{count}\n    expr: {}\n", Value::from(expression)));
            count += 1;
        }
    }
    assert!(count > 20, "{count} queries");
    let file = std::env::temp_dir().join(format!("weft-dashboards-{}.yaml", std::process::id()));
    std::fs::write(&file, rules).expect("a scratch file");
    let checked = promtool(&["check", "rules", &file.to_string_lossy()], None);
    let _ = std::fs::remove_file(&file);
    assert!(checked.starts_with("exit status: 0"), "{checked}");
}
