//! A GET request, for probes and for the admin ports of the mesh's own processes, and gRPC's question of health.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::executor::LocalExecutor;

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

/// Asks by gRPC's protocol of health whether a service (the server as a whole when the name is empty) is serving.
/// Must run inside a `LocalSet`.
///
/// # Errors
/// When nobody answers, or not in HTTP/2.
pub async fn serving(to: SocketAddr, service: &str) -> Result<bool> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream)).await?;
    let driver = tokio::task::spawn_local(connection);
    let request = http::Request::post(format!("http://{to}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(question(service)?)))?;
    let answer = Limited::new(sender.send_request(request).await?.into_body(), 1024)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?;
    driver.abort();
    let status = answer.trailers().and_then(|t| t.get("grpc-status")).is_some_and(|s| s == "0");
    // A frame's head, then field 1 with the value 1: SERVING.
    Ok(status && answer.to_bytes().get(5..) == Some(&[0x08, 1]))
}

/// A frame with field 1, the service's name.
fn question(service: &str) -> Result<Vec<u8>> {
    let length = u8::try_from(service.len()).ok().filter(|l| *l < 0x80);
    let length = length.context("the name of a gRPC service has 127 bytes at most")?;
    let message = if length == 0 { Vec::new() } else { [&[0x0a, length], service.as_bytes()].concat() };
    let head = [0, 0, 0, 0, u8::try_from(message.len())?];
    Ok([&head, message.as_slice()].concat())
}
