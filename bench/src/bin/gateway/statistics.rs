//! Medians and percentiles. Means would let one slow round or disk stall dominate.

use std::time::Duration;

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Median of the ratios of the rounds. A disturbance of a whole round cancels out.
pub fn ratio(values: &[f64], others: &[f64]) -> f64 {
    let ratios: Vec<f64> = values
        .iter()
        .zip(others)
        .map(|(value, other)| value / other)
        .collect();
    median(&ratios)
}

/// The smallest value that at least `share` of all values do not exceed; 0 for no values.
pub fn percentile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}
