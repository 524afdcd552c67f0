//! Amounts of resources, as Kubernetes writes them.

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
    use super::is_quantity;

    #[test]
    fn quantities_are_told_from_other_texts() {
        assert!(["1", "0.5", "100m", "128Mi", "1e3", "2E", "3Ei", "500M"].iter().all(|q| is_quantity(q)));
        assert!(["", "m", "1core", "1.2.3", "-1", "1 Gi", "1mb", ".", "e3"].iter().all(|q| !is_quantity(q)));
    }
}
