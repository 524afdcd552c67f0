//! HTTP/1.1 on a stream that is there already: one question a stream.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

/// How long an answer may take to come.
const LIMIT: Duration = Duration::from_secs(15);
/// The most bytes of an answer.
const MAX_BODY: usize = 64 << 20;
/// The most bytes of a line.
const MAX_LINE: usize = 1 << 20;
/// The most that an error quotes of an answer.
const QUOTED: usize = 2000;

/// What a question is asked on.
pub(super) struct Stream {
    pub(super) bytes: Pin<Box<dyn Both>>,
    /// Says, once the other end has given up, why.
    pub(super) trouble: Option<JoinHandle<Option<String>>>,
}

/// A stream in both directions.
pub(super) trait Both: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Both for T {}

/// An answer without an end, by lines.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    read: BytesMut,
    _driver: Driver,
}

/// Moves a connection's bytes; ends it when dropped.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks, and reads the whole answer.
///
/// # Errors
/// No answer comes, or one that is not 200; says what it said.
pub(super) async fn ask(stream: Stream, method: Method, path: &str) -> Result<Bytes> {
    let asked = async {
        let (response, _driver) = send(stream, method, path).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed).context("the answer breaks off")?.to_bytes();
        refused(status, &body)?;
        Ok(body)
    };
    tokio::time::timeout(LIMIT, asked)
        .await
        .with_context(|| format!("nothing came for {} s", LIMIT.as_secs()))?
}

/// Asks, and reads the head of the answer.
///
/// # Errors
/// As [`ask`].
pub(super) async fn open(stream: Stream, path: &str) -> Result<Lines> {
    let opened = async {
        let (response, driver) = send(stream, Method::GET, path).await?;
        let (status, body) = (response.status(), response.into_body());
        if status != StatusCode::OK {
            let said = Limited::new(body, MAX_BODY).collect().await.map_err(anyhow::Error::from_boxed)?;
            refused(status, &said.to_bytes())?;
            bail!("status {status}");
        }
        Ok(Lines { body, read: BytesMut::new(), _driver: driver })
    };
    tokio::time::timeout(LIMIT, opened)
        .await
        .with_context(|| format!("nothing came for {} s", LIMIT.as_secs()))?
}

async fn send(stream: Stream, method: Method, path: &str) -> Result<(Response<Incoming>, Driver)> {
    let Stream { bytes, trouble } = stream;
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new())?;
    let answered = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(bytes)).await?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        anyhow::Ok((sender.send_request(request).await?, driver))
    };
    match (answered.await, trouble) {
        (Err(error), Some(trouble)) => match tokio::time::timeout(Duration::from_secs(1), trouble).await {
            Ok(Ok(Some(why))) => bail!("{why}"),
            _ => Err(error),
        },
        (answered, _) => answered,
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Result<()> {
    if status == StatusCode::OK {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&body[..body.len().min(QUOTED)]);
    bail!("{status}: {}", said.trim())
}

impl Lines {
    /// The next line, without its end; `None` when the answer has ended.
    ///
    /// # Errors
    /// The connection breaks, or a line has no end within a mebibyte.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(line) = take_line(&mut self.read) {
                return Ok(Some(line));
            }
            anyhow::ensure!(self.read.len() <= MAX_LINE, "a line without an end");
            match self.body.frame().await {
                None => return Ok((!self.read.is_empty()).then(|| self.read.split().freeze())),
                Some(frame) => {
                    if let Ok(data) = frame.context("the answer breaks off")?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The first line, where it is whole.
fn take_line(read: &mut BytesMut) -> Option<Bytes> {
    let end = read.iter().position(|byte| *byte == b'\n')?;
    let line = read.split_to(end).freeze();
    read.advance(1);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A stream whose other end reads a question and says `answer`.
    fn scripted(answer: &'static str) -> Stream {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(theirs.read_u8().await?);
            }
            theirs.write_all(answer.as_bytes()).await
        });
        Stream { bytes: Box::pin(ours), trouble: None }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_success_says_what_was_said() {
        let body = ask(scripted("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), Method::GET, "/x").await;
        assert_eq!(body.unwrap(), "ok");
        let refused = scripted("HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nonly root");
        let error = ask(refused, Method::GET, "/x").await.unwrap_err();
        assert_eq!(error.to_string(), "403 Forbidden: only root");
        let refused = scripted("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\n\r\nlater");
        assert!(open(refused, "/x").await.unwrap_err().to_string().contains("later"));
    }

    #[tokio::test]
    async fn lines_come_as_they_are_whole() {
        let answer =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n4\r\nc\n\nd\r\n0\r\n\r\n";
        let mut lines = open(scripted(answer), "/x").await.unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(all, ["a", "bc", "", "d"]);
    }

    #[tokio::test]
    async fn the_reason_of_who_gave_up_comes_before_that_of_the_connection() {
        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        let trouble = tokio::spawn(async { Some("connection refused in the pod".to_owned()) });
        let stream = Stream { bytes: Box::pin(ours), trouble: Some(trouble) };
        let error = ask(stream, Method::GET, "/x").await.unwrap_err();
        assert_eq!(error.to_string(), "connection refused in the pod");
    }
}
