//! Amounts of resources, as Kubernetes writes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// Amounts by resource; like Kubernetes, it takes a number for its text.
pub(super) fn amounts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let read = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        _ => Err(D::Error::custom(format!("`{name}` has no quantity; write one such as 100m or 128Mi"))),
    };
    BTreeMap::deserialize(from)?.into_iter().map(read).collect()
}

/// Whether Kubernetes reads this as an amount: `100m`, `0.5`, `128Mi`, `1e3`.
pub(super) fn is_quantity(text: &str) -> bool {
    const UNITS: [&str; 15] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let is_number = number.parse::<f64>().is_ok() && number.bytes().any(|b| b.is_ascii_digit());
    let exponent = unit.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty());
    is_number && (UNITS.contains(&unit) || unit == "Ei" || exponent.is_some_and(|e| e.parse::<i8>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_amounts_too() {
        let read =
            |text: &str| amounts(&mut serde_json::Deserializer::from_str(text)).map_err(|e| e.to_string());
        assert_eq!(read(r#"{"cpu": 2, "memory": "1Gi"}"#).unwrap()["cpu"], "2");
        assert!(read(r#"{"cpu": []}"#).unwrap_err().contains("`cpu`"));
    }

    #[test]
    fn quantities_are_told_from_other_texts() {
        assert!(["1", "0.5", "100m", "128Mi", "1e3", "2E", "3Ei", "500M"].iter().all(|q| is_quantity(q)));
        assert!(["", "m", "1core", "1.2.3", "-1", "1 Gi", "1mb", ".", "e3"].iter().all(|q| !is_quantity(q)));
    }
}
