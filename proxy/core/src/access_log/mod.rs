//! The access log as people write it for Istio: templates of lines and fields, and expressions that say what is
//! logged. Read here, strictly; filled in by the sidecar.

/// Expressions that say which requests are logged.
pub mod filter;
/// Templates with Envoy's command operators.
pub mod template;
