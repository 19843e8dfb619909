//! The state machine of a delivery, which is one message for one destination: the outcome of an
//! attempt, and the next step. Pure: the time and the randomness are arguments.

pub mod breaker;
pub mod limit_share;
pub mod limits;
pub mod rate_limiter;
pub mod response_excerpt;
pub mod retry;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::message::Message;
use response_excerpt::ResponseExcerpt;
use retry::RetryPolicy;

/// Answer of a delivery that expired before an attempt was begun.
pub const EXPIRED: &str = "expired before it could be delivered";

/// Priority of a delivery. Each lane has its own workers, so that a backlog does not delay calls.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Someone is on the phone: only a delivery within seconds is useful.
    Call,
    /// Everything else: a late delivery is useful too.
    Standard,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 2] = [Self::Call, Self::Standard];

    /// The lane of an event of this type.
    #[must_use]
    pub fn of(event_type: Option<&str>) -> Self {
        match event_type {
            Some("realtime.call.incoming") => Self::Call,
            Some(event_type) if event_type.starts_with("live.") => Self::Call,
            _ => Self::Standard,
        }
    }

    /// The lane with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == name)
    }

    /// Name in the store and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Standard => "standard",
        }
    }
}

/// A delivery that is leased to this process until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The id of the delivery in the store.
    pub id: i64,
    /// Name of the destination.
    pub destination: String,
    /// Priority of the delivery.
    pub lane: Lane,
    /// Number of the attempt, from 1. It fences the settlement: after another claim, a settlement
    /// of this attempt has no effect. A claim that is released without an attempt also returns the
    /// number.
    pub attempt: u32,
    /// Number of the claim. No other claim of this delivery by the same process has it.
    pub claim: i64,
    /// Number of earlier attempts that count neither for the back-off nor for giving up: attempts
    /// before a replay, and attempts of unknown outcome, because a gateway died during them.
    pub uncounted_attempts: u32,
    /// Time at which it was first due, or replayed: the deadline counts from here.
    pub since: Timestamp,
    /// The message to deliver.
    pub message: Message,
}

impl Delivery {
    /// The first attempt to deliver a message that no store has.
    #[must_use]
    pub fn unstored(destination: impl Into<String>, message: Message) -> Self {
        Self {
            id: 0,
            destination: destination.into(),
            lane: Lane::of(message.event_type.as_deref()),
            attempt: 1,
            claim: 0,
            uncounted_attempts: 0,
            since: message.received_at,
            message,
        }
    }

    /// Whether the delivery is too late to be useful: a call that rang three hours ago must not
    /// ring now. Other events never expire here. `age` is the time since the delivery was first due
    /// or replayed, measured so that a clock that jumps does not change it.
    #[must_use]
    pub fn is_expired(&self, policy: &RetryPolicy, age: Duration) -> bool {
        self.lane == Lane::Call && age > policy.give_up_after
    }
}

/// The outcome of an attempt. An expected failure is data, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has accepted the message (a 2xx).
    Delivered {
        /// Summary of the response, for people.
        answer: String,
        /// HTTP status of the response, if it is one of HTTP.
        status: Option<u16>,
        /// An excerpt of the response.
        said: ResponseExcerpt,
    },
    /// The destination did not accept the message. The delivery is retried.
    Failed {
        /// The cause, for people.
        answer: String,
        /// HTTP status of the response, if there was one of HTTP.
        status: Option<u16>,
        /// The wait that the destination requested.
        retry_after: Option<Duration>,
        /// An excerpt of the response.
        said: ResponseExcerpt,
    },
    /// The destination will never accept the message (a 410), so the delivery is given up.
    Refused {
        /// Summary of the response, for people.
        answer: String,
        /// HTTP status of the response, if it is one of HTTP.
        status: Option<u16>,
        /// An excerpt of the response.
        said: ResponseExcerpt,
    },
}

impl Outcome {
    /// A failure with only a cause.
    #[must_use]
    pub fn failed(answer: impl Into<String>) -> Self {
        Self::Failed {
            answer: answer.into(),
            status: None,
            retry_after: None,
            said: ResponseExcerpt::default(),
        }
    }

    /// Summary of the response, or the cause of the failure, for people.
    #[must_use]
    pub fn answer(&self) -> &str {
        match self {
            Self::Delivered { answer, .. }
            | Self::Failed { answer, .. }
            | Self::Refused { answer, .. } => answer,
        }
    }

