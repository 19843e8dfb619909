//! The keys for the limits of a destination, and for the retries of a delivery.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::delivery::limits::Limits;
use crate::delivery::retry::RetryPolicy;
use crate::settings_file::{Key, Keys, Mistake, Mistakes};

/// Most deliveries under way at one destination. Each holds a connection and a message in memory.
const CONCURRENCY_MAX: usize = 1024;
/// Longest time of an attempt. If the process dies, the lease of a delivery lasts as long.
const TIMEOUT_SECONDS_MAX: u64 = 600;
/// Most deliveries a second. One machine does not make more.
const RATE_MAX: u32 = 100_000;
/// Most attempts of a delivery. At one an hour they last longer than any deadline.
const ATTEMPTS_MAX: u32 = 1_000_000;
/// Longest deadline of a delivery: a month. An operator must look at a delivery that failed for so
/// long.
const DEADLINE_HOURS_MAX: u64 = 30 * 24;
/// Longest back-off between two attempts: a day.
const RETRY_SECONDS_MAX: u64 = 24 * 3600;

#[derive(Default, Deserialize)]
pub(super) struct LimitKeys {
    concurrency: Key<usize>,
    rate: Key<u32>,
    timeout_seconds: Key<u64>,
    attempts_max: Key<u32>,
    deadline_hours: Key<u64>,
    retry_first_seconds: Key<u64>,
    retry_max_seconds: Key<u64>,
}

impl Keys for LimitKeys {}

impl LimitKeys {
    pub(super) fn check(self) -> Result<Limits, Mistakes> {
        let defaults = Limits::default();
        let mut mistakes = Mistakes::default();
        let concurrency =
            mistakes.keep_number("concurrency", self.concurrency, 1..=CONCURRENCY_MAX);
        let rate = mistakes.keep_number("rate", self.rate, 1..=RATE_MAX);
        let timeout = 1..=TIMEOUT_SECONDS_MAX;
        let timeout = mistakes.keep_number("timeout_seconds", self.timeout_seconds, timeout);
        let retry = mistakes.keep(retry_policy(
            self.retry_first_seconds,
            self.retry_max_seconds,
            self.deadline_hours,
            self.attempts_max,
        ));
        mistakes.check()?;
        Ok(Limits {
            concurrency: concurrency.unwrap_or(defaults.concurrency),
            rate,
            timeout: timeout.map_or(defaults.timeout, Duration::from_secs),
            retry: retry.unwrap_or(defaults.retry),
        })
    }
}

fn retry_policy(
    first_seconds: Key<u64>,
    max_seconds: Key<u64>,
    deadline_hours: Key<u64>,
    attempts_max: Key<u32>,
) -> Result<RetryPolicy, Mistakes> {
    let defaults = RetryPolicy::default();
    let mut mistakes = Mistakes::default();
    let max_span = max_seconds.as_ref().map(Spanned::span);
    let first_span = first_seconds.as_ref().map(Spanned::span);
    let mut seconds = |key, number| mistakes.keep_number(key, number, 1..=RETRY_SECONDS_MAX);
    let first = seconds("retry_first_seconds", first_seconds);
    let max = seconds("retry_max_seconds", max_seconds);
    let hours = mistakes.keep_number("deadline_hours", deadline_hours, 1..=DEADLINE_HOURS_MAX);
    let attempts_max = mistakes.keep_number("attempts_max", attempts_max, 1..=ATTEMPTS_MAX);
    mistakes.check()?;
    let first = first.map_or(defaults.first, Duration::from_secs);
    let max = max.map_or(defaults.max.max(first), Duration::from_secs);
    if first > max
        && let Some(span) = max_span.or(first_span)
    {
        return Err(Mistake::new(
            span,
            "`retry_max_seconds` must not be less than `retry_first_seconds`",
        )
        .into());
    }
    Ok(RetryPolicy {
        first,
        max,
        give_up_after: hours.map_or(defaults.give_up_after, |hours| {
            Duration::from_secs(hours * 3600)
        }),
        attempts_max,
        ..defaults
    })
}
