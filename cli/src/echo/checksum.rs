//! Length and checksum of a stream of bytes.

use xxhash_rust::xxh64::Xxh64;

/// Length and XXH64 (seed 0) of the bytes so far.
#[derive(Clone)]
pub struct Checksum {
    length: u64,
    hash: Xxh64,
}

impl Checksum {
    /// Of nothing.
    pub fn new() -> Self {
        Self { length: 0, hash: Xxh64::new(0) }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// How many bytes there were.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Sixteen hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.hash.digest())
    }

    /// The line that a TCP connection gets after all else, when it was closed on the other side.
    pub fn line(&self) -> String {
        format!("{{\"bytes\":{},\"checksum\":\"{}\"}}\n", self.length, self.hex())
    }
}

impl Default for Checksum {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.line().trim_end())
    }
}
