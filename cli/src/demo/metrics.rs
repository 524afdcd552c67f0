//! Reading metrics in the text format of Prometheus. Pure.

/// The sum of a metric's samples that have all these labels.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = text.lines().filter_map(|line| sample(line, name));
    let wanted = samples.filter(|(set, _)| labels.iter().all(|(key, value)| has(set, key, value)));
    wanted.map(|(_, value)| value).sum()
}

/// The labels and the value of a line, if it is a sample of this metric.
fn sample<'a>(line: &'a str, name: &str) -> Option<(&'a str, f64)> {
    let rest = line.strip_prefix(name)?.strip_prefix('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    Some((labels, value.split(' ').next()?.parse().ok()?))
}

fn has(labels: &str, key: &str, value: &str) -> bool {
    let wanted = format!("{key}=\"{value}\"");
    labels.match_indices(&wanted).any(|(at, _)| at == 0 || labels[..at].ends_with(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_chosen_by_whole_label_names() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{xx=\"1\",y=\"2\"} 5\nab{x=\"1\"} 7\na{y=\"3\",x=\"1\"} 2\n";
        assert_eq!(sum(text, "a", &[("x", "1")]), 5.0);
        assert_eq!(sum(text, "a", &[("x", "1"), ("y", "2")]), 3.0);
        assert_eq!(sum(text, "a", &[("x", "9")]), 0.0);
    }
}
