//! What is wrong with settings and annotations, and the small texts that both hold.

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SettingsError {
    /// The field, as in `ports.health`.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

pub(super) fn error(field: impl Into<String>, reason: impl ToString) -> SettingsError {
    SettingsError { field: field.into(), reason: reason.to_string() }
}

/// The path of an annotation.
pub(super) fn at(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// The seconds of `25s` or `2m`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s')?, 1),
    };
    number.parse::<u64>().ok().filter(|n| *n < 1 << 30).map(|n| n * factor)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn spans_of_time() {
        assert_eq!(
            [seconds("25s"), seconds("2m"), seconds("x"), seconds("5")],
            [Some(25), Some(120), None, None]
        );
    }
}
