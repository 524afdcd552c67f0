//! One HTTP/1.1 request, as the kubelet makes it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Empty;
use tokio::io::{AsyncRead, AsyncWrite};

use super::HttpGet;
use crate::exchange::send;

/// Applications tell the kubelet by this.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("kube-probe/weft-", env!("CARGO_PKG_VERSION")));

/// The status of the answer.
pub(super) async fn get(
    get: &HttpGet,
    at: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<u16, String> {
    let request = request(get, at)?;
    let answered = send(stream, request).await.map_err(|e| format!("{at}: {e}"))?;
    Ok(answered.response.status().as_u16())
}

fn request(get: &HttpGet, at: SocketAddr) -> Result<Request<Empty<Bytes>>, String> {
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let mut request = Request::get(path).body(Empty::new()).map_err(|e| format!("httpGet.path: {e}"))?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, value(&at.to_string())?);
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut replaced = Vec::new();
    for written in &get.http_headers {
        let name = HeaderName::try_from(&written.name).map_err(|e| format!("httpGet.httpHeaders: {e}"))?;
        if !replaced.contains(&name) {
            headers.remove(&name);
            replaced.push(name.clone());
        }
        headers.append(name, value(&written.value)?);
    }
    Ok(request)
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|e| format!("httpGet.httpHeaders: {e}"))
}
