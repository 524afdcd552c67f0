//! Judgements that need more than a comparison. Pure.

/// How many standard deviations of a binomial distribution `hits` of `total` are from what `share` leads to expect.
pub fn deviations(hits: u64, total: u64, share: f64) -> f64 {
    let n = total as f64;
    let spread = (n * share * (1.0 - share)).sqrt();
    if spread == 0.0 { f64::INFINITY } else { ((hits as f64) - n * share).abs() / spread }
}

/// Whether a share is what chance allows: within five standard deviations.
pub fn within_chance(hits: u64, total: u64, share: f64) -> bool {
    deviations(hits, total, share) <= 5.0
}

/// Whether a host that began to fail was ejected in time: after the errors that it takes, and those in flight then.
pub fn ejected_in_time(errors: u64, threshold: u64, in_flight: u64) -> bool {
    (threshold..=threshold + in_flight).contains(&errors)
}

/// Whether a host came back when its time was up: not before, and soon after.
pub fn back_in_time(seconds: f64, ejection: f64, grace: f64) -> bool {
    (ejection - 0.5..=ejection + grace).contains(&seconds)
}

/// The value within which this share of all lies; zero when there is none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_may_vary_as_chance_does() {
        assert!(within_chance(1600, 2000, 0.8) && within_chance(1689, 2000, 0.8));
        assert!(!within_chance(1690, 2000, 0.8) && !within_chance(1000, 2000, 0.8));
        assert!(!within_chance(0, 0, 0.8), "nothing proves nothing");
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=50).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&[], 0.5)), (25.0, 50.0, 0.0));
    }

    #[test]
    fn ejection_and_return_have_their_time() {
        assert!(ejected_in_time(3, 3, 10) && ejected_in_time(13, 3, 10));
        assert!(!ejected_in_time(2, 3, 10) && !ejected_in_time(14, 3, 10));
        assert!(
            back_in_time(30.2, 30.0, 2.0) && !back_in_time(28.0, 30.0, 2.0) && !back_in_time(33.0, 30.0, 2.0)
        );
    }
}
