//! `weft up` on this machine: real namespaces, real redirection, real sidecars and the real controller.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use weft::up::{Event, Mesh, State};
use weft_e2e::local::{CURL, FILE, INJECTED, LIMIT, Manifests, binary, log, pod, run, sh};

const WEB: &str = "
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
      - name: web
        image: weft/echo
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {port: http}}
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

/// Waits until the state is as wanted.
async fn until(mesh: &Mesh, what: &str, wanted: impl Fn(&State) -> bool) -> anyhow::Result<State> {
    let began = Instant::now();
    loop {
        let state = mesh.state().await?;
        if wanted(&state) {
            return Ok(state);
        }
        anyhow::ensure!(began.elapsed() < LIMIT, "never {what}: {state:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn pods_without_sidecars_reach_services_and_commands_give_their_exit_codes() {
    let Some(manifests) = Manifests::of(&["curl"], WEB) else { return };
    manifests.run(async |mesh, state| {
        assert_eq!(state.pods.len(), 3);
        let address = state.services[0].addresses[0].to_string();
        assert_eq!(
            sh(mesh, "deploy/client", &format!("{CURL} http://web/")).await?,
            (0, format!("200 {address}"))
        );
        let (_, both) =
            sh(mesh, "deploy/client", "for i in $(seq 40); do curl -s http://web.default.svc/; echo; done")
                .await?;
        let pods = state.pods.iter().filter(|p| p.owner.ends_with("/web"));
        assert!(pods.clone().all(|p| both.contains(&p.name)), "both replicas are reached");
        assert_eq!(sh(mesh, "deploy/client", "exit 7").await?.0, 7);
        assert_eq!(sh(mesh, "deploy/client", "kill -9 $$").await?.0, 128 + 9);
        assert_eq!(mesh.exec(&pod("deploy/client"), None, &["no-such-program"]).await?.code, 127);
        assert!(
            mesh.exec(&pod("nobody"), None, &["true"])
                .await
                .unwrap_err()
                .to_string()
                .contains("no pod \"nobody\"")
        );
        Ok(())
    });
}

#[test]
fn sidecars_stand_behind_redirection_and_applications_cannot_get_around_it() {
    let Some(manifests) = Manifests::of(&["curl", "nft", "python3"], &format!("{WEB}{INJECTED}")) else {
        return;
    };
    manifests.run(async |mesh, state| {
        let ask = format!("{CURL} http://web/");
        assert!(sh(mesh, "deploy/client", &ask).await?.1.starts_with("200 "));
        let (_, metrics) = mesh.admin_get(&pod("deploy/client"), 15020, "/stats/prometheus").await?;
        assert!(metrics.contains("istio_requests_total{") && metrics.contains("/sa/web"), "{metrics}");
        let rules =
            mesh.exec(&pod("deploy/client"), Some("weft-proxy"), &["nft", "list", "ruleset"]).await?.stdout;
        assert!(rules.contains("redirect to :15001") && rules.contains("redirect to :15006"), "{rules}");
        // The application has no power over any of it.
        let mark = "import socket; socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x77656674)";
        let tried = mesh.exec(&pod("deploy/client"), None, &["/usr/bin/python3", "-c", mark]).await?;
        assert!(tried.code != 0 && tried.stderr.contains("not permitted"), "{tried:?}");
        assert_ne!(sh(mesh, "deploy/client", "nft flush ruleset").await?.0, 0);
        assert_ne!(
            sh(mesh, "deploy/client", "cat /.weft/pods/*/token /proc/1/root/.weft/pods/*/token").await?.0,
            0
        );
        assert_ne!(sh(mesh, "deploy/client", "id -u").await?.1, "0");
        // Itself it reaches as ever: the port of its sidecar's health is on its own address.
        let client = state.pods.iter().find(|p| p.owner.ends_with("/client")).unwrap();
        let own = format!("{CURL} http://{}:15021/healthz/ready", client.ips[0]);
        assert_eq!(sh(mesh, "deploy/client", &own).await?.1, format!("200 {}", client.ips[0]));
        Ok(())
    });
}

#[test]
fn an_application_reaches_itself_through_its_service() {
    let Some(manifests) = Manifests::of(&["curl"], &format!("{WEB}{INJECTED}")) else { return };
    manifests.run(async |mesh, _| {
        // Of several requests in turn, some are for the replica that asks.
        for _ in 0..6 {
            let (_, answer) = sh(mesh, "deploy/web", &format!("{CURL} http://web/")).await?;
            assert!(answer.starts_with("200 "), "{answer}");
        }
        Ok(())
    });
}

#[test]
fn f8_f14_g7_sidecars_serve_on_without_the_controller_and_after_a_restart() {
    let Some(manifests) = Manifests::of(&["curl"], &format!("{WEB}{INJECTED}")) else { return };
    manifests.run(async |mesh, _| {
        let ask = format!("{CURL} http://web/");
        assert!(sh(mesh, "deploy/client", &ask).await?.1.starts_with("200 "));
        mesh.stop_controller().await?;
        until(mesh, "without controller", |s| !s.controller).await?;
        mesh.kill_sidecar(&pod("deploy/client")).await?;
        let restarted = |s: &State| {
            s.pods.iter().any(|p| p.ready && p.owner.ends_with("/client") && p.containers[0].restarts == 1)
        };
        until(mesh, "restarted", restarted).await?;
        assert!(sh(mesh, "deploy/client", &ask).await?.1.starts_with("200 "));
        mesh.start_controller().await?;
        until(mesh, "with controller", |s| s.controller).await?;
        Ok(())
    });
}

#[test]
fn saving_a_file_changes_what_runs_and_a_broken_one_changes_nothing() {
    let Some(manifests) = Manifests::of(&[], WEB) else { return };
    manifests.run(async |mesh, first| {
        let events = mesh.events().await?;
        manifests.save(FILE, &WEB.replace("replicas: 2", "replicas: many"));
        let broken = until(mesh, "broken", |s| !s.errors.is_empty()).await?;
        let expected =
            format!("{}/{FILE}:7: Deployment default/web: spec.replicas: ", manifests.path().display());
        assert!(broken.errors[0].starts_with(&expected), "{:?}", broken.errors);
        assert_eq!(names(&broken), names(&first), "the last good state stays");
        manifests.save(FILE, &WEB.replace("replicas: 2", "replicas: 3"));
        let more = until(mesh, "three", |s| s.ready && s.pods.len() == 4).await?;
        assert!(more.errors.is_empty() && names(&more).is_superset(&names(&first)));
        // New pods are ready before old ones go: there are never fewer than wanted.
        manifests.save(FILE, &WEB.replace("replicas: 2", "replicas: 3").replace("POD_NAME", "POD"));
        let changed = |s: &State| s.ready && names(s).intersection(&names(&more)).count() == 1;
        let fewest = std::cell::Cell::new(usize::MAX);
        until(mesh, "changed", |s| {
            let ready = s.pods.iter().filter(|p| p.owner.ends_with("/web") && p.ready).count();
            fewest.set(fewest.get().min(ready));
            changed(s)
        })
        .await?;
        assert!(fewest.get() >= 3, "{} were ready", fewest.get());
        fs::remove_file(manifests.path().join(FILE))?;
        until(mesh, "empty", |s| s.pods.is_empty() && s.services.is_empty()).await?;
        let mut told = Vec::new();
        while !told.contains(&Event::Mended) {
            told.extend(events.next().await?);
        }
        Ok(())
    });
}

fn names(state: &State) -> BTreeSet<String> {
    state.pods.iter().map(|p| p.name.clone()).collect()
}

const FULL: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {LEVEL: high, app.conf: "a=1\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: full}
spec:
  initContainers:
  - {name: prepare, command: [sh, -c, "echo prepared > /data/x/init"], volumeMounts: [{name: data, mountPath: /data/x}]}
  - {name: helper, restartPolicy: Always, command: [sleep, infinity]}
  containers:
  - name: main
    command: [sh, -c, "echo $(GREETING) $0 $1; cat /etc/app/conf.d/app.conf /data/x/init; touch /tmp/weft-e2e-ready; exec sleep infinity"]
    args: ["$(LEVEL)", "$(NOT_SET)"]
    envFrom: [{configMapRef: {name: settings}}]
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: GREETING, value: "hello from $(POD)"}
    volumeMounts: [{name: data, mountPath: /data/x}, {name: conf, mountPath: /etc/app/conf.d, readOnly: true}]
    readinessProbe: {exec: {command: [test, -e, /tmp/weft-e2e-ready]}}
    workingDir: /data
  volumes: [{name: data, emptyDir: {}}, {name: conf, configMap: {name: settings}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - {name: c, image: weft/echo, startupProbe: {tcpSocket: {port: 8080}}, readinessProbe: {grpc: {port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db6}
spec: {ipFamilies: [IPv6], selector: {app: db}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, annotations: {}}
spec:
  template:
    metadata: {annotations: {sidecar.istio.io/inject: "true"}}
    spec: {restartPolicy: Never, containers: [{name: c, command: [sh, -c, "echo done"]}]}
"#;

/// A name for another Service; in a folder below, which counts as well.
const ALIAS: &str = "
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: db.default.svc.cluster.local}
";

/// A probe that fails only as often as it is written to, however often it is looked whether the container is there yet.
const SLOW: &str = "
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  containers:
  - name: slow
    command: [sh, -c, 'sleep 2; touch /tmp/up; exec sleep infinity']
    startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 2, failureThreshold: 3}
";

#[test]
fn a_container_that_starts_slowly_has_the_time_that_its_probe_gives_it() {
    let Some(manifests) = Manifests::of(&[], SLOW) else { return };
    manifests.run(async |_, state| {
        assert_eq!(state.pods[0].containers[0].restarts, 0);
        Ok(())
    });
}

#[test]
fn volumes_probes_init_containers_stateful_sets_and_jobs_work() {
    let Some(manifests) = Manifests::of(&["curl"], FULL) else { return };
    fs::create_dir(manifests.path().join("below")).unwrap();
    manifests.save("below/alias.yaml", ALIAS);
    manifests.run(async |mesh, _| {
        let over = |s: &State| s.ready && s.pods.iter().any(|p| p.phase == "Succeeded");
        let state = until(mesh, "over", over).await?;
        assert!(names(&state).is_superset(&BTreeSet::from(["full", "db-0", "db-1"].map(String::from))));
        assert_eq!(log(mesh, "full", None).await?, "hello from full high $(NOT_SET)\na=1\nprepared\n");
        assert_eq!(log(mesh, "job/once", None).await?, "done\n");
        assert_eq!(
            sh(mesh, "full", "pwd; echo x 2>/dev/null > /etc/app/conf.d/new || echo refused").await?.1,
            "/data\nrefused"
        );
        let (code, answer) = sh(mesh, "full", &format!("{CURL} http://db-1.db:8080/")).await?;
        let second = state.pods.iter().find(|p| p.name == "db-1").unwrap();
        assert_eq!((code, answer), (0, format!("200 {}", second.ips[0])));
        assert!(sh(mesh, "full", &format!("{CURL} http://alias:8080/")).await?.1.starts_with("200 "));
        if second.ips.len() > 1 {
            let (_, answer) = sh(mesh, "full", &format!("{CURL} http://db6/")).await?;
            assert!(answer.starts_with("200 fd00:10:96::"), "{answer}");
        }
        assert!(
            !std::path::Path::new("/data/x").exists()
                && !std::path::Path::new("/tmp/weft-e2e-ready").exists()
        );
        Ok(())
    });
}

#[test]
fn what_is_killed_comes_back() {
    let Some(manifests) = Manifests::of(&[], &format!("{WEB}{INJECTED}")) else { return };
    manifests.run(async |mesh, first| {
        let web = first.pods.iter().find(|p| p.owner.ends_with("/web")).unwrap().name.clone();
        mesh.kill_process(&pod(&web), "web", 9).await?;
        let restarted =
            |s: &State| s.ready && s.pods.iter().any(|p| p.name == web && p.containers[1].restarts == 1);
        until(mesh, "restarted", restarted).await?;
        mesh.kill_pod(&pod(&web)).await?;
        until(mesh, "replaced", |s| s.ready && !names(s).contains(&web)).await?;
        mesh.kill_pod(&weft_e2e::local::pod("@controller")).await?;
        until(mesh, "with controller", |s| s.controller).await?;
        Ok(())
    });
}

/// The network namespaces of a process and everything below it.
fn namespaces(root: u32) -> BTreeSet<String> {
    let mut below = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = processes()
            .filter(|(pid, parent)| below.contains(parent) && !below.contains(pid))
            .map(|p| p.0)
            .collect();
        if more.is_empty() {
            break;
        }
        below.extend(more);
    }
    below.iter().filter_map(|pid| network(*pid)).collect()
}

fn network(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok().map(|link| link.display().to_string())
}

/// All processes with their parents.
fn processes() -> impl Iterator<Item = (u32, u32)> {
    let pids = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
}

fn weft(args: &[&str]) -> Output {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().expect("weft runs")
}

/// Nothing of these namespaces runs any more. Killed processes take a moment to go.
fn nothing_left(of: &BTreeSet<String>) {
    let began = Instant::now();
    while processes().filter_map(|(pid, _)| network(pid)).any(|ns| of.contains(&ns)) {
        assert!(began.elapsed() < Duration::from_secs(10), "processes are left in {of:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_left_when_any_of_its_processes_is_killed() {
    let Some(manifests) = Manifests::of(&[], &format!("{WEB}{INJECTED}")) else { return };
    let (dir, name) = (manifests.path().to_str().unwrap(), manifests.name());
    let links = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    for victim in ["mesh-boot", "mesh-supervisor", "starter", "none"] {
        let mut starter =
            Command::new(binary()).args(["up", dir, "-N", &name]).stderr(Stdio::null()).spawn().unwrap();
        run(async {
            let began = Instant::now();
            let mesh = loop {
                match Mesh::find(&name) {
                    Ok(mesh) => break mesh,
                    Err(e) if began.elapsed() > LIMIT => return Err(e),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            mesh.wait_ready(LIMIT).await.map(drop)
        });
        let own = network(std::process::id()).unwrap();
        let mut inside = namespaces(starter.id());
        inside.remove(&own);
        assert!(inside.len() >= 4, "the mesh's and the pods': {inside:?}");
        match victim {
            "starter" => starter.kill().unwrap(),
            "none" => assert!(weft(&["down", "-N", &name]).status.success()),
            role => assert!(kill(starter.id(), role), "no {role}"),
        }
        nothing_left(&inside);
        let ended = starter.wait().unwrap();
        assert_eq!(ended.success(), victim == "none", "{victim}: {ended}");
        assert!(!weft(&["get", "-N", &name]).status.success());
    }
    assert_eq!(fs::read_to_string("/proc/net/dev").unwrap().lines().count(), links);
    assert!(!std::path::Path::new("/.weft").exists());
}

/// Kills a descendant in this role.
fn kill(root: u32, role: &str) -> bool {
    let all: Vec<(u32, u32)> = processes().collect();
    let descends = |mut pid: u32| loop {
        match all.iter().find(|(p, _)| *p == pid) {
            Some((_, parent)) if *parent == root => break true,
            Some((_, parent)) if *parent > 1 => pid = *parent,
            _ => break false,
        }
    };
    let is = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.split('\0').any(|w| w == role))
    };
    let victim = all.iter().map(|(pid, _)| *pid).find(|pid| is(*pid) && descends(*pid));
    victim.is_some_and(|pid| {
        Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs").success()
    })
}

#[test]
fn an_ordinary_user_can_do_the_same_and_publish_a_service() {
    let Some(manifests) = Manifests::of(&["curl"], &format!("{WEB}{INJECTED}")) else { return };
    let (dir, name) = (manifests.path().to_str().unwrap(), manifests.name());
    // Where tests run as root, as somebody else, who must be able to read the binary.
    let copy = manifests.path().join("weft");
    fs::copy(binary(), &copy).unwrap();
    let is_root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let weft = |args: &[&str]| {
        let mut command = Command::new(&copy);
        command.arg(args[0]).args(["-N", &name]).args(&args[1..]).env("HOME", "/tmp").stdin(Stdio::null());
        if is_root {
            command.uid(54_321).gid(54_321);
        }
        let output = command.output().unwrap();
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, text) = weft(&["up", dir, "--detach", "--publish", &format!("{free}:web:80")]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        weft(&["exec", "deploy/client", "--", "id", "-u"]).1.trim().parse::<u32>().map(|uid| uid != 0),
        Ok(true)
    );
    let (code, text) = weft(&["exec", "deploy/client", "--", "curl", "-s", "-m", "10", "http://web/"]);
    assert!(code == Some(0) && text.contains("\"pod\":\"web-"), "{text}");
    let outside =
        Command::new("curl").args(["-s", "-m", "10", &format!("http://127.0.0.1:{free}/")]).output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stdout).contains("\"pod\":\"web-"), "{outside:?}");
    let (code, text) = weft(&["get"]);
    assert!(code == Some(0) && text.contains("2/2"), "{text}");
    let (code, text) = weft(&["down"]);
    assert_eq!(code, Some(0), "{text}");
    assert_ne!(weft(&["get"]).0, Some(0));
}
