//! What passes through two sidecars of a local mesh: IPv6, long uploads, streams, upgrades, and plain TCP.

use std::time::Duration;

use weft::metrics::sum;
use weft::up::{Mesh, State};
use weft_e2e::local::{CURL, INJECTED, LIMIT, Manifests, pod, sh};

/// A client, with whatever it has to run in `/scripts`.
fn client(name: &str, script: &str) -> String {
    let indented = script.replace('\n', "\n    ");
    format!(
        "
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}}}
data:
  run.py: |
    {indented}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {name}
      containers:
      - {{name: {name}, command: [sleep, infinity], volumeMounts: [{{name: scripts, mountPath: /scripts}}]}}
      volumes: [{{name: scripts, configMap: {{name: {name}}}}}]
"
    )
}

/// How a server's sidecar counts what `client` asks by way of its own.
const FROM_CLIENT: [(&str, &str); 2] = [
    ("connection_security_policy", "mutual_tls"),
    ("source_principal", "spiffe://cluster.local/ns/default/sa/client"),
];

fn of<'a>(state: &'a State, workload: &str) -> &'a weft::up::api::PodState {
    state.pods.iter().find(|p| p.owner.ends_with(&format!("/{workload}"))).expect("a pod of the workload")
}

const ECHO: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  template:
    metadata: {labels: {app: echo}}
    spec:
      serviceAccountName: echo
      containers:
      - name: echo
        image: weft/echo
        args: [--http, '8080', --tcp, '9000', --tcp-server-first, '9001']
        readinessProbe: {httpGet: {port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 81, targetPort: 8080}
  - {name: any, port: 9000}
  - {name: greeter, port: 9001}
";

const ECHO_V6: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: echo6}
spec: {ipFamilies: [IPv6], selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Pod
metadata: {name: outside, labels: {sidecar.istio.io/inject: 'false'}}
spec: {containers: [{name: outside, command: [sleep, infinity]}]}
";

#[test]
fn g20_ipv6_through_two_sidecars() {
    let clients = format!("{}{}", client("client", "pass"), client("denied", "pass"));
    let Some(manifests) = Manifests::of(&["curl"], &format!("{ECHO}{ECHO_V6}{clients}{INJECTED}")) else {
        return;
    };
    manifests.run(async |mesh, state| {
        let Some(denied) = of(&state, "denied").ips.get(1) else {
            assert!(std::env::var_os("CI").is_none(), "no IPv6 on this machine");
            eprintln!("skipped: no IPv6 on this machine");
            return Ok(());
        };
        let ask = format!("{CURL} http://echo6/");
        let (_, answer) = sh(mesh, "deploy/client", &ask).await?;
        assert!(answer.starts_with("200 fd00:10:96::"), "{answer}");
        assert!(sh(mesh, "deploy/denied", &ask).await?.1.starts_with("200 fd00:10:96::"));
        // Who asked, and how, as the server's sidecar saw it.
        let (_, metrics) = mesh.admin_get(&pod("deploy/echo"), 15020, "/stats/prometheus").await?;
        assert!(sum(&metrics, "istio_requests_total", &FROM_CLIENT) >= 1.0, "{metrics}");
        // In clear, nobody comes in.
        let direct = format!("{CURL} -g 'http://[{}]:8080/'", of(&state, "echo").ips[1]);
        assert!(sh(mesh, "outside", &direct).await?.1.starts_with("000"), "STRICT holds on IPv6");
        let policy = format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: no-denied}}, spec: \
             {{action: DENY, rules: [{{from: [{{source: {{ipBlocks: ['{denied}/128']}}}}]}}]}}}}"
        );
        manifests.save("policy.yaml", &policy);
        let refused = "curl -s -m 10 -o /dev/null -w '%{http_code} %header{x-weft-reason}' http://echo6/";
        let began = std::time::Instant::now();
        while !sh(mesh, "deploy/denied", refused).await?.1.starts_with("403") {
            anyhow::ensure!(began.elapsed() < LIMIT, "the policy does not come into force");
        }
        assert!(sh(mesh, "deploy/client", &ask).await?.1.starts_with("200 "), "another address passes");
        Ok(())
    });
}

/// Reads nothing of a body before somebody asks for `/go`, and answers with the length of what came.
const STALLING: &str = r#"
import socket, threading
go = threading.Event()
def serve(s):
    f = s.makefile("rb")
    line, length = f.readline(), 0
    while (h := f.readline().strip()):
        name, value = h.split(b":", 1)
        length = int(value) if name.lower() == b"content-length" else length
    if b"/go" in line:
        go.set()
    elif length:
        go.wait()
    came = 0
    while came < length and (part := f.read(min(1 << 20, length - came))):
        came += len(part)
    body = b"%d" % came
    s.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    s.close()
