//! Opaque TCP: everything back as it comes; the line `who` first of all is answered with who this is. When the other side
//! closes its half, it gets one more line, with the number of bytes and their checksum, and then the end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::echo::checksum::Checksum;
use crate::echo::identity::Identity;

/// Serves one connection. A server that speaks first greets before it reads.
///
/// # Errors
/// When the connection breaks.
pub async fn serve(identity: &Identity, mut stream: TcpStream, speaks_first: bool) -> std::io::Result<()> {
    if speaks_first {
        let greeting = format!("220 weft-echo {} {}\r\n", identity.pod, identity.version);
        stream.write_all(greeting.as_bytes()).await?;
    }
    let (mut checksum, mut buffer) = (Checksum::new(), vec![0; 64 << 10]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let asked = checksum.length() == 0 && buffer[..read].trim_ascii_end() == b"who";
        checksum.update(&buffer[..read]);
        let line = if asked { identity.line() } else { String::new() };
        stream.write_all(if asked { line.as_bytes() } else { &buffer[..read] }).await?;
    }
    stream.write_all(checksum.line().as_bytes()).await?;
    stream.shutdown().await
}
