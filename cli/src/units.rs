//! Amounts as people write them on the command line.

use std::time::Duration;

/// A duration such as `200ms`, `1.5s` or `1m30s`.
///
/// # Errors
/// What is wrong with the text, and how to write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    weft_crds::scalar::Duration::from(text).parse().map_err(|e| e.to_string())
}

/// A number of bytes: `1048576`, `64k`, `1M`, `1G`; the letters are powers of 1024.
///
/// # Errors
/// When the text is no such number.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number of bytes; write `512`, `64k`, `1M` or `1G`");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("5").unwrap_err().contains("no unit"));
        assert_eq!((bytes("64k"), bytes("7")), (Ok(65536), Ok(7)));
        assert!(bytes("x").is_err() && bytes("99999999999999G").is_err());
    }
}
