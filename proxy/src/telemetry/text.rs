//! Texts as telemetry keeps and shows them.

/// The longest value that is kept of what somebody sent, in bytes.
pub(super) const MAX_VALUE: usize = 1024;

/// The head of a text that is too long.
pub(super) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A text that says something.
pub(super) fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
