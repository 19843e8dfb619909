//! Which alerts are due: a pure function of the events and of the time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::alert::Alert;
use super::switch::{Switch, TELL_EVERY, Told};
use crate::delivery::breaker::CircuitChange;
use crate::delivery::{EXPIRED, Next};
use crate::pipeline_events::PipelineEvent;
use crate::route::{ALERT_PREFIX, AlertType};

/// Number of requests in a row that could not be verified, after which an endpoint is failing. A
/// scanner of the internet sends fewer, and OpenAI with a new secret sends more.
const FAILURES_IN_A_ROW: u64 = 10;
/// Subject of the alerts about the store.
const STORE: &str = "store";

/// The time of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) monotonic: Instant,
}

/// State of each subject. It grows with the configuration, not with traffic.
#[derive(Debug, Default)]
pub(super) struct State {
    destinations: BTreeMap<String, Destination>,
    endpoints: BTreeMap<String, Endpoint>,
    store: Switch,
    /// Number of causes for which the store refuses. The end of one may be reported before its
    /// begin, so it may be negative for a moment.
    store_causes: i64,
}

#[derive(Debug, Default)]
struct Destination {
    down: Switch,
    dead: Dead,
}

/// Dead letters that no alert has told yet.
#[derive(Debug, Default)]
struct Dead {
    count: u64,
    since: Option<Timestamp>,
    reason: Option<String>,
    told_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Endpoint {
    failures_in_a_row: u64,
    failing: Switch,
    silent: Switch,
    silence: Option<Silence>,
}

#[derive(Debug)]
struct Silence {
    after: Duration,
    last: Now,
}

impl State {
    /// Whether [`observe`](Self::observe) does anything with such an event.
    pub(super) fn cares_about(event: &PipelineEvent) -> bool {
        match event {
            PipelineEvent::AttemptEnded { next, .. } => *next == Next::Dead,
            // A request that broke off is no failed verification.
            PipelineEvent::Refused { status, code, .. } => {
                matches!(status, 400 | 401) && *code != "incomplete"
            }
            PipelineEvent::Verified { .. }
            | PipelineEvent::Expired { .. }
            | PipelineEvent::CircuitChanged { .. }
            | PipelineEvent::StoreRefusing { .. }
            | PipelineEvent::StoreRecovered { .. } => true,
            _ => false,
        }
    }

    /// Records an event. Returns whether an alert may be due.
    pub(super) fn observe(&mut self, event: &PipelineEvent, now: Now) -> bool {
        match event {
            PipelineEvent::CircuitChanged {
                destination,
                change,
                answer,
            } => {
                let is_down = match change {
                    CircuitChange::Opens | CircuitChange::Reopens => true,
                    CircuitChange::Closes => false,
                    CircuitChange::Fails | CircuitChange::Stays => return false,
                };
                let down = &mut self.destination(destination).down;
                if answer.is_none() {
                    down.adopt(is_down, now);
                    return false;
                }
                down.set(is_down, answer.as_deref(), now)
            }
            PipelineEvent::AttemptEnded {
                event_type,
                destination,
                answer,
                next: Next::Dead,
                ..
            } => self.died(event_type, destination, answer, now),
            PipelineEvent::Expired {
                event_type,
                destination,
                ..
            } => self.died(event_type, destination, EXPIRED, now),
            PipelineEvent::StoreRefusing { reason } => {
                self.store_causes += 1;
                self.store_causes > 0 && self.store.set(true, Some(reason), now)
            }
            PipelineEvent::StoreRecovered { reason } => {
                self.store_causes -= 1;
                self.store_causes <= 0 && self.store.set(false, Some(reason), now)
            }
            PipelineEvent::Refused {
                endpoint: Some(endpoint),
                reason,
                ..
            } => {
                let endpoint = self.endpoint(endpoint);
                endpoint.failures_in_a_row += 1;
                endpoint.failures_in_a_row >= FAILURES_IN_A_ROW
                    && endpoint.failing.set(true, Some(reason), now)
            }
            PipelineEvent::Verified { endpoint, .. } => {
                let endpoint = self.endpoint(endpoint);
                endpoint.failures_in_a_row = 0;
                endpoint.failing.end_untold();
                endpoint.silent.end_untold();
                if let Some(silence) = &mut endpoint.silence {
                    silence.last = now;
                }
                false
            }
            _ => false,
        }
    }

    fn died(&mut self, event_type: &str, destination: &str, reason: &str, now: Now) -> bool {
        // A dead letter of an alert makes no alert.
        if event_type.starts_with(ALERT_PREFIX) {
            return false;
        }
        let dead = &mut self.destination(destination).dead;
        dead.count += 1;
        dead.since.get_or_insert(now.wall);
        dead.reason = Some(reason.to_owned());
        dead.count == 1
    }