l = socket.create_server(("", 8080), backlog=64)
while True:
    s, _ = l.accept()
    threading.Thread(target=serve, args=(s,), daemon=True).start()
"#;

/// Uploads 1 GiB to it; tells how much went out before nothing more did, and then what the server says that came.
const UPLOAD: &str = r#"
import select, socket, time, urllib.request
SIZE = 1 << 30
s = socket.create_connection(("stalling", 80))
s.sendall(b"POST /upload HTTP/1.1\r\nhost: stalling\r\ncontent-length: %d\r\n\r\n" % SIZE)
part, sent, stalled = bytes(1 << 18), 0, None
s.setblocking(False)
while sent < SIZE:
    if not select.select([], [s], [], 3)[1]:
        if stalled is not None:
            raise SystemExit("it stalls again")
        stalled = sent
        print("held", stalled, flush=True)
        time.sleep(1)
        urllib.request.urlopen("http://stalling/go", timeout=20).read()
        continue
    sent += s.send(part[:SIZE - sent])
s.setblocking(True)
answer = b""
while (got := s.recv(4096)):
    answer += got
    if b"\r\n\r\n" in answer and answer.endswith(b"%d" % SIZE):
        break
print("came", answer.rsplit(b"\r\n", 1)[1].decode(), flush=True)
"#;

/// The memory of a pod's sidecar, in KiB: what is its own, and (in a release build, whose text is small) all that was ever resident.
async fn memory(mesh: &Mesh, target: &str) -> anyhow::Result<u64> {
    let sidecar = mesh.state().await?;
    let sidecar = of(&sidecar, target).containers.iter().find(|c| c.name == "weft-proxy").expect("a sidecar");
    let status = format!("/proc/{}/status", sidecar.pid.expect("a process"));
    let field = if cfg!(debug_assertions) { "RssAnon:" } else { "VmHWM:" };
    let text =
        mesh.exec(&pod(&format!("deploy/{target}")), Some("weft-proxy"), &["cat", &status]).await?.stdout;
    let line = text.lines().find_map(|l| l.strip_prefix(field)).expect("a field of memory");
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Runs the upload; its exit code, what it told, and the most memory that the two sidecars had meanwhile.
async fn uploaded(mesh: &Mesh) -> anyhow::Result<(i32, String, [u64; 2])> {
    let upload = sh(mesh, "deploy/client", "/usr/bin/python3 /scripts/run.py");
    tokio::pin!(upload);
    let mut most = [0; 2];
    loop {
        tokio::select! {
            done = &mut upload => return done.map(|(code, told)| (code, told, most)),
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                let now = [memory(mesh, "client").await?, memory(mesh, "stalling").await?];
                most = [most[0].max(now[0]), most[1].max(now[1])];
            }
        }
    }
}

