//! What can be read in Ethernet frames: known words in clear, and which version of TLS was agreed on. Pure.

use serde::{Deserialize, Serialize};

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// TCP segments.
    pub segments: u64,
    /// Segments in which each of the words stood, in the order in which the words were given.
    pub words: Vec<u64>,
    /// Servers' answers to TLS handshakes that agreed on TLS 1.3.
    pub tls13: u64,
    /// Those that agreed on an older version.
    pub older_tls: u64,
}

impl Seen {
    /// Looks for these many words.
    pub fn new(words: usize) -> Self {
        Self { words: vec![0; words], ..Self::default() }
    }

    /// Looks into one frame.
    pub fn frame(&mut self, frame: &[u8], words: &[Vec<u8>]) {
        let Some(payload) = tcp_payload(frame) else { return };
        self.segments += 1;
        for (count, word) in self.words.iter_mut().zip(words) {
            *count += u64::from(contains(payload, word));
        }
        match server_hello_version(payload) {
            Some(0x0304) => self.tls13 += 1,
            Some(_) => self.older_tls += 1,
            None => {}
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    !word.is_empty() && text.windows(word.len()).any(|w| w == word)
}

/// What a frame's TCP segment carries; IPv4 and IPv6 without extension headers.
fn tcp_payload(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(14..)?;
    let tcp = match frame.get(12..14)? {
        [0x08, 0x00] if *packet.get(9)? == 6 => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            // A short frame is padded; the packet knows its length. Offloading may leave the length empty.
            let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
            let end = if length == 0 { packet.len() } else { length.min(packet.len()) };
            packet.get(header..end)?
        }
        [0x86, 0xdd] if *packet.get(6)? == 6 => packet.get(40..)?,
        _ => return None,
    };
    tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)
}

/// The version on which a segment that begins with a ServerHello (RFC 8446 section 4.1.3) agrees.
fn server_hello_version(payload: &[u8]) -> Option<u16> {
    let [0x16, 0x03, _, _, _, 0x02, _, _, _, major, minor, rest @ ..] = payload else { return None };
    let session = usize::from(*rest.get(32)?);
    let mut extensions = rest.get(32 + 1 + session + 2 + 1 + 2..).unwrap_or_default();
    while let [kind_high, kind, length_high, length, after @ ..] = extensions {
        let length = usize::from(u16::from_be_bytes([*length_high, *length]));
        let body = after.get(..length)?;
        if let (0x00, 0x2b, [high, low]) = (*kind_high, *kind, body) {
            return Some(u16::from_be_bytes([*high, *low]));
        }
        extensions = &after[length..];
    }
    Some(u16::from_be_bytes([*major, *minor]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0; 5]);
        frame.push(6);
        frame.extend([0; 10]);
        frame.extend([0; 12]);
        frame.push(0x50);
        frame.extend([0; 7]);
        frame.extend_from_slice(payload);
        frame
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut hello = vec![0x16, 3, 3, 0, 0, 2, 0, 0, 0, 3, 3];
        hello.extend([7; 32]);
        hello.extend([2, 9, 9, 0x13, 0x01, 0]);
        hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        hello.extend_from_slice(extensions);
        hello
    }

    #[test]
    fn words_in_clear_are_seen_and_padding_is_not() {
        let words = [b"secret".to_vec(), b"open".to_vec()];
        let mut seen = Seen::new(2);
        let mut padded = frame(b"GET /open");
        padded.extend(b"secret");
        seen.frame(&padded, &words);
        seen.frame(b"short", &words);
        assert_eq!((seen.segments, seen.words), (1, vec![0, 1]));
    }

    #[test]
    fn the_version_is_in_an_extension_since_tls_1_3() {
        let mut seen = Seen::new(0);
        seen.frame(&frame(&hello(&[0, 0x33, 0, 1, 5, 0, 0x2b, 0, 2, 3, 4])), &[]);
        seen.frame(&frame(&hello(&[0, 0x33, 0, 1, 5])), &[]);
        seen.frame(&frame(&[0x17, 3, 3, 0, 1, 0]), &[]);
        assert_eq!((seen.tls13, seen.older_tls, seen.segments), (1, 1, 3));
    }
}