    pub(super) fn set_silence(
        &mut self,
        endpoints: impl IntoIterator<Item = (String, Duration)>,
        now: Now,
    ) {
        let mut after: BTreeMap<String, Duration> = endpoints.into_iter().collect();
        for (name, endpoint) in &mut self.endpoints {
            endpoint.silence = after.remove(name).map(|after| Silence {
                after,
                last: endpoint
                    .silence
                    .as_ref()
                    .map_or(now, |silence| silence.last),
            });
            if endpoint.silence.is_none() {
                endpoint.silent.end_untold();
            }
        }
        for (name, after) in after {
            self.endpoint(&name).silence = Some(Silence { after, last: now });
        }
    }

    /// Compares with the destinations as they are: a reload replaces one that is down without an
    /// event, and events of two lanes may come in another order than their changes.
    pub(super) fn sync(&mut self, is_down: &BTreeMap<String, bool>, now: Now) {
        self.destinations
            .retain(|name, _| is_down.contains_key(name));
        for (name, destination) in &mut self.destinations {
            if is_down.get(name) == Some(&false) {
                destination.down.set(false, None, now);
            }
        }
    }

    /// The alerts to send now.
    pub(super) fn take_due(&mut self, now: Now) -> Vec<Alert> {
        let mut due = Vec::new();
        let mut add = |subject: &str, told: Option<Told>, types: [Option<AlertType>; 2], count| {
            if let Some(told) = told
                && let Some(kind) = types[usize::from(told.is_bad)]
            {
                due.push(Alert {
                    kind,
                    subject: subject.to_owned(),
                    since: told.since,
                    count,
                    reason: told.reason,
                });
            }
        };
        let types = [
            Some(AlertType::StoreAccepting),
            Some(AlertType::StoreRefusing),
        ];
        add(STORE, self.store.take_due(now), types, None);
        for (name, destination) in &mut self.destinations {
            let types = [
                Some(AlertType::DestinationUp),
                Some(AlertType::DestinationDown),
            ];
            add(name, destination.down.take_due(now), types, None);
        }
        for (name, endpoint) in &mut self.endpoints {
            let failures = Some(endpoint.failures_in_a_row);
            let types = [None, Some(AlertType::EndpointFailing)];
            add(name, endpoint.failing.take_due(now), types, failures);
            if let Some(silence) = &endpoint.silence
                && now
                    .monotonic
                    .saturating_duration_since(silence.last.monotonic)
                    >= silence.after
            {
                endpoint.silent.set(true, None, silence.last);
            }
            let types = [None, Some(AlertType::EndpointSilent)];
            add(name, endpoint.silent.take_due(now), types, None);
        }
        for (name, destination) in &mut self.destinations {
            due.extend(destination.dead.take_due(name, now));
        }
        due
    }

    /// Makes each change due that waits for its hour: the gateway stops, and could not tell it later.
    pub(super) fn end_waits(&mut self) {
        self.store.end_wait();
        for destination in self.destinations.values_mut() {
            destination.down.end_wait();
            destination.dead.told_at = None;
        }
        for endpoint in self.endpoints.values_mut() {
            endpoint.failing.end_wait();
            endpoint.silent.end_wait();
        }
    }

    /// The time at which the next alert is due, if nothing else happens.
    pub(super) fn next_due(&self, now: Now) -> Option<Instant> {
        let destinations = self.destinations.values();
        let of_destinations =
            destinations.flat_map(|it| [it.down.due_at(now), it.dead.due_at(now)]);
        let of_endpoints = self.endpoints.values().flat_map(|it| {
            let silent_at = it
                .silence
                .as_ref()
                .filter(|_| !it.silent.is_bad())
                .map(|silence| silence.last.monotonic + silence.after);
            [it.failing.due_at(now), it.silent.due_at(now), silent_at]
        });
        let all = of_destinations
            .chain(of_endpoints)
            .chain([self.store.due_at(now)]);
        all.flatten().min()
    }

    fn destination(&mut self, name: &str) -> &mut Destination {
        entry(&mut self.destinations, name)
    }

    fn endpoint(&mut self, name: &str) -> &mut Endpoint {
        entry(&mut self.endpoints, name)
    }
}

/// The value of this name, which is copied only the first time.
fn entry<'m, T: Default>(map: &'m mut BTreeMap<String, T>, name: &str) -> &'m mut T {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), T::default());
    }
    map.get_mut(name)
        .unwrap_or_else(|| unreachable!("it was inserted above"))
}

impl Dead {
    fn take_due(&mut self, destination: &str, now: Now) -> Option<Alert> {
        if self.due_at(now)? > now.monotonic {
            return None;
        }
        self.told_at = Some(now.monotonic);
        Some(Alert {
            kind: AlertType::DeliveryDead,
            subject: destination.to_owned(),
            since: self.since.take().unwrap_or(now.wall),
            count: Some(std::mem::take(&mut self.count)),
            reason: self.reason.take(),
        })
    }

    fn due_at(&self, now: Now) -> Option<Instant> {
        let at = self.told_at.map(|told_at| told_at + TELL_EVERY);
        (self.count > 0).then_some(at.unwrap_or(now.monotonic))
    }
}

#[cfg(test)]
mod tests;
