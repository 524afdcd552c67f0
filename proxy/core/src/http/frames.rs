//! Frames of HTTP/2 as they go by: a peer that sends much that is no part of a request is stopped.
//!
//! Only the heads of frames are looked at. What a library bounds by itself (header lists, streams) is left to it; what
//! remains are frames that cost the sender nothing and say nothing: SETTINGS, PING, PRIORITY, RST_STREAM,
//! WINDOW_UPDATE, unknown frames, empty DATA, CONTINUATION (RFC 9113, sections 6 and 10.5).

use std::time::Duration;

/// The length of a frame's head.
const HEAD: usize = 9;
/// The length of what a client sends before its first frame.
const PREFACE: usize = 24;
/// How many frames that say nothing a peer may send in [`SPAN`] for nothing.
const ALLOWED: u32 = 1000;
/// See [`ALLOWED`].
const SPAN: Duration = Duration::from_secs(10);
/// What each frame of a response allows besides: two windows, a ping, a reset.
const EARNED: u32 = 4;

/// Kinds of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const END_STREAM: u8 = 1;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: u8,
    flags: u8,
    length: u32,
    stream: u32,
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub struct Frames {
    /// Bytes to come that are no head: the preface, or the rest of a payload.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
}

/// What a peer may still send.
#[derive(Debug)]
pub struct Calm {
    left: u32,
    since: Duration,
    newest_stream: u32,
}

/// The peer sent more that says nothing than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

impl Frames {
    /// Those of a client: the preface comes first.
    pub fn of_client() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], have: 0 }
    }

    /// Those of a server.
    pub fn of_server() -> Self {
        Self { skip: 0, ..Self::of_client() }
    }

    /// Whether the bytes so far end with a whole frame.
    pub fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// Takes in bytes; each frame is told as soon as its head is whole.
    pub fn scan<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        while bytes.len() > self.skip {
            bytes = &bytes[self.skip..];
            self.skip = 0;
            let more = bytes.len().min(HEAD - self.have);
            self.head[self.have..self.have + more].copy_from_slice(&bytes[..more]);
            self.have += more;
            bytes = &bytes[more..];
            if self.have < HEAD {
                return Ok(());
            }
            let frame = Frame::of(&self.head);
            (self.have, self.skip) = (0, frame.length as usize);
            each(&frame)?;
        }
        self.skip -= bytes.len();
        Ok(())
    }
}

impl Frame {
    fn of(head: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let (length, stream) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes(stream) & 0x7fff_ffff);
        Self { kind, flags, length, stream }
    }

    /// Whether it is part of a message.
    fn says_something(&self) -> bool {
        match self.kind {
            DATA => self.length > 0 || self.flags & END_STREAM != 0,
            HEADERS | PUSH_PROMISE => true,
            _ => false,
        }
    }
}

impl Default for Calm {
    fn default() -> Self {
        Self::new()
    }
}

impl Calm {
    /// A peer that has just connected.
    pub fn new() -> Self {
        Self { left: ALLOWED, since: Duration::ZERO, newest_stream: 0 }
    }

    /// A frame came. The time since the peer connected is asked for only when nothing is left.
    ///
    /// # Errors
    /// [`Flood`].
    pub fn came(&mut self, frame: &Frame, now: impl FnOnce() -> Duration) -> Result<(), Flood> {
        if frame.says_something() {
            self.newest_stream = self.newest_stream.max(frame.stream);
            return Ok(());
        }
        if self.left == 0 {
            let now = now();
            if now.saturating_sub(self.since) < SPAN {
                return Err(Flood);
            }
            (self.left, self.since) = (ALLOWED, now);
        }
        self.left -= 1;
        Ok(())
    }

    /// A frame was sent: what it carries is answered by windows, each of a KiB at least.
    pub fn went(&mut self, frame: &Frame) {
        if frame.says_something() {
            self.left = self.left.saturating_add(EARNED + frame.length / 1024);
        }
    }

