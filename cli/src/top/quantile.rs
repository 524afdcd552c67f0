//! Quantiles of histograms, interpolated between buckets as Prometheus' `histogram_quantile` does. Pure.

/// The value below which the share `quantile` (0 to 1) of all observations lies; `None` where there are none. Buckets are
/// upper bounds with cumulative counts, in ascending order, the last one without a bound (`+Inf`).
///
/// Within a bucket observations are taken to be spread evenly; the first bucket begins at zero; of the last one nothing but
/// its lower bound is known.
pub fn quantile(quantile: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let (_, total) = *buckets.last()?;
    if buckets.len() < 2 || total <= 0.0 {
        return None;
    }
    let rank = quantile * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let below = at.checked_sub(1).map(|at| buckets[at]);
    if at == buckets.len() - 1 {
        return below.map(|(bound, _)| bound);
    }
    let (start, before) = below.unwrap_or((0.0, 0.0));
    let (end, count) = buckets[at];
    let within = count - before;
    if within <= 0.0 {
        return Some(start);
    }
    Some(start + (end - start) * ((rank - before) / within))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFINITE: f64 = f64::INFINITY;

    #[test]
    fn between_two_bounds_it_is_interpolated() {
        let buckets = [(1.0, 0.0), (5.0, 50.0), (10.0, 100.0), (INFINITE, 100.0)];
        assert_eq!(quantile(0.5, &buckets), Some(5.0));
        assert_eq!(quantile(0.25, &buckets), Some(3.0));
        assert_eq!(quantile(0.99, &buckets), Some(9.9));
    }

    #[test]
    fn the_first_bucket_begins_at_zero_and_the_last_has_no_end() {
        assert_eq!(quantile(0.5, &[(2.0, 10.0), (INFINITE, 10.0)]), Some(1.0));
        assert_eq!(quantile(0.99, &[(2.0, 10.0), (4.0, 10.0), (INFINITE, 20.0)]), Some(4.0));
        assert_eq!(quantile(0.5, &[(2.0, 0.0), (INFINITE, 0.0)]), None);
        assert_eq!(quantile(0.5, &[(INFINITE, 3.0)]), None);
        assert_eq!(quantile(0.5, &[]), None);
    }
}
