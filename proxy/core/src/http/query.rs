//! Query parameters: found and compared without allocating.
//!
//! A parameter that is repeated counts with its first value. Names and values are compared percent-decoded; `+` is a
//! plus, as in RFC 3986 (and unlike HTML forms).

use std::borrow::Cow;

use crate::http::path::escaped;

/// A value as it stands in the query, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryValue<'a>(&'a str);

/// The first value of a parameter; empty for a parameter without `=`.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<QueryValue<'a>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (QueryValue(key).is(name) && !pair.is_empty()).then_some(QueryValue(value))
    })
}

impl<'a> QueryValue<'a> {
    /// Whether the decoded value is `text`.
    pub fn is(self, text: &str) -> bool {
        if self.is_encoded() { self.bytes().eq(text.bytes()) } else { self.0 == text }
    }

    /// Whether the decoded value begins with `text`.
    pub fn starts_with(self, text: &str) -> bool {
        let mut bytes = self.bytes();
        text.bytes().all(|expected| bytes.next() == Some(expected))
    }

    /// The decoded value, for matching a regular expression; what is not UTF-8 becomes U+FFFD.
    pub fn decoded(self) -> Cow<'a, str> {
        match self.is_encoded() {
            false => Cow::Borrowed(self.0),
            true => Cow::Owned(String::from_utf8_lossy(&self.bytes().collect::<Vec<_>>()).into_owned()),
        }
    }

    /// The value as it was sent.
    pub fn as_sent(self) -> &'a str {
        self.0
    }

    fn is_encoded(self) -> bool {
        self.0.contains('%')
    }

    fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let mut rest = self.0.as_bytes();
        std::iter::from_fn(move || {
            let (first, more) = rest.split_first()?;
            let decoded = escaped(rest);
            rest = if decoded.is_some() { &rest[3..] } else { more };
            Some(decoded.unwrap_or(*first))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_value_counts() {
        let value = |query, name| parameter(query, name).map(QueryValue::as_sent);
        assert_eq!(value("a=1&b=2&a=3", "a"), Some("1"));
        assert_eq!(value("a=1&b=2&a=3", "b"), Some("2"));
        assert_eq!(value("a&b=", "a"), Some(""));
        assert_eq!(value("a&b=", "b"), Some(""));
        assert_eq!(value("a=b=c", "a"), Some("b=c"));
        assert_eq!(value("ab=1", "a"), None);
        assert_eq!(value("", ""), None);
        assert_eq!(value("A=1", "a"), None);
    }

    #[test]
    fn names_and_values_are_decoded() {
        let value = parameter("%66oo=a%20b%2", "foo").unwrap();
        assert!(value.is("a b%2") && value.starts_with("a b") && !value.is("a%20b%2"));
        assert_eq!(value.decoded(), "a b%2");
        assert!(!parameter("a=b", "a").unwrap().starts_with("bc"));
        assert!(parameter("a=1+1", "a").unwrap().is("1+1"));
        assert_eq!(parameter("a=%ff", "a").unwrap().decoded(), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn an_encoded_value_is_found(value in "\\PC{0,12}", other in "[a-z]{1,3}") {
            let encoded: String = value.bytes().map(|b| format!("%{b:02x}")).collect();
            let query = format!("x{other}=1&{other}={encoded}&{other}=2");
            let found = parameter(&query, &other).unwrap();
            prop_assert!(found.is(&value) && found.starts_with(&value));
            prop_assert_eq!(found.decoded(), value);
        }
    }
}
