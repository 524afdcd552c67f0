//! Notices that the other end of a connection has vanished, or that it does not read (hardening A16, C5, G15, G16).
//!
//! TCP by itself cannot tell the two apart: while data is outstanding its keepalive is silent, and its user timeout
//! also ends connections whose other end may rightly not read for a while. So while something is outstanding the
//! kernel is asked every few seconds what it knows: an end that answers nothing at all, no probe and nothing sent
//! again, has gone. Where everything was acknowledged nobody looks; keepalive guards such a connection.

use std::future::Future as _;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};
use tokio::time::Sleep;

use crate::overload::Overload;
use crate::rarely::Rarely;
use crate::relief::Relief;

/// How often a connection with something outstanding is looked at.
const LOOK: Duration = Duration::from_millis(2500);
/// So many looks in a row without any answer: between 7.5 and 10 s after it was sent.
const SILENT_LOOKS: u32 = 3;
/// What is lost twice in a row may be a bad network.
const UNANSWERED: u8 = 3;

sockopt_impl!(
    /// What the kernel knows of a connection (tcp(7), `TCP_INFO`).
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);

/// The watch over one connection.
#[derive(Debug, Default)]
pub struct Vigil {
    /// Runs while something may be outstanding.
    timer: Option<Box<Rarely<Sleep>>>,
    /// Something was written since everything was acknowledged.
    outstanding: bool,
    /// The last write found no room.
    blocked: bool,
    blocked_looks: u32,
    silent_looks: u32,
    /// How many looks in a row may find no room.
    patience: Option<u32>,
    /// Where memory is nearly used up a moment is enough.
    overload: Option<Overload>,
    relief: Relief,
}

/// What the kernel knows of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    /// Segments that were not acknowledged.
    unacknowledged: u32,
    /// Sendings in a row, of data again or of probes, without an answer.
    unanswered: u8,
    /// Since the other end was last heard of.
    silence: Duration,
}

impl Vigil {
    /// A connection whose writes are blocked ends where memory is nearly used up.
    pub fn shed_writes(&mut self, overload: Overload) {
        self.overload = Some(overload);
    }

    /// A connection whose writes are blocked for so long ends.
    pub fn limit_writes(&mut self, longest: Duration) {
        let looks = longest.as_millis() / LOOK.as_millis();
        self.patience = Some(u32::try_from(looks).unwrap_or(u32::MAX));
    }

    /// Bytes were written.
    pub fn wrote(&mut self) {
        self.outstanding = true;
        self.blocked = false;
        self.blocked_looks = 0;
        self.relief.moved();
    }

    /// A write found no room.
    pub fn blocked(&mut self) {
        self.blocked = true;
        self.outstanding = true;
    }

    /// Whether it will wake the task that it was polled by.
    pub fn is_armed(&self) -> bool {
        self.timer.is_some()
    }

