//! An endpoint: its verifier, and what it has received lately. Of this process, in memory.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use openai_webhooks::Webhooks;

/// Number of the latest webhooks whose times show the difference of the clocks. OpenAI's times are
/// whole seconds, so one webhook shows it within a second, and many do much better.
const ARRIVALS_MAX: usize = 32;
/// Maximum age of these. A clock is corrected meanwhile, and a quiet endpoint must not show its old
/// error for days.
const ARRIVAL_AGE_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Number of digits of a fingerprint that is shown: enough to tell some secrets apart.
const FINGERPRINT_DIGITS: usize = 8;
/// A secret that verified nothing yet.
const NEVER: i64 = i64::MIN;

/// An endpoint. Its record survives a reload.
#[derive(Debug)]
pub struct Endpoint {
    webhooks: Webhooks,
    /// The secrets, in the order of the verifier.
    secrets: Vec<Secret>,
    latest: Arc<Mutex<Latest>>,
}

#[derive(Debug)]
struct Secret {
    fingerprint: String,
    used_at_ms: Arc<AtomicI64>,
}

#[derive(Debug, Default)]
struct Latest {
    received_at: Option<Timestamp>,
    lateness: Option<SignedDuration>,
    /// Arrivals of the latest webhooks, each with the time since its `webhook-timestamp`.
    arrivals: Vec<(Timestamp, SignedDuration)>,
    /// Place of the next one of these.
    next: usize,
}

/// The times of a verified webhook.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// `created_at` of its event.
    pub(crate) created_at: Option<Timestamp>,
    /// Its `webhook-timestamp`.
    pub(crate) sent_at: Timestamp,
    /// Its arrival.
    pub(crate) received_at: Timestamp,
    /// Whether the wall clock showed the arrival. Otherwise it shows no difference of the clocks.
    pub(crate) is_wall: bool,
    /// Index of the secret that verified it.
    pub(crate) secret: Option<u32>,
}

/// Record of the latest webhooks of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointRecord {
    /// Arrival of the latest verified webhook.
    pub(crate) received_at: Option<Timestamp>,
    /// Time from the creation of its event at OpenAI to its arrival.
    pub(crate) lateness: Option<SignedDuration>,
    /// Shortest time from a `webhook-timestamp` to the arrival, of the latest webhooks within an hour.
    pub(crate) shortest_arrival: Option<SignedDuration>,
    /// The fingerprint of each secret, and the time at which it last verified a webhook.
    pub(crate) secrets: Vec<(String, Option<Timestamp>)>,
}

impl Endpoint {
    /// An endpoint that has received nothing.
    #[must_use]
    pub fn new(webhooks: Webhooks) -> Self {
        Self::with_record(webhooks, &[], Arc::default())
    }

    /// The endpoint with another verifier, and with its record. A secret that stays keeps the time
    /// of its last use.
    #[must_use]
    pub fn reconfigured(&self, webhooks: Webhooks) -> Self {
        Self::with_record(webhooks, &self.secrets, Arc::clone(&self.latest))
    }

    fn with_record(webhooks: Webhooks, known: &[Secret], latest: Arc<Mutex<Latest>>) -> Self {
        let secret = |fingerprint: String| {
            let mut known = known.iter();
            let known = known.find(|secret| secret.fingerprint == fingerprint);
            Secret {
                used_at_ms: match known {
                    Some(secret) => Arc::clone(&secret.used_at_ms),
                    None => Arc::new(AtomicI64::new(NEVER)),
                },
                fingerprint,
            }
        };
        Self {
            secrets: webhooks.fingerprints().into_iter().map(secret).collect(),
            webhooks,
            latest,
        }
    }

    /// The verifier of its requests.
    #[must_use]
    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// Number of its secrets.
    pub(crate) fn secrets(&self) -> usize {
        self.secrets.len()
    }

    /// Records a verified webhook. Takes about 10 ns; it runs for every webhook.
    pub(crate) fn record(&self, arrival: Arrival) {
        let index = arrival.secret.and_then(|index| usize::try_from(index).ok());
        if let Some(secret) = index.and_then(|index| self.secrets.get(index)) {
            let at_ms = arrival.received_at.as_millisecond();
            secret.used_at_ms.fetch_max(at_ms, Ordering::Relaxed);
        }
        let mut latest = self.latest();
        latest.received_at = latest.received_at.max(Some(arrival.received_at));
        latest.lateness = arrival
            .created_at
            .map(|created_at| arrival.received_at.duration_since(created_at));
        if arrival.is_wall {
            let took = arrival.received_at.duration_since(arrival.sent_at);
            latest.add((arrival.received_at, took));
        }
    }

    /// Records the arrival of a stored message, unless a later one is known.
    pub(crate) fn record_stored(&self, received_at: Timestamp) {
        let mut latest = self.latest();
        latest.received_at = latest.received_at.max(Some(received_at));
    }

