//! Names of traces and spans. Digits are read strictly: lower case, the exact number, not all zero.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// The name of a trace: 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The name of a span: 8 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// Reads 32 digits.
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        if digits.len() != 32 {
            return None;
        }
        NonZeroU128::new(hex(digits)?).map(Self)
    }

    /// Reads 32 digits, or 16 as older B3 has them.
    pub fn from_short_hex(digits: &[u8]) -> Option<Self> {
        match digits.len() {
            16 => NonZeroU128::new(hex(digits)?).map(Self),
            _ => Self::from_hex(digits),
        }
    }

    /// A new one.
    pub fn random(mut chance: impl FnMut() -> u64) -> Self {
        let drawn = u128::from(chance()) << 64 | u128::from(chance());
        Self(NonZeroU128::new(drawn).unwrap_or(NonZeroU128::MIN))
    }

    /// As a number, the first byte highest.
    pub fn get(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// Reads 16 digits.
    pub fn from_hex(digits: &[u8]) -> Option<Self> {
        if digits.len() != 16 {
            return None;
        }
        NonZeroU64::new(u64::try_from(hex(digits)?).ok()?).map(Self)
    }

    /// A new one.
    pub fn random(mut chance: impl FnMut() -> u64) -> Self {
        Self(NonZeroU64::new(chance()).unwrap_or(NonZeroU64::MIN))
    }

    /// As a number, the first byte highest.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// The number that at most 32 digits write.
pub(super) fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | u128::from(value(*digit)?)))
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_strictly_and_written_back() {
        let trace = TraceId::from_hex(b"0af7651916cd43dd8448eb211c80319c").unwrap();
        assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        let span = SpanId::from_hex(b"00f067aa0ba902b7").unwrap();
        assert_eq!(span.to_string(), "00f067aa0ba902b7");
        for wrong in ["0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319", "", "0x"] {
            assert_eq!(TraceId::from_hex(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(TraceId::from_hex(&[b'0'; 32]), None);
        assert_eq!(TraceId::from_hex("0af7651916cd43dd8448eb211c8031é".as_bytes()), None);
        assert_eq!(SpanId::from_hex(&[b'0'; 16]), None);
        assert_eq!(SpanId::from_hex(b"00f067aa0ba902b"), None);
        assert_eq!(SpanId::from_hex(b"+0f067aa0ba902b7"), None);
    }

    #[test]
    fn b3_may_be_short() {
        let short = TraceId::from_short_hex(b"8448eb211c80319c").unwrap();
        assert_eq!(short.to_string(), "00000000000000008448eb211c80319c");
        assert_eq!(TraceId::from_short_hex(b"8448eb211c80319"), None);
    }

    #[test]
    fn chance_that_draws_zero_makes_a_name_all_the_same() {
        assert_eq!(TraceId::random(|| 0).get(), 1);
        assert_eq!(SpanId::random(|| 0).get(), 1);
    }
}
