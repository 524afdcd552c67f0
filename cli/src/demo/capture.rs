//! A look at the network between the pods: `weft capture` reads every frame that passes, until it is told to stop.

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};

use crate::demo::frames::Seen;
use crate::output;

/// Bytes that may wait to be read.
const BUFFER: usize = 8 << 20;
/// Longest frame, with what offloading glues together.
const FRAME: usize = 128 << 10;

/// Flags of `weft capture`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Words to look for in clear
    #[arg(long = "word")]
    words: Vec<String>,
}

/// Says `{}` when it has begun, and what it saw when it was interrupted.
///
/// # Errors
/// When packets may not be read here.
pub async fn run(args: Args) -> Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).context("read packets")?;
    // More is better; what the system allows will do.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
    // Nothing but recv(2) is asked of it, which is the same for every kind of datagram.
    let socket = UdpSocket::from_std(socket.into())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    output::line("{}");
    let words: Vec<Vec<u8>> = args.words.into_iter().map(String::into_bytes).collect();
    let mut seen = Seen::new(words.len());
    tokio::select! {
        ended = look(&socket, &mut seen, &words) => ended?,
        _ = interrupt.recv() => {}
    }
    output::line(serde_json::to_string(&seen)?);
    Ok(())
}

async fn look(socket: &UdpSocket, seen: &mut Seen, words: &[Vec<u8>]) -> Result<()> {
    let mut frame = vec![0; FRAME];
    loop {
        let length = socket.recv(&mut frame).await?;
        seen.frame(&frame[..length], words);
    }
}
