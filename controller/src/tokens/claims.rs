//! What a service account's token says of itself. Nobody has verified it: it explains refusals and shortens how long
//! an answer is remembered, and nothing is believed for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The claims that matter (RFC 7519, section 4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// For whom it is meant.
    #[serde(default)]
    pub aud: Audiences,
    /// When it ends, in seconds since 1970; 0 for never.
    #[serde(default)]
    pub exp: i64,
}

/// One audience, or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Claims {
    /// Reads them from the middle part of a token (RFC 7515, section 7.1); `None` for what has no such form.
    pub fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        if token.len() > MAX_TOKEN_BYTES || parts.next().is_some() {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

impl Audiences {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(all) => all,
        }
    }
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn claims_of_one_audience_or_several() {
        let claims = Claims::read(&token(r#"{"aud":["weft.dev","x"],"exp":1700000000,"sub":"s"}"#)).unwrap();
        assert_eq!((claims.aud.all().len(), claims.exp), (2, 1_700_000_000));
        assert_eq!(Claims::read(&token(r#"{"aud":"x"}"#)).unwrap().aud.all(), ["x"]);
        assert!(Claims::read(&token("{}")).unwrap().aud.all().is_empty());
    }

    #[test]
    fn what_is_no_token_says_nothing() {
        let long = token(&format!(r#"{{"aud":"{}"}}"#, "x".repeat(MAX_TOKEN_BYTES)));
        for bad in ["", "a.b", "a.b.c.d", "e30.*.c2ln", &token("5"), &token(r#"{"aud":5}"#), &long] {
            assert_eq!(Claims::read(bad), None);
        }
    }
}