    /// The GOAWAY that ends it: ENHANCE_YOUR_CALM, and the newest stream that was begun.
    pub fn go_away(&self) -> [u8; HEAD + 8] {
        let [a, b, c, d] = self.newest_stream.to_be_bytes();
        [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 11]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 3]);
        bytes.extend(payload);
        bytes
    }

    fn client(frames: &[Vec<u8>]) -> Vec<u8> {
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat()
    }

    /// The kinds and lengths that are seen of these bytes, in pieces of this size.
    fn seen(bytes: &[u8], size: usize) -> (Vec<(u8, u32)>, bool) {
        let (mut frames, mut all) = (Frames::of_client(), Vec::new());
        for piece in bytes.chunks(size) {
            let scanned = frames.scan(piece, |frame| {
                all.push((frame.kind, frame.length));
                Ok::<(), Flood>(())
            });
            assert_eq!(scanned, Ok(()));
        }
        (all, frames.is_between())
    }

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let bytes =
            client(&[frame(4, 0, b""), frame(1, 4, b"abc"), frame(0, 1, &[0; 600]), frame(8, 0, &[0; 4])]);
        let expected = vec![(4, 0), (1, 3), (0, 600), (8, 4)];
        for size in [1, 2, 7, 24, 25, 33, 100, 4096] {
            assert_eq!(seen(&bytes, size), (expected.clone(), true), "pieces of {size}");
        }
        assert!(!seen(&bytes[..bytes.len() - 1], 50).1);
        assert!(!seen(&bytes[..30], 50).1);
    }

    /// How many of such frames a peer may send at once.
    fn allowed(calm: &mut Calm, now: u64, head: &[u8; HEAD]) -> usize {
        let frame = Frame::of(head);
        (0..10_000).take_while(|_| calm.came(&frame, || Duration::from_secs(now)).is_ok()).count()
    }

    const PING: [u8; HEAD] = [0, 0, 8, 6, 0, 0, 0, 0, 0];

    #[test]
    fn c4_frames_that_say_nothing_are_bounded_in_ten_seconds() {
        for kind in [2, 3, 4, 6, 7, 8, 9, 200] {
            let head = [0, 0, 4, kind, 0, 0, 0, 0, 1];
            assert_eq!(allowed(&mut Calm::new(), 9, &head), 1000, "kind {kind}");
        }
        assert_eq!(allowed(&mut Calm::new(), 0, &[0, 0, 0, 0, 0, 0, 0, 0, 1]), 1000, "empty DATA");
        for part in
            [[0, 0, 0, 0, END_STREAM, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 4, 0, 0, 0, 1]]
        {
            assert_eq!(allowed(&mut Calm::new(), 0, &part), 10_000, "{part:?}");
        }
        let mut calm = Calm::new();
        assert_eq!(allowed(&mut calm, 9, &PING), 1000);
        assert_eq!(allowed(&mut calm, 10, &PING), 1000, "ten seconds later");
    }

    #[test]
    fn c4_who_is_sent_much_may_say_much() {
        let mut calm = Calm::new();
        calm.went(&Frame::of(&PING));
        assert_eq!(allowed(&mut calm, 1, &PING), 1000, "an answer to a ping allows nothing");
        calm.went(&Frame::of(&[0, 0, 20, HEADERS, 4, 0, 0, 0, 1]));
        calm.went(&Frame::of(&[0, 0x40, 0, DATA, 0, 0, 0, 0, 1]));
        assert_eq!(allowed(&mut calm, 1, &PING), 4 + 4 + 16);
    }

    #[test]
    fn the_end_names_the_newest_stream() {
        let mut calm = Calm::new();
        let head = Frame::of(&[0, 0, 1, HEADERS, 4, 0, 0, 1, 5]);
        assert_eq!(calm.came(&head, || Duration::ZERO), Ok(()));
        assert_eq!(calm.go_away(), [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 11]);
    }
}
