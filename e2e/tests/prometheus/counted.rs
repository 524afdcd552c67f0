//! Each family of queries of Istio's dashboards and of Flagger's templates, against what the load counted: requests by
//! code, success rate, durations, bytes of requests and responses, bytes and connections of TCP.
//!
//! A sum is what was counted, to the last one. So is a ratio of rates: both sides are extrapolated alike. A rate alone is
//! extrapolated to its window's ends: close to what was counted. A quantile lies in the bucket of the value itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use weft::up::Mesh;
use weft_e2e::local::{INJECTED, LIMIT, Manifests, sh};

use super::{prometheus, samples, until};

/// How long the application waits before it answers, in milliseconds: in the bucket from 25 to 50.
const DELAY: f64 = 30.0;

const WORKLOADS: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web, version: v1}}
    spec:
      serviceAccountName: web
      containers:
      - {name: web, image: weft/echo, args: [--http, '8080', --tcp, '9000'], readinessProbe: {httpGet: {port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-store, port: 9000}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: scripts}
data:
  load.py: |
    import json, sys, time, urllib.error, urllib.request
    counted = {'codes': {}, 'sent': 0, 'received': 0, 'millis': []}
    for case in sys.argv[1:]:
        status, times, up, down = (int(number) for number in case.split(','))
        for _ in range(times):
            url = f'http://web/?status={status}&bytes={down}&delay=30ms'
            began = time.monotonic()
            try:
                answer = urllib.request.urlopen(urllib.request.Request(url, b'u' * up, method='POST'))
            except urllib.error.HTTPError as error:
                answer = error
            counted['received'] += len(answer.read())
            counted['millis'].append((time.monotonic() - began) * 1000)
            counted['sent'] += up
            counted['codes'][answer.status] = counted['codes'].get(answer.status, 0) + 1
    print(json.dumps(counted))
  tcp.py: |
    import json, socket, subprocess, sys
    counted = {'opened': 0, 'closed': 0, 'sent': 0, 'received': 0}
    def connect(bytes):
        connection = socket.create_connection(('web', 9000))
        connection.sendall(b'u' * bytes)
        counted['opened'] += 1
        counted['sent'] += bytes
        return connection
    def read(connection, most):
        got = 0
        while got < most and (piece := connection.recv(65536)):
            got += len(piece)
        counted['received'] += got
    for bytes in (10, 70000, 100000):
        connection = connect(bytes)
        connection.shutdown(socket.SHUT_WR)
        read(connection, 1 << 30)
        connection.close()
        counted['closed'] += 1
    held = [connect(1000) for _ in range(2)]
    for connection in held:
        read(connection, 1000)
    subprocess.Popen(['sleep', '600'], pass_fds=[connection.fileno() for connection in held], start_new_session=True,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(json.dumps(counted))
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

/// What the load counted of requests.
#[derive(Clone, Deserialize)]
struct Requests {
    codes: BTreeMap<String, f64>,
    /// Bytes of bodies.
    sent: f64,
    received: f64,
    /// How long each took, as its client saw it.
    millis: Vec<f64>,
}

/// What the load counted of connections.
#[derive(Deserialize)]
struct Connections {
    opened: f64,
    closed: f64,
    sent: f64,
    received: f64,
}

impl Requests {
    fn count(&self) -> f64 {
        self.codes.values().sum()
    }

    fn codes_beginning_with(&self, first: char) -> f64 {
        self.codes.iter().filter(|(code, _)| code.starts_with(first)).map(|(_, count)| count).sum()
    }

    /// The bound of the bucket in which a client saw this quantile: a sidecar's time is no longer than its client's.
    fn bound_of(&self, quantile: f64) -> f64 {
        let mut millis = self.millis.clone();
        millis.sort_by(f64::total_cmp);
        let slowest = millis[((quantile * millis.len() as f64).ceil() as usize).min(millis.len() - 1)];
        let bounds = [50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0];
        bounds.into_iter().find(|bound| slowest <= *bound).unwrap_or(f64::INFINITY)
    }
}

/// Runs a script of the client's; what it printed.
async fn counted<T: serde::de::DeserializeOwned>(mesh: &Mesh, script: &str) -> anyhow::Result<T> {
    let (code, said) = sh(mesh, "deploy/client", &format!("python3 /scripts/{script}")).await?;
    anyhow::ensure!(code == 0, "{script}: {said}");
    Ok(serde_json::from_str(&said)?)
}

/// Waits until a query has these values, by the value of one label.
async fn until_by(
    mesh: &Mesh,
    label: &str,
    query: &str,
    wanted: &BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let found = samples(mesh, query).await?.into_iter();
        let found: BTreeMap<_, _> = found
            .map(|(labels, value)| (labels[label].as_str().unwrap_or_default().to_owned(), value))
            .collect();
        let same = |(code, value): (&String, &f64)| found.get(code).is_some_and(|f| is(*f, *value));
        if found.len() == wanted.len() && wanted.iter().all(same) {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < LIMIT, "{query} stays at {found:?}, counted was {wanted:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Equal but for how numbers are computed.
fn is(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= 1e-6 * wanted.abs().max(1.0)
}

/// Equal but for what a rate assumes at the ends of its window.
fn is_about(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= 0.08 * wanted
}

const SOURCE: &str = r#"reporter="source",destination_service=~"web.default.svc.cluster.local""#;
const DESTINATION: &str =
    r#"reporter="destination",destination_workload_namespace="default",destination_workload=~"web""#;

/// All that was ever counted: exact.
async fn sums(mesh: &Mesh, all: &Requests) -> anyhow::Result<()> {
    for of in [SOURCE, DESTINATION] {
        let by_code = format!("sum(istio_requests_total{{{of}}}) by (response_code)");
        until_by(mesh, "response_code", &by_code, &all.codes).await?;
        for (metric, wanted) in [
            ("istio_requests_total", all.count()),
            ("istio_request_duration_milliseconds_count", all.count()),
            ("istio_request_bytes_sum", all.sent),
            ("istio_response_bytes_sum", all.received),
        ] {
            until(mesh, &format!("sum({metric}{{{of}}})"), |value| is(value, wanted)).await?;
        }
    }
    Ok(())
}

/// Rates and their ratios.
async fn rates(mesh: &Mesh, load: &Requests) -> anyhow::Result<()> {
    let shares = load.codes.iter().map(|(code, count)| (code.clone(), count / load.count())).collect();
    for of in [SOURCE, DESTINATION] {
        let rate = |metric: &str, more: &str| format!("sum(rate({metric}{{{of}{more}}}[5m]))");
        let requests = rate("istio_requests_total", "");
        // As Istio's service dashboard and Flagger's `request-success-rate` ask.
        let good = rate("istio_requests_total", r#",response_code!~"5.*""#);
        let percent = 100.0 * (1.0 - load.codes_beginning_with('5') / load.count());
        until(mesh, &format!("{good} / {requests} * 100"), |value| is(value, percent)).await?;
        let share = format!("{requests} by (response_code) / ignoring(response_code) group_left {requests}");
        until_by(mesh, "response_code", &share, &shares).await?;
        until(mesh, &format!("round({requests}, 0.001) * 300"), |value| is_about(value, load.count()))
            .await?;
        for (metric, bytes) in [("request", load.sent), ("response", load.received)] {
            let [sum, count] = ["sum", "count"].map(|what| rate(&format!("istio_{metric}_bytes_{what}"), ""));
            until(mesh, &format!("{sum} / {count}"), |mean| is(mean, bytes / load.count())).await?;
        }
        let [sum, count] =
            ["sum", "count"].map(|what| rate(&format!("istio_request_duration_milliseconds_{what}"), ""));
        let mean = load.millis.iter().sum::<f64>() / load.count();
        until(mesh, &format!("{sum} / {count}"), |value| (DELAY..=mean).contains(&value)).await?;
    }
    Ok(())
}

/// Quantiles: each in the bucket of what was counted.
async fn quantiles(mesh: &Mesh, load: &Requests) -> anyhow::Result<()> {
    for of in [SOURCE, DESTINATION] {
        let quantile = |quantile: f64, metric: &str| {
            format!("histogram_quantile({quantile}, sum(rate({metric}_bucket{{{of}}}[5m])) by (le))")
        };
        // As both ask for p50, p90, p95, p99; Flagger's `request-duration` for the last.
        for q in [0.5, 0.9, 0.95, 0.99] {
            let bound = load.bound_of(q);
            let query = quantile(q, "istio_request_duration_milliseconds");
            until(mesh, &query, |millis| millis > 25.0 && millis <= bound).await?;
            // Bodies of 3,000 bytes, answered with 20,000.
            let sent = quantile(q, "istio_request_bytes");
            until(mesh, &sent, |bytes| bytes > 2500.0 && bytes <= 5000.0).await?;
            let received = quantile(q, "istio_response_bytes");
            until(mesh, &received, |bytes| bytes > 10_000.0 && bytes <= 30_000.0).await?;
        }
    }
    Ok(())
}

/// Connections, of which some are open still.
async fn connections(mesh: &Mesh, counted: &Connections) -> anyhow::Result<()> {
    for of in [SOURCE, DESTINATION] {
        for (metric, wanted) in [
            ("opened", counted.opened),
            ("closed", counted.closed),
            ("sent_bytes", counted.received),
            ("received_bytes", counted.sent),
        ] {
            let name =
                if metric.ends_with("bytes") { metric.to_owned() } else { format!("connections_{metric}") };
            until(mesh, &format!("sum(istio_tcp_{name}_total{{{of}}})"), |value| is(value, wanted)).await?;
        }
        let open = format!(
            "sum(istio_tcp_connections_opened_total{{{of}}}) - sum(istio_tcp_connections_closed_total{{{of}}})"
        );
        until(mesh, &open, |value| is(value, counted.opened - counted.closed)).await?;
    }
    Ok(())
}

#[test]
fn each_family_of_queries_says_what_the_load_counted() {
    let Some(manifests) = Manifests::of(&["prometheus", "python3"], &format!("{WORKLOADS}{INJECTED}")) else {
        return;
    };
    manifests.run(async |mesh, state| {
        manifests.save("prometheus.yaml", &prometheus(&state));
        // A rate knows of a series only what happens after it was first seen.
        let first: Requests =
            counted(mesh, "load.py 200,4,3000,20000 404,4,3000,20000 500,4,3000,20000").await?;
        sums(mesh, &first).await?;
        let load: Requests =
            counted(mesh, "load.py 200,60,3000,20000 404,20,3000,20000 500,20,3000,20000").await?;
        let mut all = load.clone();
        first.codes.iter().for_each(|(code, count)| *all.codes.entry(code.clone()).or_default() += count);
        (all.sent, all.received) = (all.sent + first.sent, all.received + first.received);
        sums(mesh, &all).await?;
        assert_eq!((load.count(), load.sent, load.received), (100.0, 300_000.0, 2_000_000.0));
        rates(mesh, &load).await?;
        quantiles(mesh, &load).await?;
        let tcp: Connections = counted(mesh, "tcp.py").await?;
        connections(mesh, &tcp).await?;
        assert_eq!((tcp.opened, tcp.closed, tcp.sent), (5.0, 3.0, 172_010.0));
        Ok(())
    });
}
