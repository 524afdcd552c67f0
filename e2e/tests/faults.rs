//! Faults of the network and of processes, in the namespaces of a local mesh (hardening part G).

use std::time::{Duration, Instant};

use weft::up::{Mesh, State};
use weft_e2e::local::{CURL, INJECTED, LIMIT, Manifests, pod, sh};

const MESH: &str = "
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
      - {name: echo, image: weft/echo, args: [--http, '8080', --tcp, '9000'], readinessProbe: {httpGet: {port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: client, command: [sleep, infinity]}]}
";

/// Sends so many random bytes and compares what comes back (which ends with a line of the server's own).
const COPY: &str = r#"
import os, socket, sys, threading
size = int(sys.argv[1])
sent = os.urandom(size)
s = socket.create_connection(("echo", 9000), timeout=60)
def send():
    s.sendall(sent)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
came = b""
while part := s.recv(65536):
    came += part
print("same" if came[:size] == sent else f"{len(came)} of {size}")
"#;

/// Shows that a connection stands, and after two seconds how long it goes on: while it is written to, or not.
const STANDS: &str = r#"
import socket, sys, time
s = socket.create_connection(("echo", 9000), timeout=60)
s.sendall(b"x")
assert s.recv(1) == b"x"
time.sleep(2)
began = time.time()
if sys.argv[1] == "write":
    s.sendall(b"y")
try:
    left = s.recv(1)
except OSError:
    left = b""
print(left, round(time.time() - began, 1))
"#;

fn python(script: &str, argument: &str) -> String {
    format!("/usr/bin/python3 -c '{script}' {argument}")
}

/// What of the packets that come to the client's pod, but for those from itself, is thrown away.
async fn lose(mesh: &Mesh, which: &str) -> anyhow::Result<()> {
    let table = format!(
        "table inet fault {{}}; delete table inet fault; table inet fault {{ chain come {{ \
         type filter hook input priority -400; iifname != \"lo\" {which} drop; }}; }}"
    );
    nft(mesh, &table).await
}

async fn nft(mesh: &Mesh, what: &str) -> anyhow::Result<()> {
    let done = mesh.exec(&pod("client"), Some("weft-proxy"), &["nft", what]).await?;
    anyhow::ensure!(done.code == 0, "{done:?}");
    Ok(())
}

fn manifests(programs: &[&str]) -> Option<Manifests> {
    Manifests::of(programs, &format!("{MESH}{INJECTED}"))
}

#[test]
fn g15_packets_that_are_lost_cost_time_and_no_byte() {
    let Some(manifests) = manifests(&["nft", "python3"]) else { return };
    manifests.run(async |mesh, _| {
        for (percent, size) in [(1, 1 << 20), (5, 256 << 10), (30, 8 << 10)] {
            lose(mesh, &format!("numgen random mod 100 < {percent}")).await?;
            let (code, told) = sh(mesh, "client", &python(COPY, &size.to_string())).await?;
            assert_eq!((code, told.as_str()), (0, "same"), "{percent} %");
        }
        // Nothing at all comes for a second.
        nft(mesh, "delete table inet fault").await?;
        let copy = python(COPY, &(32 << 20).to_string());
        let (copied, hole) = tokio::join!(sh(mesh, "client", &copy), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            lose(mesh, "").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            nft(mesh, "delete table inet fault").await
        });
        hole?;
        assert_eq!(copied?, (0, "same".to_owned()));
        Ok(())
    });
}

#[test]
fn g15_g16_a_peer_that_vanished_is_noticed_in_time() {
    let Some(manifests) = manifests(&["nft", "python3"]) else { return };
    manifests.run(async |mesh, _| {
        for (does, most) in [("write", 12.5), ("read", 31.0)] {
            let script = python(STANDS, does);
            let (stood, vanished) = tokio::join!(sh(mesh, "client", &script), async {
                tokio::time::sleep(Duration::from_millis(1200)).await;
                lose(mesh, "").await
            });
            vanished?;
            let (code, told) = stood?;
            let took = told.strip_prefix("b'' ").and_then(|took| took.parse::<f64>().ok());
            assert!(code == 0 && took.is_some_and(|took| took <= most), "{does}: {told}");
            nft(mesh, "delete table inet fault").await?;
            assert!(sh(mesh, "client", &format!("{CURL} http://echo/")).await?.1.starts_with("200 "));
        }
        Ok(())
    });
}

