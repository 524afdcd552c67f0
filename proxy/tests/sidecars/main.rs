//! Whole sidecars in one process, over loopback.

#[cfg(test)]
mod connections;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod workers;
