//! The one place that writes to standard output, so that `-o json` can promise that nothing else does.

use std::io::Write;

/// Writes one line. A reader that went away is no error: there is nobody left to tell.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a value as one line of JSON.
pub fn json<T: serde::Serialize>(value: &T) {
    line(&serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
}