    /// HTTP status of the response, if there was one of HTTP.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Delivered { status, .. }
            | Self::Failed { status, .. }
            | Self::Refused { status, .. } => *status,
        }
    }

    /// An excerpt of the response. It must not be logged.
    #[must_use]
    pub fn said(&self) -> &ResponseExcerpt {
        match self {
            Self::Delivered { said, .. }
            | Self::Failed { said, .. }
            | Self::Refused { said, .. } => said,
        }
    }
}

/// The next step of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The message is delivered.
    Delivered,
    /// The delivery is retried.
    Retry {
        /// Due time of the next attempt.
        due_at: Timestamp,
    },
    /// The delivery is given up: it becomes a dead letter, stored and visible.
    Dead,
}

impl Next {
    /// The names of all variants, as [`as_str`](Self::as_str) returns them.
    pub const NAMES: [&'static str; 3] = ["delivered", "retry", "dead"];

    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry { .. } => "retry",
            Self::Dead => "dead",
        }
    }

    /// The next step after `outcome`. `age` is the time since the delivery was first due or
    /// replayed; it cannot be computed from `now`, because the clock may have jumped. `random` is
    /// uniform from 0 to 1.
    #[must_use]
    pub fn after(
        outcome: &Outcome,
        delivery: &Delivery,
        policy: &RetryPolicy,
        now: Timestamp,
        age: Duration,
        random: f64,
    ) -> Self {
        let retry_after = match outcome {
            Outcome::Delivered { .. } => return Self::Delivered,
            Outcome::Refused { .. } => return Self::Dead,
            Outcome::Failed { retry_after, .. } => *retry_after,
        };
        let attempt = delivery.attempt.saturating_sub(delivery.uncounted_attempts);
        if policy.attempts_max.is_some_and(|max| attempt >= max) {
            return Self::Dead;
        }
        let left = policy.give_up_after.saturating_sub(age);
        if left.is_zero() {
            return Self::Dead;
        }
        // The last attempt is at the deadline, even if the back-off is longer.
        let wait = policy.delay(attempt, retry_after, random).min(left);
        Self::Retry {
            due_at: later(now, wait),
        }
    }
}

/// `time` plus `delay`, or the last representable moment if that is earlier.
#[must_use]
pub fn later(time: Timestamp, delay: Duration) -> Timestamp {
    SignedDuration::try_from(delay)
        .ok()
        .and_then(|delay| time.checked_add(delay).ok())
        .unwrap_or(Timestamp::MAX)
}

