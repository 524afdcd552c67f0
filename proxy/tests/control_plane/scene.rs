//! A controller, a sidecar, and how they are asked.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use weft_core::snapshot::Snapshot;
use weft_proxy::clock::Clock;
use weft_proxy::config::Link;
use weft_proxy::control::Control;
use weft_proxy::overload::Overload;
use weft_proxy::settings::Settings;
use weft_proxy::telemetry::log::LogLevel;
use weft_testkit::controller::FakeController;

/// Nothing here takes this long: a test that waits for it has failed.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A controller, and the files that a sidecar needs to reach it.
pub(super) struct Scene {
    pub(super) controller: FakeController,
    pub(super) folder: PathBuf,
}

/// A sidecar's control plane that runs.
pub(super) struct Sidecar {
    pub(super) control: Control,
    pub(super) ports: Ports,
    pub(super) task: JoinHandle<()>,
}

pub(super) struct Ports {
    pub(super) admin: u16,
    pub(super) health: u16,
    pub(super) metrics: u16,
}

impl Scene {
    pub(super) async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weft-control-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let controller = FakeController::start().await.unwrap();
        std::fs::write(folder.join("root.pem"), controller.ca().root_pem()).unwrap();
        std::fs::write(folder.join("token"), "a-token\n").unwrap();
        Self { controller, folder }
    }

    pub(super) fn settings(&self, more: &[&str]) -> (Settings, Ports) {
        let [admin, health, metrics, outbound, inbound] = free_ports();
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut args = vec![
            "--pod-name=a".to_owned(),
            "--pod-namespace=default".to_owned(),
            "--pod-ips=10.0.0.1".to_owned(),
            "--service-account=api".to_owned(),
            format!("--controller=https://{}", self.controller.address()),
            format!("--token-file={}", file("token")),
            format!("--root-file={}", file("root.pem")),
            format!("--state-dir={}", file("state")),
            format!("--admin=127.0.0.1:{admin}"),
            format!("--health-port={health}"),
            format!("--metrics-port={metrics}"),
            format!("--outbound-port={outbound}"),
            format!("--inbound-port={inbound}"),
        ];
        args.extend(more.iter().map(ToString::to_string));
        (Settings::from_args(args).unwrap(), Ports { admin, health, metrics })
    }

    pub(super) fn sidecar(&self, more: &[&str]) -> Sidecar {
        let (settings, ports) = self.settings(more);
        let (control, tasks) =
            Control::start(&settings, Clock::system(), LogLevel::fixed(), Overload::default()).unwrap();
        let task = tokio::spawn(tasks.run());
        control.listening.send_replace(true);
        Sidecar { control, ports, task }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Sidecar {
    pub(super) async fn ready(&self) {
        let ready = async {
            self.control.mesh.ready().await;
            self.control.credentials.ready().await;
        };
        tokio::time::timeout(LONG, ready).await.expect("ready");
    }

    /// Waits until a snapshot satisfies `holds`.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let mut changes = self.control.mesh.changes();
        let met = async {
            while !holds(&self.control.mesh.snapshot()) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LONG, met).await.unwrap_or_else(|_| panic!("{what} did not come"));
    }

    pub(super) async fn until_connected(&self, connected: bool) {
        let mut state = self.control.mesh.link();
        let met = state.wait_for(|now| (*now == Link::Up) == connected);
        tokio::time::timeout(LONG, met).await.expect("connection").unwrap();
    }
}

/// Ports that nobody has at the moment.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

pub(super) async fn ask(port: u16, line: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
