//! The control plane of a sidecar against a controller that speaks the real protocol over TLS.

/// A controller, a sidecar, and how they are asked.
#[cfg(test)]
mod scene;
/// What the controller says.
#[cfg(test)]
mod said;
/// What happens.
#[cfg(test)]
mod scenarios;
