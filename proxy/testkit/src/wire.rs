//! Both ends of HTTP/1 as bytes: upstreams that follow a script, and clients that send what no library would.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream does on one connection, step by step; then it closes.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads one whole request, and keeps it.
    Request,
    /// Reads one head, not the body.
    Head,
    /// Reads so many bytes.
    Body(usize),
    /// Writes these bytes.
    Write(Vec<u8>),
    /// Does nothing, for a while.
    Pause(Duration),
    /// Closes with RST.
    Reset,
    /// Does nothing, for ever.
    Hang,
    /// From the first step again.
    Again,
}

/// An upstream on loopback. The n-th connection follows the n-th script, later ones the last.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Upstream {
    /// Listens, and follows the scripts.
    pub async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let upstream = Self { address, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = seen.connections.fetch_add(1, SeqCst).min(scripts.len() - 1);
                tokio::spawn(follow(stream, scripts[place].clone(), Arc::clone(&seen)));
            }
        });
        upstream
    }

    /// Answers every request with 200 and this body.
    pub async fn answering(body: &str) -> Self {
        Self::replying(&ok(body)).await
    }

    /// Answers every request with these bytes.
    pub async fn replying(bytes: &str) -> Self {
        Self::start(vec![vec![Step::Request, Step::Write(bytes.into()), Step::Again]]).await
    }

    /// An address on which nobody listens.
    pub async fn nobody() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    }

    /// The requests so far, whole.
    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().expect("no panic").clone()
    }

    /// The connections so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }
}

/// A response with status 200, a length and this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn follow(stream: TcpStream, script: Vec<Step>, seen: Arc<Seen>) {
    let mut wire = Wire::over(stream);
    let mut place = 0;
    while let Some(step) = script.get(place) {
        place += 1;
        match step {
            Step::Request => {
                let request = wire.message().await;
                if request.is_empty() {
                    return;
                }
                seen.requests.lock().expect("no panic").push(request);
            }
            Step::Head => {
                let head = wire.head().await;
                seen.requests.lock().expect("no panic").push(head);
            }
            Step::Body(count) => {
                wire.bytes(*count).await;
            }
            Step::Write(bytes) => wire.send(bytes).await,
            Step::Pause(time) => tokio::time::sleep(*time).await,
            Step::Reset => return wire.reset(),
            Step::Hang => std::future::pending().await,
            Step::Again => place = 0,
        }
    }
}

/// One end of a connection, as bytes.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How long a test waits for bytes that must come.
const PATIENCE: Duration = Duration::from_secs(60);

impl Wire {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.expect("a connection"))
    }

    /// Over a connection that stands.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes; a peer that has closed does not mind.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// One whole message: its head and the body that the head tells of; what there is, where the connection ends
    /// before.
    pub async fn message(&mut self) -> String {
        let head = self.head().await;
        let lower = head.to_ascii_lowercase();
        let body = if lower.contains("transfer-encoding: chunked") {
            self.until(b"0\r\n\r\n").await
        } else {
            let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            self.bytes(length.and_then(|text| text.trim().parse().ok()).unwrap_or(0)).await
        };
        head + &String::from_utf8_lossy(&body)
    }

    /// One head.
    pub async fn head(&mut self) -> String {
        String::from_utf8_lossy(&self.until(b"\r\n\r\n").await).into_owned()
    }

    /// Everything to the end of the connection.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    /// Sends the end of our side.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes with RST.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let found = self.buffer.windows(end.len()).position(|window| window == end);
            if let Some(place) = found {
                return self.buffer.drain(..place + end.len()).collect();
            }
            if !self.more().await {
                return std::mem::take(&mut self.buffer);
            }
        }
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.more().await {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Reads more; whether anything came.
    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("bytes in time"), Ok(1..))
    }
}