#[test]
fn a_gigabyte_waits_for_a_server_that_does_not_read_and_is_never_held() {
    let server = client("stalling", STALLING).replace(
        "[sleep, infinity]",
        "[/usr/bin/python3, /scripts/run.py], readinessProbe: {tcpSocket: {port: 8080}}",
    );
    let service = "
---
apiVersion: v1
kind: Service
metadata: {name: stalling}
spec: {selector: {app: stalling}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    let Some(manifests) =
        Manifests::of(&["python3"], &format!("{server}{service}{}{INJECTED}", client("client", UPLOAD)))
    else {
        return;
    };
    manifests.run(async |mesh, _| {
        let (code, told, most) = uploaded(mesh).await?;
        let held: u64 = told.lines().find_map(|l| l.strip_prefix("held ")).unwrap_or("0").parse()?;
        eprintln!("{told}; KiB of the client's sidecar and the server's: {most:?}");
        assert!(code == 0 && told.ends_with(&format!("came {}", 1 << 30)), "{told}");
        assert!((1..64 << 20).contains(&held), "{held} bytes went out to a server that reads nothing");
        assert!(most.iter().all(|kib| (1..32 << 10).contains(kib)), "{most:?} KiB");
        Ok(())
    });
}

/// A WebSocket, a connection that is closed in one direction, and a server that speaks first, by hand.
const BY_HAND: &str = r#"
import os, socket, struct
def connect(port):
    s = socket.create_connection(("echo", port), timeout=20)
    return s, s.makefile("rb")
def websocket():
    s, f = connect(80)
    s.sendall(b"GET /ws HTTP/1.1\r\nHost: echo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    status = f.readline().split()[1].decode()
    while f.readline().strip():
        pass
    mask, text = os.urandom(4), b"over and over"
    s.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
    first, length = struct.unpack("BB", f.read(2))
    print("websocket", status, hex(first), f.read(length).decode())
def half_close():
    s, f = connect(9000)
    s.sendall(b"x" * 100_000)
    s.shutdown(socket.SHUT_WR)
    print("half-close", len(f.read().rstrip(b"\n").rsplit(b"x", 1)[0]) + 1)
def greeting():
    s, f = connect(9001)
    print("greeting", f.readline().decode().split(" ")[:2])
    s.sendall(b"who\n")
    print("who", b"echo" in f.readline())
websocket(), half_close(), greeting()
"#;

#[test]
fn streams_upgrades_and_half_closed_connections_through_two_sidecars() {
    let Some(manifests) =
        Manifests::of(&["curl", "python3"], &format!("{ECHO}{}{INJECTED}", client("client", BY_HAND)))
    else {
        return;
    };
    manifests.run(async |mesh, _| {
        let (code, told) = sh(mesh, "deploy/client", "/usr/bin/python3 /scripts/run.py").await?;
        assert_eq!(
            (code, told.as_str()),
            (
                0,
                "websocket 101 0x81 over and over\nhalf-close 100000\ngreeting ['220', 'weft-echo']\nwho True"
            )
        );
        // gRPC, its messages framed by hand: five bytes of head, then `hello`.
        for (method, port, messages, answers) in
            [("Unary", 80, 1, 1), ("ServerStream", 81, 1, 3), ("ClientStream", 81, 4, 1), ("Bidi", 80, 4, 4)]
        {
            let call = format!(
                "for i in $(seq {messages}); do printf '\\0\\0\\0\\0\\005hello'; sleep 0.1; done | curl -sSN -m 20 \
                 --http2-prior-knowledge -X POST -T . -H 'content-type: application/grpc' -H 'te: trailers' \
                 -D /tmp/head http://echo:{port}/weft.echo.v1.Echo/{method} 2>/dev/null | tr -d '\\0\\005' > /tmp/body; \
                 grep -o 'hello' /tmp/body | wc -l; wc -c < /tmp/body; grep -i '^grpc-status' /tmp/head"
            );
            let (_, told) = sh(mesh, "deploy/client", &call).await?;
            let told: Vec<&str> = told.split_whitespace().collect();
            assert_eq!(&told[2..], ["grpc-status:", "0"], "{method}: {told:?}");
            if method != "ClientStream" {
                assert_eq!(told[0], answers.to_string(), "{method}: {told:?}");
            }
        }
        // All of it between the two sidecars, as the one that served saw it.
        let (_, metrics) = mesh.admin_get(&pod("deploy/echo"), 15020, "/stats/prometheus").await?;
        let seen = |name: &str| sum(&metrics, name, &FROM_CLIENT);
        assert!(
            seen("istio_requests_total") >= 2.0 && seen("istio_tcp_connections_opened_total") >= 1.0,
            "{metrics}"
        );
        Ok(())
    });
}

const DATABASES: &str = r#"
---
apiVersion: v1
kind: Pod
metadata: {name: redis, labels: {app: redis}}
spec:
  containers:
  - {name: redis, command: [redis-server, --save, '', --protected-mode, 'no', --bind, 0.0.0.0], readinessProbe: {tcpSocket: {port: 6379}}}
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {selector: {app: redis}, ports: [{port: 6379}]}
---
apiVersion: v1
kind: Pod
metadata: {name: postgres, labels: {app: postgres}}
spec:
  containers:
  - name: postgres
    command: [sh, -c, 'PATH=$(echo /usr/lib/postgresql/*/bin | cut -d" " -f1):$PATH;
      initdb -A trust -U weft -D /data/db >/data/log && echo "host all all all trust" >> /data/db/pg_hba.conf &&
      exec postgres -D /data/db -h "*" -k /data']
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {exec: {command: [psql, -h, /data, -U, weft, -d, postgres, -c, select 1]}}
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: postgres}
spec: {selector: {app: postgres}, ports: [{name: tcp-postgres, port: 5432}]}
"#;

#[test]
fn databases_through_two_sidecars() {
    let Some(manifests) = Manifests::of(
        &["redis-server", "redis-cli", "psql"],
        &format!("{DATABASES}{}{INJECTED}", client("client", "pass")),
    ) else {
        return;
    };
    manifests.run(async |mesh, _| {
        assert_eq!(sh(mesh, "deploy/client", "redis-cli -h redis incr visits").await?, (0, "1".into()));
        let ask =
            "psql -h postgres -U weft -d postgres -Atc 'select sum(n) from generate_series(1, 100000) n'";
        assert_eq!(sh(mesh, "deploy/client", ask).await?, (0, "5000050000".into()));
        for server in ["redis", "postgres"] {
            let (_, metrics) = mesh.admin_get(&pod(server), 15020, "/stats/prometheus").await?;
            let seen = sum(&metrics, "istio_tcp_connections_opened_total", &FROM_CLIENT) >= 1.0;
            assert!(seen, "{server}: {metrics}");
        }
        Ok(())
    });
}
