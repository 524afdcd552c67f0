//! The HTTP of one connection, and the bounds of HTTP/2 on both sides of the proxy.

/// The HTTP of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1 (and 1.0).
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection's window: that of 64 streams, so that those which stand still, at either end, do not hold up the
/// others; and so wide that a slow reader of small frames is no abuse by the library's own count.
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// A stream's window: what is kept for each that stands still, and what one may have under way (at 1 ms there and back
/// 256 MB/s).
pub const STREAM_WINDOW: u32 = 256 << 10;
/// What may wait to be sent on one stream.
pub const SEND_BUFFER: usize = 64 << 10;
/// The most bytes of a decoded header list.
pub const HEADER_LIST: u32 = 64 << 10;

/// The most bytes that the library keeps of what was read of a connection of HTTP/1, and of what waits to be written: the
/// longest head that the scanner lets through fits. Bodies keep to less ([`flow`](crate::flow)).
pub const HTTP1_BUFFER: usize = 96 << 10;
