//! WebSocket (RFC 6455): the handshake, and every frame back as it comes. A text frame `who` is answered with who this is.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::echo::body::{self, Body};
use crate::echo::identity::Identity;

/// What a server appends to the client's key (RFC 6455 section 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Whether the request asks for a WebSocket.
pub fn is(head: &request::Parts) -> bool {
    let upgrade = head.headers.get(UPGRADE).and_then(|u| u.to_str().ok());
    upgrade.is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
        && head.headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// Switches to the other protocol, and serves it until it ends.
pub fn accept(identity: Identity, request: Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer(request.headers(), response.headers_mut());
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            // The client may break off at any time; that ends the echo and concerns nobody else.
            let _ = serve(&identity, TokioIo::new(upgraded)).await;
        }
    });
    response
}

fn answer(asked: &HeaderMap, headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let key = asked.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// The answer to a client's key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC.as_bytes()].concat()))
}

/// The head of a frame.
struct Head {
    /// FIN bit and opcode.
    first: u8,
    length: u64,
    mask: [u8; 4],
}

async fn serve(identity: &Identity, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let head = read_head(&mut stream).await?;
        let opcode = head.first & 0x0f;
        if opcode == PONG {
            copy(&mut stream, &head, false).await?;
            continue;
        }
        if head.first == 0x81 && head.length == 3 {
            short_text(identity, &mut stream, &head).await?;
            continue;
        }
        let first = if opcode == PING { 0x80 | PONG } else { head.first };
        write_head(&mut stream, first, head.length).await?;
        copy(&mut stream, &head, true).await?;
        stream.flush().await?;
        if opcode == CLOSE {
            return stream.shutdown().await;
        }
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Head> {
    let first = stream.read_u8().await?;
    let second = stream.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    Ok(Head { first, length, mask })
}

async fn write_head(stream: &mut (impl AsyncWrite + Unpin), first: u8, length: u64) -> std::io::Result<()> {
    let mut head = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => head.push(short),
        (_, Ok(middle)) => {
            head.push(126);
            head.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    stream.write_all(&head).await
}

/// Reads a frame's payload, and sends it back when `back` says so.
async fn copy(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &Head,
    back: bool,
) -> std::io::Result<()> {
    let (mut at, mut buffer) = (0u64, vec![0; 16 << 10]);
    while at < head.length {
        let most = usize::try_from(head.length - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        unmask(&mut buffer[..read], head.mask, at);
        at += read as u64;
        if back {
            stream.write_all(&buffer[..read]).await?;
        }
    }
    Ok(())
}

async fn short_text(
    identity: &Identity,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &Head,
) -> std::io::Result<()> {
    let mut text = [0; 3];
    stream.read_exact(&mut text).await?;
    unmask(&mut text, head.mask, 0);
    let line = identity.line();
    let reply = if &text == b"who" { line.as_bytes() } else { &text };
    write_head(stream, head.first, reply.len() as u64).await?;
    stream.write_all(reply).await?;
    stream.flush().await
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    for (at, byte) in (offset..).zip(bytes) {
        *byte ^= mask[(at % 4) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_rfc() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn frames_come_back_unmasked_and_pings_as_pongs() {
        let (mut client, server) = tokio::io::duplex(1 << 17);
        let mut sent = vec![0x89, 0x80, 1, 2, 3, 4];
        sent.extend([0x82, 0x80 | 126, 0x01, 0x00, 1, 2, 3, 4]);
        sent.extend((0..256).map(|i| b'x' ^ [1, 2, 3, 4][i % 4]));
        sent.extend([0x88, 0x80, 0, 0, 0, 0]);
        client.write_all(&sent).await.unwrap();
        serve(&Identity::default(), server).await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        let mut expected = vec![0x8a, 0, 0x82, 126, 1, 0];
        expected.extend([b'x'; 256]);
        expected.extend([0x88, 0]);
        assert_eq!(got, expected);
    }
}
