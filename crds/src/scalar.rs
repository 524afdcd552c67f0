//! Numbers and durations as they were written.
//!
//! A value of the wrong *kind* (a list where a number belongs) is an error of decoding. A value of the right
//! kind that makes no sense (port 70000, a timeout of `5`) is kept as it stands, so that validation can report
//! every such value of an object at once, each with its path. Hence one rule for all kinds: every integer of
//! the API, whatever its width there, is an `Int`, and every duration a `Duration`; whether it was
//! written at all is told by the `Option` around it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// An integer as it was written, not yet checked for its range.
///
/// Decoded from a JSON number without a fraction or, as the JSON form of protobuf allows, from a text with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Int(
    /// The number.
    pub i64,
);

/// A number that is outside the range its field allows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{value} is outside the allowed range, {min} to {max}")]
pub struct OutOfRange {
    /// What was written.
    pub value: i64,
    /// The least number allowed.
    pub min: i64,
    /// The greatest number allowed.
    pub max: i64,
}

impl Int {
    /// The number, if it is from `min` to `max`.
    pub fn within(self, min: i64, max: i64) -> Result<i64, OutOfRange> {
        if (min..=max).contains(&self.0) { Ok(self.0) } else { Err(OutOfRange { value: self.0, min, max }) }
    }

    /// The number as a port, 1 to 65535.
    pub fn port(self) -> Result<u16, OutOfRange> {
        self.within(1, i64::from(u16::MAX)).map(|n| n as u16)
    }

    /// The number as an unsigned one of 32 bits.
    pub fn u32(self) -> Result<u32, OutOfRange> {
        self.within(0, i64::from(u32::MAX)).map(|n| n as u32)
    }

    /// The number as a percentage, 0 to 100.
    pub fn percent(self) -> Result<u8, OutOfRange> {
        self.within(0, 100).map(|n| n as u8)
    }
}

impl From<i64> for Int {
    fn from(value: i64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor)
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer of at most 64 bits")
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Int, E> {
        Ok(Int(v))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Int, E> {
        i64::try_from(v).map(Int).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(v), &self))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Int, E> {
        // 2^53: beyond it a float does not tell neighbouring integers apart.
        if v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0 {
            Ok(Int(v as i64))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(v), &self))
        }
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Int, E> {
        v.parse().map(Int).map_err(|_| E::invalid_value(de::Unexpected::Str(v), &self))
    }
}

impl JsonSchema for Int {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Int".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "int64" })
    }
}

/// A duration as it was written, such as `1h2m3.5s`; [`Duration::parse`] reads it.
///
/// A bare number decodes too, as its digits, and is then refused by `parse` for its missing unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Duration(String);

/// The longest duration of protobuf's `Duration`, about 10,000 years, in seconds.
const MAX_SECONDS: u64 = 315_576_000_000;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Nothing is written.
    #[error("is empty; write a duration such as `5s` or `1m30s`")]
    Empty,
    /// It is less than zero.
    #[error("`{0}` is negative; a duration is 0s or more")]
    Negative(String),
    /// A number stands without a unit.
    #[error(
        "`{text}` has no unit after `{number}`; write `{number}s` for seconds, or one of ns, us, ms, s, m, h"
    )]
    NoUnit {
        /// The whole text.
        text: String,
        /// The number without a unit.
        number: String,
    },
    /// The unit is not one that is known.
    #[error("`{text}` has the unknown unit `{unit}`; the units are ns, us, ms, s, m, h")]
    Unit {
        /// The whole text.
        text: String,
        /// The unit.
        unit: String,
    },
    /// It is not a row of numbers with units.
    #[error("`{0}` is not a duration; write numbers with units, such as `5s` or `1m30s`")]
    Syntax(String),
    /// It is longer than 10,000 years.
    #[error("`{0}` is longer than 10,000 years")]
    TooLong(String),
}

impl Duration {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the text: one or more decimal numbers, each with a unit of ns, us (or µs), ms, s, m and h. What is
    /// finer than a nanosecond is cut off.
    pub fn parse(&self) -> Result<std::time::Duration, DurationError> {
        let text = self.0.as_str();
        if text.starts_with('-') {
            return Err(DurationError::Negative(text.to_owned()));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(DurationError::Empty);
        }
        let mut nanos = 0;
        while !rest.is_empty() {
            let (part, after) = take_part(rest, text)?;
            nanos = add(nanos, part).ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
            rest = after;
        }
        Ok(std::time::Duration::new((nanos / NANOS) as u64, (nanos % NANOS) as u32))
    }
}