    /// Record of its latest webhooks, as of `now`.
    pub(crate) fn read_record(&self, now: Timestamp) -> EndpointRecord {
        let latest = self.latest();
        // An arrival in the future is one from before a correction.
        let is_recent = |at: Timestamp| now.duration_since(at).abs() <= ARRIVAL_AGE_MAX;
        let recent = latest.arrivals.iter().filter(|(at, _)| is_recent(*at));
        let secrets = self.secrets.iter().map(|secret| {
            let used_at_ms = secret.used_at_ms.load(Ordering::Relaxed);
            let used_at = Timestamp::from_millisecond(used_at_ms).ok();
            let digits = secret.fingerprint.chars().take(FINGERPRINT_DIGITS);
            (digits.collect(), used_at)
        });
        EndpointRecord {
            received_at: latest.received_at,
            lateness: latest.lateness,
            shortest_arrival: recent.map(|(_, took)| *took).min(),
            secrets: secrets.collect(),
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    fn add(&mut self, arrival: (Timestamp, SignedDuration)) {
        if self.arrivals.len() < ARRIVALS_MAX {
            self.arrivals.push(arrival);
        } else {
            self.arrivals[self.next] = arrival;
            self.next = (self.next + 1) % ARRIVALS_MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "a first secret of 24 bytes";
    const OTHER: &str = "another secret of 24 bytes";

    fn webhooks(secrets: &[&str]) -> Webhooks {
        let secrets = secrets
            .iter()
            .map(|text| openai_webhooks::Secret::parse(text).unwrap());
        secrets.collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn arrival(received_at: Timestamp, secret: u32) -> Arrival {
        Arrival {
            created_at: None,
            sent_at: received_at,
            received_at,
            is_wall: true,
            secret: Some(secret),
        }
    }

    #[test]
    fn a_secret_that_stays_keeps_its_last_use_at_any_place() {
        let endpoint = Endpoint::new(webhooks(&[FIRST, OTHER]));
        endpoint.record(arrival(at(100), 1));
        let other = endpoint.read_record(at(100)).secrets[1].clone();
        assert_eq!(other.1, Some(at(100)));
        assert_eq!(other.0.len(), FINGERPRINT_DIGITS);
        let endpoint = endpoint.reconfigured(webhooks(&[OTHER, "a new secret of 24 bytes.."]));
        let record = endpoint.read_record(at(100));
        assert_eq!(record.secrets[0], other);
        assert_eq!(record.secrets[1].1, None);
        assert_eq!(record.received_at, Some(at(100)));
    }

    #[test]
    fn the_difference_of_the_clocks_is_that_of_the_quickest_of_the_latest_webhooks() {
        let endpoint = Endpoint::new(webhooks(&[FIRST]));
        let record = |arrival_ms: i64| {
            let received_at = at(100) + SignedDuration::from_millis(arrival_ms);
            endpoint.record(Arrival {
                created_at: Some(at(90)),
                sent_at: at(100),
                ..arrival(received_at, 0)
            });
            endpoint.read_record(received_at)
        };
        let shortest = |record: EndpointRecord| record.shortest_arrival.unwrap().as_millis();
        assert_eq!(shortest(record(-40)), -40);
        let late = record(900);
        assert_eq!(late.lateness, Some(SignedDuration::from_millis(10_900)));
        assert_eq!(shortest(late), -40);
        for _ in 0..ARRIVALS_MAX {
            record(300);
        }
        assert_eq!(shortest(record(300)), 300);
    }

    /// A quiet endpoint would show the error of a clock for days after its correction.
    #[test]
    fn an_arrival_of_more_than_an_hour_ago_shows_no_difference_of_the_clocks() {
        let endpoint = Endpoint::new(webhooks(&[FIRST]));
        endpoint.record(Arrival {
            sent_at: at(10_000),
            ..arrival(at(10_030), 0)
        });
        let shortest = |now| endpoint.read_record(now).shortest_arrival;
        let ahead = Some(SignedDuration::from_secs(30));
        assert_eq!(shortest(at(10_030 + 3600)), ahead);
        assert_eq!(shortest(at(10_030 - 3600)), ahead);
        assert_eq!(shortest(at(10_030 + 3601)), None);
        assert_eq!(shortest(at(10_030 - 3601)), None);
        // The times of the webhook itself do not change.
        let record = endpoint.read_record(at(100_000));
        assert_eq!(record.received_at, Some(at(10_030)));
    }

    #[test]
    fn a_stored_message_counts_unless_a_later_one_is_known() {
        let endpoint = Endpoint::new(webhooks(&[FIRST]));
        endpoint.record_stored(at(50));
        let received_at = || endpoint.read_record(at(100)).received_at;
        assert_eq!(received_at(), Some(at(50)));
        endpoint.record(arrival(at(100), 0));
        endpoint.record_stored(at(60));
        assert_eq!(received_at(), Some(at(100)));
    }
}
