//! Resources as bytes, and their versions.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

/// An encoded resource and the version that its bytes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    version: Arc<str>,
    body: Bytes,
}

impl Encoded {
    /// Encodes a message.
    pub fn of(message: &impl Message) -> Self {
        Self::from_body(message.encode_to_vec().into())
    }

    /// Takes bytes that are encoded already.
    pub fn from_body(body: Bytes) -> Self {
        Self { version: version_of(&body).into(), body }
    }

    /// The hash of the bytes: see [`version_of`].
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// The version of a resource: 16 hexadecimal digits of XXH64 (seed 0) of its bytes.
pub fn version_of(body: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh64::xxh64(body, 0))
}
