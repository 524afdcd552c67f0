//! What upstreams do, and what becomes of it.
