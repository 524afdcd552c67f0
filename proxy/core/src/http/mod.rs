//! HTTP as bytes and header maps: what a peer may send, and in which form it is matched and forwarded. Pure.

pub mod head;
