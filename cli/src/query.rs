//! Queries of URLs.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Any text as it stands in the value of a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_is_encoded() {
        assert_eq!(encode("a=b,c in (d)"), "a%3Db%2Cc%20in%20%28d%29");
        assert_eq!(encode("x&y#é"), "x%26y%23%C3%A9");
    }
}
