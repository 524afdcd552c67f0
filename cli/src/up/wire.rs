//! Messages between the processes of a local mesh: JSON over `SOCK_SEQPACKET` unix sockets, with file descriptors.
//!
//! Three conversations use it: the starter with the supervisor, the command line (or a test) with the
//! supervisor over the control socket, and the supervisor with the agent of each pod.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

/// Most descriptors that one message carries: a listener for each `--publish`, and the control socket.
const MAX_FDS: usize = 64;
/// Most payload bytes of one packet; longer messages take several packets.
const PACKET: usize = 60_000;
/// Most bytes of a whole message.
const MAX_MESSAGE: usize = 64 << 20;
const MORE: u8 = 1;
const LAST: u8 = 0;

/// One end of a conversation. Sends whole messages, in the order in which `send` was called.
#[derive(Debug)]
pub struct Channel {
    /// A packet socket: only its readiness is the stream's.
    socket: UnixStream,
    sending: Mutex<()>,
}

impl Channel {
    /// Takes a connected `SOCK_SEQPACKET` socket over. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking or registered.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: UnixStream::from_std(socket.into())?, sending: Mutex::new(()) })
    }

    /// Sends one message and, with its first packet, the descriptors.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let _turn = self.sending.lock().await;
        let count = bytes.len().div_ceil(PACKET).max(1);
        for index in 0..count {
            let chunk = &bytes[index * PACKET..bytes.len().min((index + 1) * PACKET)];
            let tag = if index + 1 == count { LAST } else { MORE };
            let fds = if index == 0 { fds } else { &[] };
            self.send_packet(tag, chunk, fds).await?;
        }
        Ok(())
    }

    /// The next message with its descriptors; `None` once the other end is gone.
    ///
    /// # Errors
    /// When the bytes are not a message of this type, or too long.
    pub async fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (mut message, mut fds) = (Vec::new(), Vec::new());
        loop {
            let mut packet = vec![0; PACKET + 1];
            let read = self.recv_packet(&mut packet, &mut fds).await?;
            if read == 0 {
                return Ok(None);
            }
            message.extend_from_slice(&packet[1..read]);
            if message.len() > MAX_MESSAGE {
                return Err(io::Error::other("message too long"));
            }
            if packet[0] == LAST {
                return Ok(Some((serde_json::from_slice(&message)?, fds)));
            }
        }
    }

    async fn send_packet(&self, tag: u8, chunk: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || send_now(self.socket.as_fd(), tag, chunk, fds);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    async fn recv_packet(&self, packet: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let receive = || recv_now(self.socket.as_fd(), packet, fds);
        match self.socket.async_io(Interest::READABLE, receive).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            other => other,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends one short message on a blocking socket, for processes without a runtime.
///
/// # Errors
/// When the message does not fit one packet, or the other end is gone.
pub fn send_blocking<T: Serialize>(socket: BorrowedFd<'_>, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    send_now(socket, LAST, &bytes[..bytes.len().min(PACKET)], &[])
}

/// Reads and drops one packet on a blocking socket: one that is closed with something unread loses what it sent.
///
/// # Errors
/// As `recvmsg(2)`.
pub fn drain_blocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    recv_now(socket, &mut vec![0; PACKET + 1], &mut Vec::new()).map(drop)
}

/// A connected pair of sockets, close-on-exec.
///
/// # Errors
/// As `socketpair(2)`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Listens on an abstract unix address: it has no file, and it is gone when its last holder is.
///
/// # Errors
/// `AddrInUse` when a process holds that name.
pub fn listen(name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}

/// Connects to an abstract unix address.
///
/// # Errors
/// `ConnectionRefused` when nobody listens there.
pub fn connect(name: &str) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok(socket)
}

/// The user who holds the other end (or made the listener), as this user namespace numbers it.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer_uid(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(getsockopt(&socket, PeerCredentials)?.uid())
}

/// Accepts connections on a listener made with [`listen`].
#[derive(Debug)]
pub struct Listener(UnixListener);

impl Listener {
    /// Takes the socket over. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(UnixListener::from_std(socket.into())?))
    }

    /// The next connection.
    ///
    /// # Errors
    /// As `accept(2)`.
    pub async fn accept(&self) -> io::Result<OwnedFd> {
        Ok(self.0.accept().await?.0.into_std()?.into())
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn send_now(socket: BorrowedFd<'_>, tag: u8, chunk: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    let tag = [tag];
    let parts = [IoSlice::new(&tag), IoSlice::new(chunk)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn recv_now(socket: BorrowedFd<'_>, packet: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(read.bytes)
}