/// `time` minus `delay`, or the first representable moment if that is later.
#[must_use]
pub fn earlier(time: Timestamp, delay: Duration) -> Timestamp {
    SignedDuration::try_from(delay)
        .ok()
        .and_then(|delay| time.checked_sub(delay).ok())
        .unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Origin;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn delivery(attempt: u32) -> Delivery {
        let message = Message {
            origin: Origin::OpenAi,
            endpoint: "production".into(),
            webhook_id: "wh_1".into(),
            event_type: None,
            sent_at: Timestamp::UNIX_EPOCH,
            received_at: Timestamp::UNIX_EPOCH,
            secret: None,
            payload: Bytes::new(),
        };
        Delivery {
            attempt,
            ..Delivery::unstored("app", message)
        }
    }

    fn failed(retry_after: Option<Duration>) -> Outcome {
        Outcome::Failed {
            answer: "500".into(),
            status: Some(500),
            retry_after,
            said: ResponseExcerpt::default(),
        }
    }

    #[test]
    fn a_refusal_is_final_at_once() {
        let refused = Outcome::Refused {
            answer: "410".into(),
            status: Some(410),
            said: ResponseExcerpt::default(),
        };
        let next = Next::after(
            &refused,
            &delivery(1),
            &RetryPolicy::default(),
            Timestamp::UNIX_EPOCH,
            Duration::ZERO,
            0.5,
        );
        assert_eq!(next, Next::Dead);
    }

    #[test]
    fn a_call_that_is_to_come_later_is_tried_again_while_the_caller_waits() {
        let policy = RetryPolicy::call();
        let later_please = failed(Some(Duration::from_secs(10)));
        let at = |milliseconds| later(Timestamp::UNIX_EPOCH, Duration::from_millis(milliseconds));
        let next = |milliseconds| {
            let age = Duration::from_millis(milliseconds);
            let now = at(milliseconds);
            Next::after(&later_please, &delivery(1), &policy, now, age, 0.5)
        };
        assert_eq!(next(0), Next::Retry { due_at: at(1_000) });
        assert_eq!(next(9_500), Next::Retry { due_at: at(10_000) });
        assert_eq!(next(10_000), Next::Dead);
    }

    #[test]
    fn a_clock_that_has_jumped_gives_up_nothing_and_does_not_shorten_the_wait() {
        let policy = RetryPolicy::default();
        let days_ahead = later(Timestamp::UNIX_EPOCH, Duration::from_secs(400 * 24 * 3600));
        let age = Duration::from_millis(100);
        let next = Next::after(&failed(None), &delivery(3), &policy, days_ahead, age, 1.0);
        let due_at = later(days_ahead, Duration::from_secs(4));
        assert_eq!(next, Next::Retry { due_at });
    }

    #[test]
    fn a_replayed_delivery_is_retried_as_quickly_as_a_new_one() {
        let mut delivery = delivery(21);
        let wait = |delivery: &Delivery| {
            let now = Timestamp::UNIX_EPOCH;
            let policy = RetryPolicy::default();
            Next::after(&failed(None), delivery, &policy, now, Duration::ZERO, 1.0)
        };
        let after = |seconds| Next::Retry {
            due_at: later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds)),
        };
        assert_eq!(wait(&delivery), after(3600));
        delivery.uncounted_attempts = 20;
        assert_eq!(wait(&delivery), after(1));
    }

    #[test]
    fn calls_have_the_call_lane_and_other_types_the_standard_lane() {
        for urgent in [
            "realtime.call.incoming",
            "live.call.incoming",
            "live.transport.incoming",
        ] {
            assert_eq!(Lane::of(Some(urgent)), Lane::Call, "{urgent}");
        }
        for patient in ["response.completed", "realtime.session.ended", "lively", ""] {
            assert_eq!(Lane::of(Some(patient)), Lane::Standard, "{patient}");
        }
        assert_eq!(Lane::of(None), Lane::Standard);
    }

    #[test]
    fn a_call_expires_and_no_other_delivery_does() {
        let policy = RetryPolicy::call();
        let mut delivery = delivery(1);
        assert!(!delivery.is_expired(&policy, Duration::from_secs(1_000_000)));
        delivery.lane = Lane::Call;
        assert!(!delivery.is_expired(&policy, Duration::from_secs(10)));
        assert!(delivery.is_expired(&policy, Duration::from_secs(11)));
    }

    proptest! {
        #[test]
        fn a_retry_lies_ahead_and_before_the_deadline(attempt in 1u32.., waited in 0u64..400_000, retry_after in proptest::option::of(0u64..1_000_000), random in 0f64..1.0) {
            let policy = RetryPolicy::default();
            let now = later(Timestamp::UNIX_EPOCH, Duration::from_secs(waited));
            let outcome = failed(retry_after.map(Duration::from_secs));
            let age = Duration::from_secs(waited);
            match Next::after(&outcome, &delivery(attempt), &policy, now, age, random) {
                Next::Retry { due_at } => {
                    prop_assert!(due_at >= now);
                    prop_assert!(due_at <= later(Timestamp::UNIX_EPOCH, policy.give_up_after));
                }
                Next::Dead => prop_assert!(waited >= policy.give_up_after.as_secs()),
                Next::Delivered => prop_assert!(false, "a failure never delivers"),
            }
        }

        #[test]
        fn every_delivery_that_keeps_failing_ends(random in 0f64..1.0) {
            let policy = RetryPolicy::default();
            let mut now = Timestamp::UNIX_EPOCH;
            let mut attempt = 0;
            loop {
                attempt += 1;
                // Even without jitter, an attempt takes some time.
                now = later(now, Duration::from_millis(100));
                let age = Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap();
                match Next::after(&failed(None), &delivery(attempt), &policy, now, age, random) {
                    Next::Retry { due_at } => now = due_at,
                    _ => break,
                }
                prop_assert!(attempt < 3_000_000);
            }
        }
    }
}
