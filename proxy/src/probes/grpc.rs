//! `grpc.health.v1.Health/Check`, as the kubelet calls it: one message of one field each way.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Grpc;

/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u8 = 1;
/// The largest answer that is read, in bytes.
const LARGEST: usize = 4096;

/// 200 where the service says that it serves.
pub(super) async fn check(grpc: &Grpc, at: SocketAddr, stream: TcpStream) -> Result<u16, String> {
    let failed = |e: hyper::Error| format!("{at}: {e}");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with `sender`.
    let driver = tokio::spawn(connection);
    let result = async {
        let response = sender.send_request(request(grpc, at)?).await.map_err(failed)?;
        let mut status = grpc_status(response.headers());
        let body =
            Limited::new(response.into_body(), LARGEST).collect().await.map_err(|e| format!("{at}: {e}"))?;
        status = body.trailers().and_then(grpc_status).or(status);
        judge(status, &body.to_bytes())
    };
    let result = result.await;
    driver.abort();
    result
}

fn request(grpc: &Grpc, at: SocketAddr) -> Result<Request<Full<Bytes>>, String> {
    let message = message(grpc.service.as_deref().unwrap_or_default());
    let request = Request::post(format!("http://{at}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("kube-probe/weft-", env!("CARGO_PKG_VERSION")));
    request.body(Full::new(message)).map_err(|e| e.to_string())
}

/// `HealthCheckRequest{service = 1}` in its frame.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        let mut left = service.len();
        while left >= 0x80 {
            field.put_u8((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        field.put_u8(left as u8);
        field.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    frame.extend(field);
    frame.freeze()
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckResponse{status = 1}`: after the frame's five bytes the field's tag and its value.
fn judge(status: Option<u32>, body: &[u8]) -> Result<u16, String> {
    match (status, body.get(5..)) {
        (Some(0), Some([0x08, SERVING, ..])) => Ok(200),
        (Some(0), _) => Err("the service says that it does not serve".to_owned()),
        (Some(12), _) => Err("the application has no grpc.health.v1.Health".to_owned()),
        (Some(code), _) => Err(format!("the health service answered with grpc-status {code}")),
        (None, _) => Err("the application does not speak gRPC".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(message("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_is_good() {
        assert_eq!(judge(Some(0), &[0, 0, 0, 0, 2, 0x08, 1]), Ok(200));
        assert!(judge(Some(0), &[0, 0, 0, 0, 2, 0x08, 2]).is_err());
        assert!(judge(Some(0), &[0, 0, 0, 0, 0]).is_err());
        assert!(judge(Some(5), &[]).unwrap_err().contains('5'));
        assert!(judge(None, b"HTTP").unwrap_err().contains("gRPC"));
    }
}