#[test]
fn g8_a_sidecar_that_stood_still_goes_on_with_what_there_is() {
    const STOP: i32 = 19;
    const CONTINUE: i32 = 18;
    let Some(manifests) = manifests(&["curl"]) else { return };
    manifests.run(async |mesh, state| {
        let ask = format!("{CURL} http://echo/");
        assert!(sh(mesh, "client", &ask).await?.1.starts_with("200 "));
        let echo = |state: &State| state.pods.iter().find(|p| p.owner.ends_with("/echo")).cloned();
        let first = echo(&state).expect("a pod").name;
        mesh.kill_process(&pod("client"), "weft-proxy", STOP).await?;
        // Every connection that it keeps ends meanwhile.
        mesh.kill_pod(&pod(&first)).await?;
        let began = Instant::now();
        while !echo(&mesh.state().await?).is_some_and(|p| p.name != first && p.ready) {
            anyhow::ensure!(began.elapsed() < LIMIT, "the pod is not replaced");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        mesh.kill_process(&pod("client"), "weft-proxy", CONTINUE).await?;
        mesh.wait_ready(LIMIT).await?;
        for _ in 0..20 {
            let (_, answer) = sh(mesh, "client", &ask).await?;
            assert!(answer.starts_with("200 "), "{answer}");
        }
        Ok(())
    });
}

/// Sidecars whose limits are their own, to be put into cgroups of their own.
const LIMITED: &str = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  template:
    metadata:
      labels: {app: echo}
      annotations: {proxy.istio.io/config: 'proxyMetadata: {WEFT_MAX_REQUESTS: \"LIMIT\"}'}
    spec:
      containers:
      - {name: echo, image: weft/echo, args: [--http, '8080'], readinessProbe: {httpGet: {port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: client, command: [sleep, infinity]}]}
";

/// Asks, with so many threads for so many seconds; tells of each status how often it came, whether each 503 had a
/// `retry-after`, and the longest time that an answer took.
const ASKS: &str = r#"
import collections, http.client, sys, threading, time
threads, seconds, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
end, seen, slowest = time.time() + seconds, collections.Counter(), [0.0]
def ask():
    while time.time() < end:
        began = time.time()
        try:
            c = http.client.HTTPConnection("echo", timeout=20)
            c.request("GET", path)
            r = c.getresponse()
            seen[r.status if r.status != 503 or r.getheader("retry-after") else "bare"] += 1
            c.close()
        except OSError:
            seen["broken"] += 1
        slowest[0] = max(slowest[0], time.time() - began)
all = [threading.Thread(target=ask) for _ in range(threads)]
[t.start() for t in all]
[t.join() for t in all]
print(*[f"{status}={seen[status]}" for status in (200, 503, "bare", "broken")], f"slowest={slowest[0]:.1f}")
"#;

/// Cgroups of version 1, as root: where a process can be given less.
fn cgroup(controller: &str, name: &str, limits: &[(&str, &str)], process: u32) -> std::io::Result<Cgroup> {
    let folder = std::path::Path::new("/sys/fs/cgroup").join(controller).join(name);
    std::fs::create_dir(&folder)?;
    let made = Cgroup(folder);
    for (file, value) in limits {
        std::fs::write(made.0.join(file), value)?;
    }
    std::fs::write(made.0.join("cgroup.procs"), process.to_string())?;
    Ok(made)
}

/// Is gone with its last process, or when its processes are elsewhere.
struct Cgroup(std::path::PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let above = self.0.with_file_name("cgroup.procs");
        let processes = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = std::fs::write(&above, process);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Whether cgroups cannot be made here; says so once.
fn no_cgroups() -> bool {
    let folder = std::path::Path::new("/sys/fs/cgroup/cpu/weft-e2e-probe");
    let made = std::fs::create_dir(folder).is_ok() && folder.join("cpu.cfs_quota_us").exists();
    let _ = std::fs::remove_dir(folder);
    if !made {
        eprintln!("skipped: no cgroups of version 1 can be made here");
    }
    !made
}

/// The process of the sidecar that has this in its environment.
fn sidecar_with(variable: &str) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let process = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let has = environment.split(|byte| *byte == 0).any(|each| each == variable.as_bytes());
        has.then_some(process)
    })
}

#[test]
fn g4_a_sidecar_without_time_sheds_what_it_cannot_do_and_stays_ready() {
    if no_cgroups() {
        return;
    }
    let text = format!("{}{INJECTED}", LIMITED.replace("LIMIT", "8"));
    let Some(manifests) = Manifests::of(&["curl", "python3"], &text) else { return };
    manifests.run(async |mesh, state| {
        let echo = state.pods.iter().find(|pod| pod.owner.ends_with("/echo")).expect("a pod").name.clone();
        let process = sidecar_with(&format!("WEFT_POD_NAME={echo}")).expect("a sidecar");
        let name = format!("weft-e2e-{}", std::process::id());
        let tenth = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "10000")];
        let _starved = cgroup("cpu", &name, &tenth, process)?;
        let load = format!("/usr/bin/python3 -c '{ASKS}' 32 6 /?delay=100ms");
        let ready = "curl -s -m 5 -o /dev/null -w '%{http_code}' http://127.0.0.1:15021/healthz/ready";
        let (asked, looked) = tokio::join!(sh(mesh, "client", &load), async {
            let mut looked = Vec::new();
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                looked.push(sh(mesh, &echo, ready).await?);
            }
            anyhow::Ok(looked)
        });
        let (_, told) = asked?;
        assert!(looked?.iter().all(|(_, status)| status == "200"), "it says that it is ready, and is");
        let number = |name: &str| -> f64 {
            let found = told.split(' ').find_map(|part| part.strip_prefix(name)?.parse().ok());
            found.unwrap_or_else(|| panic!("{told}"))
        };
        assert!(number("200=") > 0.0 && number("503=") > 0.0, "{told}");
        assert_eq!((number("bare="), number("broken=")), (0.0, 0.0), "{told}");
        assert!(number("slowest=") < 5.0, "{told}");
        Ok(())
    });
}