    /// Ready with an error when the connection is to end. To be polled with each write, and whenever it waits for
    /// its other end.
    pub fn poll(&mut self, cx: &mut Context<'_>, socket: &impl AsFd) -> Poll<io::Error> {
        if let Some(overload) = self.overload.as_ref().filter(|_| self.blocked)
            && self.relief.poll(cx, overload).is_ready()
        {
            return Poll::Ready(does_not_read());
        }
        while self.outstanding {
            let timer = self.timer.get_or_insert_with(|| Box::new(Rarely::new(tokio::time::sleep(LOOK))));
            ready!(Pin::new(timer).poll(cx));
            self.timer = None;
            if let Some(error) = self.look(sent(socket)) {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    fn look(&mut self, sent: Option<Sent>) -> Option<io::Error> {
        if self.blocked {
            self.blocked_looks += 1;
        }
        if self.patience.is_some_and(|most| self.blocked_looks >= most) {
            return Some(does_not_read());
        }
        let silent = sent.is_some_and(|sent| sent.unanswered > 0 && sent.silence >= LOOK);
        self.silent_looks = if silent { self.silent_looks + 1 } else { 0 };
        if self.silent_looks >= SILENT_LOOKS && sent.is_some_and(|sent| sent.unanswered >= UNANSWERED) {
            return Some(io::Error::new(io::ErrorKind::TimedOut, "the other end has vanished"));
        }
        let settled = sent.is_none_or(|sent| sent.unacknowledged == 0 && sent.unanswered == 0);
        self.outstanding = self.blocked || !settled;
        None
    }
}

fn does_not_read() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other end does not read")
}

/// `None` where the kernel does not say: the connection is gone, or no TCP.
fn sent(socket: &impl AsFd) -> Option<Sent> {
    let info = getsockopt(socket, TcpInfo).ok()?;
    Some(Sent {
        unacknowledged: info.tcpi_unacked,
        unanswered: info.tcpi_retransmits.max(info.tcpi_probes),
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

#[cfg(test)]
mod tests {
    use weft_core::overload::Memory;

    use super::*;

    const FINE: Sent = Sent { unacknowledged: 0, unanswered: 0, silence: Duration::ZERO };

    fn wrote() -> Vigil {
        let mut vigil = Vigil::default();
        vigil.wrote();
        vigil
    }

    /// The look that ends the connection, of a row of equal ones.
    fn ended_by(vigil: &mut Vigil, sent: Sent, looks: usize) -> Option<usize> {
        (1..=looks).find(|_| vigil.look(Some(sent)).is_some())
    }

    #[test]
    fn g15_an_end_that_answers_nothing_has_gone_within_ten_seconds() {
        let gone = Sent { unacknowledged: 1, unanswered: 5, silence: Duration::from_secs(60) };
        assert_eq!(ended_by(&mut wrote(), gone, 9), Some(3));
        assert!(LOOK * (SILENT_LOOKS + 1) <= Duration::from_secs(10));
        let lossy = Sent { unanswered: 2, ..gone };
        assert_eq!(ended_by(&mut wrote(), lossy, 9), None, "twice lost");
        let answers = Sent { silence: Duration::from_millis(200), ..gone };
        assert_eq!(ended_by(&mut wrote(), answers, 9), None, "heard of a moment ago");
        let mut second = wrote();
        assert_eq!(ended_by(&mut second, gone, 2), None, "a short blackout");
        assert_eq!(ended_by(&mut second, answers, 1), None);
        assert_eq!(ended_by(&mut second, gone, 2), None, "counts from the beginning");
    }

    #[test]
    fn g16_an_end_that_does_not_read_but_answers_probes_stays() {
        let full = Sent { unacknowledged: 0, unanswered: 0, silence: Duration::from_secs(60) };
        let mut vigil = wrote();
        vigil.blocked();
        assert_eq!(ended_by(&mut vigil, full, 1000), None);
        assert!(vigil.outstanding, "it goes on looking");
    }

    #[test]
    fn c5_writes_that_find_no_room_for_too_long_end_it() {
        let mut vigil = wrote();
        vigil.limit_writes(Duration::from_secs(20));
        vigil.blocked();
        assert_eq!(ended_by(&mut vigil, FINE, 7), None);
        vigil.wrote();
        vigil.blocked();
        assert_eq!(ended_by(&mut vigil, FINE, 99), Some(8), "20 s from the last byte that found room");
    }

    #[tokio::test(start_paused = true)]
    async fn g3_where_memory_is_nearly_used_up_blocked_writes_end_at_once() {
        let overload = Overload::default();
        overload.look(Some(Memory { used: 98, limit: 100 }));
        let mut vigil = wrote();
        vigil.shed_writes(overload);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let moment = Duration::from_secs(1);
        let waits = tokio::time::timeout(moment, std::future::poll_fn(|cx| vigil.poll(cx, &socket))).await;
        assert!(waits.is_err(), "everything found room");
        vigil.blocked();
        let waits = tokio::time::timeout(moment, std::future::poll_fn(|cx| vigil.poll(cx, &socket))).await;
        assert_eq!(waits.unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn nobody_looks_where_everything_was_acknowledged() {
        let mut vigil = wrote();
        assert!(vigil.look(Some(FINE)).is_none() && !vigil.outstanding);
        let mut vigil = wrote();
        assert!(vigil.look(None).is_none() && !vigil.outstanding, "no TCP");
        let mut vigil = wrote();
        assert!(vigil.look(Some(Sent { unacknowledged: 1, ..FINE })).is_none() && vigil.outstanding);
    }

    #[tokio::test]
    async fn the_kernel_says_what_it_knows() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let sent = sent(&near).unwrap();
        assert_eq!((sent.unacknowledged, sent.unanswered), (0, 0));
        assert!(sent.silence < Duration::from_secs(60), "{sent:?}");
    }
}
