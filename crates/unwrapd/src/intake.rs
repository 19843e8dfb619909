//! The way in, between HTTP and the store: who is proven how, who wants what, and the one place that accepts a message.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use openai_webhooks::Webhooks;

use crate::clock::Clock;
use crate::delivery::Lane;
use crate::destination_state::DestinationStates;
use crate::message::Message;
use crate::observe::oddities::Oddities;
use crate::pipeline_events::{EventBus, PipelineEvent};
use crate::route::Patterns;
use crate::store::{Accepted, Recipient, Store, StoreError, TrafficKind};
use crate::wakeups::Wakeups;

/// The settings that may change while the gateway runs.
pub struct Rules {
    /// How to prove a request, by name of the endpoint.
    pub endpoints: HashMap<String, Webhooks>,
    /// Event patterns of each destination, by name.
    pub destinations: Vec<(String, Patterns)>,
    /// The dispatchers to wake for new deliveries.
    pub wakeups: Wakeups,
    /// How it goes at each destination.
    pub states: DestinationStates,
}

impl Rules {
    fn wanting(&self, event_type: Option<&str>) -> Vec<String> {
        self.destinations
            .iter()
            .filter(|(_, patterns)| patterns.want(event_type))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn open(&self, destinations: &[String]) {
        for destination in destinations {
            self.states.of(destination).opened();
        }
    }

    fn notify(&self, destinations: &[String], lane: Lane) {
        for destination in destinations {
            self.wakeups.notify(destination, lane);
        }
    }

    fn close(&self, destinations: &[String]) {
        for destination in destinations {
            self.states.of(destination).closed();
        }
    }
}

/// Accepts messages under the rules of the moment.
pub struct Intake {
    rules: RwLock<Arc<Rules>>,
    store: Arc<dyn Store>,
    events: EventBus,
    oddities: Oddities,
    clock: Clock,
}

impl Intake {
    /// Begins with these rules.
    #[must_use]
    pub fn new(rules: Rules, store: Arc<dyn Store>, events: EventBus, clock: Clock) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            store,
            events,
            oddities: Oddities::default(),
            clock,
        }
    }

    /// The rules of this moment. Hold them for one request, so that it is treated by one set of them.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these rules count.
    pub fn apply_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Where the messages go.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The clock of the gateway.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The feed of pipeline events.
    #[must_use]
    pub fn events(&self) -> &EventBus {
        &self.events
    }

    /// Where kept bodies that are no event are counted.
    #[must_use]
    pub fn oddities(&self) -> &Oddities {
        &self.oddities
    }

    /// Keeps the message with a delivery for each destination that wants it, and rings there.
    pub async fn keep(&self, message: Message) -> Result<Accepted, StoreError> {
        let told = Accepting::of(&message);
        let (rules, destinations) = self.wanting(&message);
        // A caller is not kept waiting for anything.
        if told.lane != Lane::Call {
            for destination in &destinations {
                // One wait, however many destinations there are.
                if rules.states.of(destination).throttle().await {
                    break;
                }
            }
        }
        // Before it is kept, or it could be delivered before it is counted.
        rules.open(&destinations);
        let (now, due_at) = (self.clock.now(), self.clock.due_now());
        let recipients: Vec<Recipient> = destinations
            .iter()
            .map(|destination| Recipient {
                slot: rules.wakeups.slot(destination, told.lane, now),
                destination: destination.clone(),
                due_at: Some(due_at),
            })
            .collect();
        let to_notify = recipients.iter().filter(|to| to.slot.is_none());
        let to_notify: Vec<String> = to_notify.map(|to| to.destination.clone()).collect();
        let accepted = self.store.accept(message, recipients).await;
        if accepted != Ok(Accepted::New) {
            rules.close(&destinations);
        }
        let accepted = accepted?;
        // For a duplicate too: if the first ring was lost, this one is not.
        rules.notify(&to_notify, told.lane);
        self.emit_accepted(told, destinations, accepted);
        Ok(accepted)
    }

    /// As [`keep`](Self::keep), for a message that waited in the quarantine as `quarantined`: it
    /// leaves it in the same commit.
    pub async fn accept_quarantined(
        &self,
        quarantined: i64,
        mut message: Message,
    ) -> Result<Accepted, StoreError> {
        // It may have arrived while the clock was ahead, and is due now.
        message.received_at = message.received_at.min(self.clock.due_now());
        let told = Accepting::of(&message);
        let (rules, destinations) = self.wanting(&message);
        rules.open(&destinations);
        let accepted = self
            .store
            .accept_quarantined(quarantined, message, destinations.clone())
            .await;
        if accepted != Ok(Accepted::New) {
            rules.close(&destinations);
        }
        let accepted = accepted?;
        rules.notify(&destinations, told.lane);
        self.emit_accepted(told, destinations, accepted);
        Ok(accepted)
    }

    fn wanting(&self, message: &Message) -> (Arc<Rules>, Vec<String>) {
        let rules = self.rules();
        let destinations = rules.wanting(message.event_type.as_deref());
        (rules, destinations)
    }

    fn emit_accepted(&self, told: Accepting, destinations: Vec<String>, accepted: Accepted) {
        let Accepting {
            endpoint,
            received_at,
            webhook_id,
            kind,
            ..
        } = told;
        let counted = match accepted {
            Accepted::New => TrafficKind::Accepted,
            Accepted::Duplicate => TrafficKind::Duplicate,
        };
        self.events.traffic().count(counted, &endpoint, received_at);
        tracing::debug!(webhook_id, kind, ?accepted, ?destinations, "kept");
        self.events.emit(|| PipelineEvent::Accepted {
            webhook_id,
            accepted,
            destinations,
        });
    }
}

/// The details of a stored message for the feed and the dispatchers.
struct Accepting {
    endpoint: String,
    received_at: Timestamp,
    webhook_id: String,
    kind: String,
    lane: Lane,
}

impl Accepting {
    fn of(message: &Message) -> Self {
        Self {
            endpoint: message.endpoint.clone(),
            received_at: message.received_at,
            webhook_id: message.webhook_id.clone(),
            kind: message.kind().to_owned(),
            lane: Lane::of(message.event_type.as_deref()),
        }
    }
}
