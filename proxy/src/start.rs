//! Waiting for a sidecar that was just started, in the init container after it: applications start once it is ready.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::exchange;

/// The sidecar's answer, for which it waits until it is ready; see `health`.
const PATH: &str = "/healthz/startup";
/// The longest that one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How soon it is asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// How often it is said what it is that is waited for.
const TOLD: Duration = Duration::from_secs(10);
/// The most that is read of an answer.
const MOST: usize = 1 << 10;

/// Waits until the sidecar of this pod, whose health port is given, is ready.
///
/// # Errors
/// It is not after so long: what it said last.
pub async fn ready(port: u16, within: Duration) -> Result<()> {
    let began = Instant::now();
    let mut told = began;
    while let Err(why) = ask(port).await {
        if began.elapsed() >= within {
            bail!(
                "the sidecar is not ready after {} s: {why}; see the log of container weft-proxy, and whether the \
                 controller is there",
                within.as_secs()
            );
        }
        if told.elapsed() >= TOLD {
            told = Instant::now();
            tracing::info!(why, "the sidecar is not ready, and waited for");
        }
        sleep(AGAIN).await;
    }
    Ok(())
}

async fn ask(port: u16) -> Result<(), String> {
    match timeout(ANSWER, answer(port)).await {
        Ok(Ok((StatusCode::OK, _))) => Ok(()),
        Ok(Ok((_, text))) => Err(text),
        Ok(Err(error)) => Err(format!("port {port}: {error}")),
        Err(_) => Err(format!("port {port}: no answer in {} s", ANSWER.as_secs())),
    }
}

async fn answer(port: u16) -> Result<(StatusCode, String), exchange::ReadError> {
    let both = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let stream = TcpStream::connect(&both[..]).await?;
    let request = Request::get(PATH).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let answer = exchange::send(stream, request).await?.read(MOST).await?;
    Ok((answer.status(), String::from_utf8_lossy(answer.body()).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A sidecar that gives these answers, one on each connection.
    async fn sidecar(answers: Vec<&'static str>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let mut stream = listener.accept().await.unwrap().0;
                let mut asked = [0; 512];
                let read = stream.read(&mut asked).await.unwrap();
                assert!(asked[..read].starts_with(b"GET /healthz/startup HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    const READY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n";
    const NOT_YET: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 14\r\n\r\nno certificate";

    #[tokio::test]
    async fn it_is_asked_until_it_is_ready() {
        let port = sidecar(vec![NOT_YET, "garbage", READY]).await;
        ready(port, Duration::from_secs(60)).await.unwrap();
    }

    #[tokio::test]
    async fn e4_what_it_lacks_is_told() {
        let port = sidecar(vec![NOT_YET]).await;
        let error = ready(port, Duration::ZERO).await.unwrap_err().to_string();
        assert!(error.contains("after 0 s: no certificate; see the log"), "{error}");
    }
}
