//! A GET request, for probes and for the admin ports of the mesh's own processes.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Most bytes of a body that are read.
const MAX_BODY: usize = 64 << 20;

/// Asks once, on a connection of its own, and gives status and body. Must run inside a `LocalSet`.
///
/// # Errors
/// When nobody answers, or not in HTTP/1.
pub async fn get(to: SocketAddr, path: &str, headers: &[(String, String)]) -> Result<(u16, Bytes)> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::task::spawn_local(connection);
    let mut request = http::Request::get(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", to.to_string());
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(anyhow::Error::from_boxed)?;
    driver.abort();
    Ok((status, body.to_bytes()))
}
