//! Webhooks: events, their deliveries to endpoints, and retries as OpenAI makes them
//! ([guide](https://developers.openai.com/api/docs/guides/webhooks)).
//!
//! OpenAI documents 72 hours of retries with exponential backoff, that a redirect is a failure, and
//! that duplicates happen. The delays themselves are not documented; those here are a choice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Moment;
use crate::engine::Engine;
use crate::ids;
use crate::project::Project;
use crate::report::Report;
use crate::webhook_endpoints::Endpoint;

/// Time for which a webhook is retried.
const RETRY_FOR: Duration = Duration::from_secs(72 * 60 * 60);
/// Delay before the first retry. Each further delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Longest delay.
const DELAY_MAX: Duration = Duration::from_secs(8 * 60 * 60);
/// Most that chance adds to a delay, in percent.
const JITTER_PERCENT: u32 = 10;
/// Delay before a duplicate.
const DUPLICATE_AFTER: Duration = Duration::from_secs(30);
/// Most characters of a resource: one from a control route is of any length.
const RESOURCE_MAX: usize = 256;
/// The status that ends the retries of events about safety, by OpenAI's specification.
const GONE: u16 = 410;

/// A webhook for one endpoint.
pub(crate) struct Delivery {
    webhook_id: String,
    endpoint_id: String,
    event: Arc<Event>,
    /// Time of the first attempt.
    first: Moment,
    attempts: Vec<Attempt>,
    state: State,
}

struct Event {
    id: String,
    kind: String,
    resource: String,
    payload: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// An attempt is planned at this time, or under way.
    Pending(Moment),
    Delivered,
    /// A duplicate is planned.
    Duplicating,
    GivenUp,
    /// The endpoint was deleted.
    Dropped,
}

struct Attempt {
    at: Moment,
    answer: Result<u16, String>,
}

/// An attempt that is due.
pub(crate) struct DueAttempt {
    webhook_id: String,
    at: Moment,
}

impl Project {
    /// Makes an event, and plans its delivery to each endpoint that wants it. `data` is JSON.
    pub(crate) fn emit(&mut self, kind: &str, resource: &str, data: &str) -> String {
        let id = ids::new("evt_");
        let created_at = self.now.seconds();
        let payload = format!(
            r#"{{"id": "{id}", "object": "event", "type": "{kind}", "created_at": {created_at}, "data": {data}}}"#
        );
        self.send_event(&id, kind, resource, payload);
        id
    }