const NANOS: u128 = 1_000_000_000;

/// The sum, within the longest duration.
fn add(nanos: u128, part: Option<u128>) -> Option<u128> {
    nanos.checked_add(part?).filter(|sum| *sum <= u128::from(MAX_SECONDS) * NANOS)
}

/// The first number with its unit, in nanoseconds (`None` where that overflows), and what follows.
fn take_part<'a>(rest: &'a str, text: &str) -> Result<(Option<u128>, &'a str), DurationError> {
    let (whole, after) = split_digits(rest);
    let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Syntax(text.to_owned()));
    }
    let end = after.find(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+')).unwrap_or(after.len());
    let (unit, next) = after.split_at(end);
    let number = rest[..rest.len() - after.len()].to_owned();
    match unit_nanos(unit) {
        Some(scale) => Ok((scaled(whole, fraction, scale), next)),
        None if unit.is_empty() => Err(DurationError::NoUnit { text: text.to_owned(), number }),
        None => Err(DurationError::Unit { text: text.to_owned(), unit: unit.to_owned() }),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS,
        "m" => 60 * NANOS,
        "h" => 3_600 * NANOS,
        _ => return None,
    })
}

/// `whole.fraction` times `scale`; `None` when it does not fit.
fn scaled(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = &fraction[..fraction.len().min(18)];
    let part: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    whole.checked_mul(scale)?.checked_add(part * scale / 10u128.pow(digits.len() as u32))
}

impl From<&str> for Duration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as `5s` or `1m30s`")
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Duration, E> {
        Ok(Duration(v.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Duration, E> {
        Ok(Duration(v.to_string()))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Duration, E> {
        Ok(Duration(v.to_string()))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Duration, E> {
        Ok(Duration(v.to_string()))
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<std::time::Duration, DurationError> {
        Duration::from(text).parse()
    }

    #[test]
    fn durations_are_read() {
        let ms = std::time::Duration::from_millis;
        assert_eq!(parse("1h2m3.5s"), Ok(ms(3_723_500)));
        assert_eq!(parse("0s"), Ok(ms(0)));
        assert_eq!(parse(".5s"), Ok(ms(500)));
        assert_eq!(parse("1.s"), Ok(ms(1_000)));
        assert_eq!(parse("+2us"), Ok(std::time::Duration::from_micros(2)));
        assert_eq!(parse("1µs1ns"), Ok(std::time::Duration::from_nanos(1_001)));
        assert_eq!(parse("0.0000000019s"), Ok(std::time::Duration::from_nanos(1)));
        assert_eq!(parse("87660000h"), Ok(std::time::Duration::from_secs(MAX_SECONDS)));
    }

    #[test]
    fn f5_durations_that_make_no_sense_are_refused() {
        for (text, reason) in [
            ("", "is empty"),
            ("+", "is empty"),
            ("-1s", "negative"),
            ("5", "no unit after `5`"),
            ("0", "write `0s`"),
            ("1h5", "no unit after `5`"),
            ("5d", "unknown unit `d`"),
            ("5 s", "unknown unit ` s`"),
            ("s", "is not a duration"),
            (".s", "is not a duration"),
            ("1s-1s", "is not a duration"),
            ("abc", "is not a duration"),
            ("87660000h1ns", "longer than 10,000 years"),
            ("99999999999999999999999999999999999999999999h", "longer than 10,000 years"),
            ("340282366920938463463374607431768211455ns1h", "longer than 10,000 years"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn integers_come_as_numbers_or_as_text() {
        for json in ["42", "42.0", "4.2e1", "\"42\""] {
            assert_eq!(serde_json::from_str::<Int>(json).expect(json), Int(42));
        }
        for json in ["4.5", "\"4.5\"", "\"\"", "true", "[]", "1e300", "18446744073709551615"] {
            assert!(serde_json::from_str::<Int>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn ranges_are_checked_later() {
        assert_eq!(Int(443).port(), Ok(443));
        let error = Int(70_000).port().expect_err("out of range").to_string();
        assert_eq!(error, "70000 is outside the allowed range, 1 to 65535");
        assert!(Int(-1).u32().is_err());
        assert!(Int(101).percent().is_err());
    }

    #[test]
    fn a_duration_keeps_its_text_whatever_it_is() {
        assert_eq!(serde_json::from_str::<Duration>("5").expect("a number").as_str(), "5");
        assert_eq!(serde_json::to_string(&Duration::from("bogus")).expect("json"), "\"bogus\"");
        assert!(serde_json::from_str::<Duration>("[1]").is_err());
    }
}
