//! Deliveries that failed, by cause. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::Status;

/// Maximum number of failed deliveries of a destination that are grouped, the newest. The latest
/// attempt of each is read.
pub const FAILED_MAX: usize = 2_000;
/// Maximum number of dead letters, and of waiting deliveries of each lane, that are looked at for
/// these. Waiting ones that were never attempted are among them.
pub(super) const LOOKED_AT_MAX: i64 = 2_500;

/// The failed deliveries of a destination, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failures {
    /// The causes, the one with the most deliveries first.
    pub causes: Vec<FailureCause>,
    /// Whether every failed delivery counts. If not, only the newest ones do.
    pub is_exact: bool,
}

/// Deliveries whose latest attempts have the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureCause {
    /// The answer of the destination, or the cause of the failure.
    pub answer: String,
    /// `waiting` or `dead`.
    pub status: Status,
    /// Number of deliveries.
    pub deliveries: u64,
    /// Earliest end of one of these attempts.
    #[schema(value_type = String, format = DateTime)]
    pub first_at: Timestamp,
    /// Latest end of one of these attempts.
    #[schema(value_type = String, format = DateTime)]
    pub latest_at: Timestamp,
    /// Message of the latest of these attempts.
    pub example_webhook_id: String,
}

/// A delivery that failed, with its latest attempt.
#[derive(Clone, Debug)]
pub(super) struct FailedDelivery {
    pub(super) status: Status,
    pub(super) answer: String,
    pub(super) ended_at: Timestamp,
    pub(super) webhook_id: String,
}

/// Failed deliveries as a database found them.
#[derive(Clone, Debug, Default)]
pub(super) struct FailedDeliveries {
    pub(super) found: Vec<FailedDelivery>,
    /// Whether a limit ended the search.
    pub(super) is_cut: bool,
}

impl Failures {
    /// Groups the newest [`FAILED_MAX`] of these deliveries.
    pub(super) fn of(deliveries: FailedDeliveries) -> Self {
        let FailedDeliveries { mut found, is_cut } = deliveries;
        found.sort_by_key(|delivery| std::cmp::Reverse(delivery.ended_at));
        let is_exact = !is_cut && found.len() <= FAILED_MAX;
        found.truncate(FAILED_MAX);
        let mut causes: Vec<FailureCause> = Vec::new();
        let mut positions: HashMap<(Status, String), usize> = HashMap::new();
        for delivery in found {
            let position = *positions
                .entry((delivery.status, delivery.answer.clone()))
                .or_insert(causes.len());
            match causes.get_mut(position) {
                Some(cause) => {
                    cause.deliveries += 1;
                    cause.first_at = delivery.ended_at;
                }
                None => causes.push(FailureCause {
                    answer: delivery.answer,
                    status: delivery.status,
                    deliveries: 1,
                    first_at: delivery.ended_at,
                    latest_at: delivery.ended_at,
                    example_webhook_id: delivery.webhook_id,
                }),
            }
        }
        // Stable: of equally many, the one with the latest attempt comes first.
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.deliveries));
        Self { causes, is_exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: Status, answer: &str, second: i64) -> FailedDelivery {
        FailedDelivery {
            status,
            answer: answer.into(),
            ended_at: Timestamp::from_second(second).unwrap(),
            webhook_id: format!("wh_{second}"),
        }
    }

    #[test]
    fn deliveries_are_grouped_by_status_and_by_exact_answer() {
        let failures = Failures::of(FailedDeliveries {
            found: vec![
                failed(Status::Dead, "HTTP 500", 1),
                failed(Status::Waiting, "HTTP 500", 2),
                failed(Status::Dead, "HTTP 500", 3),
                failed(Status::Dead, "HTTP 501", 4),
            ],
            is_cut: false,
        });
        let causes: Vec<_> = failures
            .causes
            .iter()
            .map(|cause| (cause.status, &*cause.answer, cause.deliveries))
            .collect();
        assert_eq!(
            causes,
            [
                (Status::Dead, "HTTP 500", 2),
                (Status::Dead, "HTTP 501", 1),
                (Status::Waiting, "HTTP 500", 1),
            ]
        );
        let first = &failures.causes[0];
        assert_eq!(first.first_at.as_second(), 1);
        assert_eq!(first.latest_at.as_second(), 3);
        assert_eq!(first.example_webhook_id, "wh_3");
        assert!(failures.is_exact);
    }

    #[test]
    fn the_newest_deliveries_count_and_the_rest_does_not() {
        let found = (0..).take(FAILED_MAX + 1);
        let failures = Failures::of(FailedDeliveries {
            found: found
                .map(|second| failed(Status::Dead, "HTTP 500", second))
                .collect(),
            is_cut: false,
        });
        assert_eq!(failures.causes[0].deliveries, FAILED_MAX as u64);
        assert_eq!(failures.causes[0].first_at.as_second(), 1);
        assert!(!failures.is_exact);
    }
}