    /// Makes an event whose `data` is the id of its resource.
    pub(crate) fn emit_thin(&mut self, kind: &str, resource: &str) {
        self.emit(kind, resource, &format!(r#"{{"id": "{resource}"}}"#));
    }

    /// Plans the delivery of an event to each endpoint that wants it.
    pub(crate) fn send_event(&mut self, id: &str, kind: &str, resource: &str, payload: String) {
        let resource: String = resource.chars().take(RESOURCE_MAX).collect();
        let event = Arc::new(Event {
            id: id.into(),
            kind: kind.into(),
            resource: resource.clone(),
            payload,
        });
        let wanting: Vec<String> = self
            .endpoints
            .oldest_first()
            .filter(|(_, endpoint)| endpoint.wants(kind))
            .map(|(id, _)| id.to_owned())
            .collect();
        self.report(Report::Event {
            at: self.now.seconds(),
            event_id: id.into(),
            r#type: kind.into(),
            resource,
            endpoints: wanting.len(),
        });
        for endpoint_id in wanting {
            let webhook_id = ids::webhook(self.now);
            let delivery = Delivery {
                webhook_id: webhook_id.clone(),
                endpoint_id,
                event: Arc::clone(&event),
                first: self.now,
                attempts: Vec::new(),
                state: State::Pending(self.now),
            };
            let bytes = event.payload.len() + size_of::<Delivery>();
            let forgotten = self.deliveries.insert(webhook_id.clone(), bytes, delivery);
            self.cancel_steps(&forgotten);
            self.plan(self.now, &webhook_id, attempt_is_due);
        }
    }

    /// Records the answer to an attempt, and plans the next one.
    fn settle(&mut self, due: &DueAttempt, answer: Result<u16, String>, took: Duration) {
        let duplicate_every = self.settings.duplicate_every;
        let Some(delivery) = self.deliveries.get_mut(&due.webhook_id) else {
            return;
        };
        let is_duplicate = delivery.state == State::Duplicating;
        let is_accepted = matches!(answer, Ok(200..300));
        let is_gone = answer == Ok(GONE) && delivery.event.kind.starts_with("safety.");
        let status = answer.as_ref().ok().copied();
        let problem = answer.as_ref().err().cloned();
        delivery.attempts.push(Attempt { at: due.at, answer });
        let mut next = None;
        delivery.state = if is_duplicate {
            State::Delivered
        } else if is_accepted {
            self.delivered += 1;
            if duplicate_every > 0 && self.delivered.is_multiple_of(duplicate_every) {
                next = Some(due.at + took + DUPLICATE_AFTER);
                State::Duplicating
            } else {
                State::Delivered
            }
        } else {
            // An attempt takes as long on the mock's clock as in real time.
            let at = due.at + took + delay_after(delivery.attempts.len());
            if is_gone || at.since(delivery.first) > RETRY_FOR {
                State::GivenUp
            } else {
                next = Some(at);
                State::Pending(at)
            }
        };
        let report = Report::Attempt {
            at: due.at.seconds(),
            webhook_id: delivery.webhook_id.clone(),
            endpoint_id: delivery.endpoint_id.clone(),
            r#type: delivery.event.kind.clone(),
            resource: delivery.event.resource.clone(),
            attempt: delivery.attempts.len(),
            is_duplicate,
            status,
            problem,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            state: delivery.state.name(),
            next_in_seconds: next.map(|next| next.since(due.at).as_secs()),
        };
        self.report(report);
        if let Some(next) = next {
            self.plan(next, &due.webhook_id, attempt_is_due);
        }
    }
}

/// The delay after so many attempts.
fn delay_after(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    let delay = FIRST_DELAY.saturating_mul(factor).min(DELAY_MAX);
    delay + delay * fastrand::u32(0..=JITTER_PERCENT) / 100
}

fn attempt_is_due(project: &mut Project, webhook_id: &str) {
    project.due.push(DueAttempt {
        webhook_id: webhook_id.into(),
        at: project.now,
    });
}

/// Sends a webhook once, and records the answer.
pub(crate) async fn make_attempt(engine: Arc<Engine>, due: DueAttempt) {
    let request = {
        let mut project = engine.project();
        let project = &mut *project;
        let Some(delivery) = project.deliveries.get_mut(&due.webhook_id) else {
            return;
        };
        let Some(endpoint) = project.endpoints.get(&delivery.endpoint_id) else {
            delivery.state = State::Dropped;
            return;
        };
        let signer = endpoint.signer(due.at);
        (endpoint.url().clone(), signer, Arc::clone(&delivery.event))
    };
    let (url, signer, event) = request;
    let started = Instant::now();
    let answer = engine
        .sender
        .send(&url, &signer, &due.webhook_id, &event.payload)
        .await;
    let took = started.elapsed();
    engine.project().settle(&due, answer, took);
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Pending(_) => "pending",
            Self::Delivered | Self::Duplicating => "delivered",
            Self::GivenUp => "given_up",
            Self::Dropped => "dropped",
        }
    }
}

impl Delivery {
    /// As the control routes show it.
    pub(crate) fn show(&self) -> Value {
        let attempts = self.attempts.iter().map(|attempt| {
            json!({
                "at": attempt.at.seconds(),
                "status": attempt.answer.as_ref().ok(),
                "problem": attempt.answer.as_ref().err(),
            })
        });
        let next = match self.state {
            State::Pending(at) => Some(at.seconds()),
            _ => None,
        };
        json!({
            "webhook_id": self.webhook_id,
            "webhook_endpoint_id": self.endpoint_id,
            "event_id": self.event.id,
            "event_type": self.event.kind,
            "resource": self.event.resource,
            "state": self.state.name(),
            "next_attempt_at": next,
            "attempts": attempts.collect::<Vec<_>>(),
        })
    }
}

/// Sends a sample to an endpoint, outside all deliveries.
pub(crate) async fn send_sample(
    engine: &Engine,
    endpoint: &Endpoint,
    payload: &str,
    now: Moment,
) -> Result<u16, String> {
    let signer = endpoint.signer(now);
    engine
        .sender
        .send(endpoint.url(), &signer, &ids::webhook(now), payload)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit() {
        let longest = |attempts| {
            let delay = delay_after(attempts);
            delay.as_secs_f64()
        };
        assert!((5.0..=5.5).contains(&longest(1)));
        assert!((10.0..=11.0).contains(&longest(2)));
        assert!((28_800.0..=31_680.0).contains(&longest(20)));
        assert!((28_800.0..=31_680.0).contains(&longest(usize::MAX)));
    }
}
