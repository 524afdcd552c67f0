//! The controller's process: how it is started, and what it takes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Ticks of the kernel's clock in a second.
const TICKS: f64 = 100.0;

/// A running controller, killed when this is dropped.
pub(crate) struct Controller {
    child: Child,
    port: u16,
}

impl Controller {
    /// Starts one.
    pub(crate) fn start(program: &Path, port: u16) -> Result<Self> {
        let child = Command::new(program)
            .args(["--kubernetes", "--address", "127.0.0.1", "--log", "weft_controller=warn"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{}", port + 1)])
            .args(["--webhooks", &format!("127.0.0.1:{}", port + 2), "--pod-name", "bench"])
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{}: cannot be started", program.display()))?;
        Ok(Self { child, port })
    }

    /// Waits until it knows the world.
    pub(crate) async fn ready(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self.ask("/readyz").await.unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            ensure!(start.elapsed() < patience, "the controller is not ready: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where sidecars reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Seconds of processor time so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, rest) = stat.rsplit_once(')').context("a line of /proc/PID/stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS)
    }

    /// Resident memory in MiB.
    pub(crate) fn rss(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that was resident, in MiB.
    pub(crate) fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("/proc/PID/status")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    }

    async fn ask(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port + 1)).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
