//! The HTTP of one connection, and the bounds of HTTP/2 on both sides of the proxy.

/// The HTTP of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1 (and 1.0).
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection's window: so wide that a slow reader of small frames is no abuse by the library's own count.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// A stream's window: so wide that one upload may use a fast network.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// What may wait to be sent on one stream.
pub const SEND_BUFFER: usize = 64 << 10;
/// The most bytes of a decoded header list.
pub const HEADER_LIST: u32 = 64 << 10;

/// The most bytes that a connection of HTTP/1 reads at once, and that wait to be written: the longest head that the
/// scanner lets through fits. What a slow reader leaves unread is kept a few times over on its way, no more
/// (hardening A16).
pub const HTTP1_BUFFER: usize = 96 << 10;
