//! Counts webhooks and attempts by minute, and writes the counts to the store about once a second.
//!
//! Counters in the commits that store and settle would cost each webhook a tenth of its time. A
//! count in memory costs a lock. A crash loses the counts since the last successful write, about a
//! second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use crate::store::{StoreError, TrafficCount, TrafficKind, TrafficStore};
use tokio_util::sync::CancellationToken;

/// Interval between writes of the counts.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of unwritten counts in memory: one for each minute, kind and name. Further ones
/// are dropped.
const COUNTS_MAX: usize = 10_000;
const MINUTE_MS: i64 = 60_000;

/// Counts that are not written yet.
#[derive(Clone, Debug, Default)]
pub struct Traffic(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// By the beginning of the minute in milliseconds, kind and name.
    by_minute: BTreeMap<(i64, TrafficKind), BTreeMap<String, u64>>,
    len: usize,
}

impl Traffic {
    /// Adds one to the count of the endpoint or destination `name`.
    pub fn count(&self, kind: TrafficKind, name: &str, at: Timestamp) {
        self.add(kind, name, at, 1);
    }

    fn add(&self, kind: TrafficKind, name: &str, at: Timestamp, more: u64) {
        let at_ms = at.as_millisecond();
        let minute_ms = at_ms - at_ms.rem_euclid(MINUTE_MS);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        let by_name = counts.by_minute.get_mut(&(minute_ms, kind));
        if let Some(count) = by_name.and_then(|by_name| by_name.get_mut(name)) {
            *count += more;
        } else if counts.len < COUNTS_MAX {
            let by_name = counts.by_minute.entry((minute_ms, kind)).or_default();
            by_name.insert(name.to_owned(), more);
            counts.len += 1;
        }
    }

    fn take(&self) -> Vec<TrafficCount> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let by_minute = counts.by_minute.into_iter();
        by_minute
            .flat_map(|((minute_ms, kind), by_name)| {
                let minute = Timestamp::from_millisecond(minute_ms).unwrap_or(Timestamp::MIN);
                by_name.into_iter().map(move |(name, count)| TrafficCount {
                    minute,
                    kind,
                    name,
                    count,
                })
            })
            .collect()
    }

    /// Writes the counts since the last call. After an error they stay in memory. They are written
    /// twice if the store made the change and its answer was lost.
    pub async fn write(&self, store: &dyn TrafficStore) -> Result<(), StoreError> {
        let counts = self.take();
        if counts.is_empty() {
            return Ok(());
        }
        let written = store.add_traffic(counts.clone()).await;
        if written.is_err() {
            for TrafficCount {
                minute,
                kind,
                name,
                count,
            } in counts
            {
                self.add(kind, &name, minute, count);
            }
        }
        written
    }

    /// Writes the counts every second, until shutdown.
    pub async fn run(self, store: Arc<dyn TrafficStore>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(WRITE_EVERY) => {}
            }
            if let Err(error) = self.write(&*store).await {
                tracing::debug!("cannot write the counts of the traffic yet: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_stored_by_minute_kind_and_name() {
        let traffic = Traffic::default();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for second in ["00", "59.999"] {
            let at = at(&format!("2026-11-30T08:00:{second}Z"));
            traffic.count(TrafficKind::Accepted, "production", at);
        }
        traffic.count(
            TrafficKind::Accepted,
            "production",
            at("2026-11-30T08:01:00Z"),
        );
        traffic.count(TrafficKind::Delivered, "app", at("2026-11-30T08:01:00Z"));
        let mut counts = traffic.take();
        counts.sort_by_key(|counted| (counted.minute, counted.kind));
        let counts: Vec<_> = counts
            .iter()
            .map(|it| (it.minute, &*it.name, it.count))
            .collect();
        let (first, second) = (at("2026-11-30T08:00:00Z"), at("2026-11-30T08:01:00Z"));
        assert_eq!(
            counts,
            [
                (first, "production", 2),
                (second, "production", 1),
                (second, "app", 1)
            ]
        );
        assert!(traffic.take().is_empty());
    }

    #[test]
    fn counts_that_no_store_takes_are_bounded() {
        let traffic = Traffic::default();
        for minute in 0..20_000 {
            let at = Timestamp::from_second(minute * 60).unwrap();
            traffic.count(TrafficKind::Refused, "production", at);
        }
        assert_eq!(traffic.take().len(), COUNTS_MAX);
    }
}
