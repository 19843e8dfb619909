//! Accepts messages between HTTP and the store: holds the verifiers and the event patterns, and is
//! the only code that stores a message.

mod endpoint;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::Level;

use crate::clock::Clock;
use crate::delivery::{Delivery, Lane};
use crate::destinations::{Configured, DestinationHandle};
use crate::message::{Message, Origin};
use crate::observe::oddities::Oddities;
use crate::pipeline_events::{EventBus, PipelineEvent, RequestTrace, Steps};
use crate::route::Patterns;
use crate::store::filter::Filter;
use crate::store::{
    Accepted, Inbox, Operations, Page, QuarantineStore, Recipient, StoreError, TrafficKind,
};

pub use endpoint::Endpoint;
pub(crate) use endpoint::{Arrival, EndpointRecord};

/// Number of stored messages that are read at the start for the records of the endpoints.
const LOOKED_BACK: usize = 100;

/// The settings that may change while the gateway runs.
pub struct Rules {
    /// The endpoints, by name.
    pub endpoints: HashMap<String, Endpoint>,
    /// Each destination with the patterns of the events that it subscribes to.
    pub destinations: Vec<(Arc<DestinationHandle>, Patterns)>,
}

impl Rules {
    fn wanting(&self, message: &Message) -> Vec<Arc<DestinationHandle>> {
        let event_type = message.event_type.as_deref();
        self.destinations
            .iter()
            .filter(|(_, patterns)| match message.origin {
                Origin::OpenAi => patterns.want(event_type),
                Origin::Gateway => patterns.want_alert(event_type.unwrap_or_default()),
            })
            .map(|(handle, _)| Arc::clone(handle))
            .collect()
    }
}

/// Accepts messages under the current rules.
pub struct Intake {
    rules: RwLock<Arc<Rules>>,
    store: Arc<dyn Inbox>,
    events: EventBus,
    oddities: Oddities,
    clock: Clock,
}

impl Intake {
    /// An intake with these rules.
    #[must_use]
    pub fn new(rules: Rules, store: Arc<dyn Inbox>, events: EventBus, clock: Clock) -> Self {
        Self {
            rules: RwLock::new(Arc::new(rules)),
            store,
            events,
            oddities: Oddities::default(),
            clock,
        }
    }

    /// The current rules. Hold them for a whole request, so that one set of them applies to it.
    #[must_use]
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the rules. Requests that hold the earlier ones end under them.
    pub(crate) fn apply_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Records the arrivals of the newest stored messages, so that an endpoint does not look silent
    /// after a restart.
    pub(crate) async fn look_back(&self, store: &dyn Operations) {
        let page = Page::new(None, LOOKED_BACK);
        let filter = Filter::default();
        let page = match store.list_messages(&filter, self.clock.now(), page).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!("cannot read the newest messages: {error}");
                return;
            }
        };
        let rules = self.rules();
        for message in page.messages {
            if let Some(endpoint) = rules.endpoints.get(&message.endpoint)
                && message.origin == Origin::OpenAi
            {
                endpoint.record_stored(message.received_at);
            }
        }
    }

    /// Latest webhooks of each endpoint, by name.
    #[must_use]
    pub(crate) fn endpoint_records(&self) -> BTreeMap<String, EndpointRecord> {
        let (rules, now) = (self.rules(), self.clock.now());
        let endpoints = rules.endpoints.iter();
        endpoints
            .map(|(name, endpoint)| (name.clone(), endpoint.read_record(now)))
            .collect()
    }

    /// The clock of the gateway.
    #[must_use]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The pipeline events.
    #[must_use]
    pub(crate) fn events(&self) -> &EventBus {
        &self.events
    }

    /// Counts stored bodies that are no event.
    #[must_use]
    pub(crate) fn oddities(&self) -> &Oddities {
        &self.oddities
    }

    /// Stores the message with a delivery for each destination that subscribes to it by these rules,
    /// and wakes its dispatchers. `steps` are those of its request, for its trace.
    pub(crate) async fn keep(
        &self,
        rules: &Rules,
        message: Message,
        steps: Option<Steps>,
    ) -> Result<Accepted, StoreError> {
        let wanting = rules.wanting(&message);
        self.keep_for(message, wanting, steps).await
    }

    /// Stores an alert of this gateway, unless no destination wants it. `except` gets none.
    pub(crate) async fn keep_alert(
        &self,
        message: Message,
        except: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut wanting = self.rules().wanting(&message);
        wanting.retain(|destination| Some(destination.name()) != except);
        if !wanting.is_empty() {
            self.keep_for(message, wanting, None).await?;
        }
        Ok(())
    }

    /// Whether each configured destination is down.
    pub(crate) fn is_down(&self) -> BTreeMap<String, bool> {
        let rules = self.rules();
        let handles = rules.destinations.iter().map(|(handle, _)| handle);
        handles
            .map(|handle| (handle.name().to_owned(), handle.state().is_down()))
            .collect()
    }

    /// Sends an alert once, to each destination that wants it and is not paused, while the store
    /// takes nothing.
    pub(crate) async fn send_past_the_store(&self, message: Message) {
        let mut sending = JoinSet::new();
        for handle in self.rules().wanting(&message) {
            let Some(Configured {
                destination,
                timeout: longest,
                ..
            }) = handle.configured()
            else {
                continue;
            };
            if handle.state().is_paused() {
                continue;
            }
            let delivery = Delivery::unstored(handle.name(), message.clone());
            sending.spawn(async move {
                drop(timeout(longest, destination.send(&delivery, None)).await);
            });
        }
        while sending.join_next().await.is_some() {}
    }

    async fn keep_for(
        &self,
        message: Message,
        wanting: Vec<Arc<DestinationHandle>>,
        steps: Option<Steps>,
    ) -> Result<Accepted, StoreError> {
        let mut told = Accepting::received(&message);
        // A call never waits for back-pressure.
        if told.lane != Lane::Call {
            for destination in &wanting {
                // At most one wait for all destinations together.
                if destination.state().throttle().await {
                    break;
                }
            }
        }
        let opened = Opened::at(&wanting);
        let (now, due_at) = self.clock.now_and_due();
        let recipients: Vec<Recipient> = wanting
            .iter()
            .map(|destination| Recipient {
                reservation: destination.reserve(told.lane, now),
                destination: destination.name().to_owned(),
                due_at: Some(due_at),
            })
            .collect();
        let is_handed_over: Vec<bool> = recipients
            .iter()
            .map(|to| to.reservation.is_some())
            .collect();
        told.trace = self.trace_of(&message, steps);
        let accepted = self.store.accept(message, recipients).await?;
        opened.end(accepted);
        // Also for a duplicate, in case the first wake-up was lost.
        for (destination, is_handed_over) in wanting.iter().zip(is_handed_over) {
            if !is_handed_over {
                destination.notify(told.lane);
            }
        }
        self.emit_accepted(told, &wanting, accepted);
        Ok(accepted)
    }

    /// Does the same as [`keep`](Self::keep), and removes the request `quarantined` from the
    /// quarantine in the same commit.
    pub(crate) async fn accept_quarantined(
        &self,
        store: &dyn QuarantineStore,
        quarantined: i64,
        mut message: Message,
    ) -> Result<Accepted, StoreError> {
        // The request may have arrived while the clock was ahead. The delivery is due now.
        message.received_at = message.received_at.min(self.clock.due_now());
        let told = Accepting {
            trace: self.trace_of(&message, None),
            ..Accepting::of(&message)
        };
        let wanting = self.rules().wanting(&message);
        let opened = Opened::at(&wanting);
        let accepted = store
            .accept_quarantined(quarantined, message, names(&wanting))
            .await?;
        opened.end(accepted);
        for destination in &wanting {
            destination.notify(told.lane);
        }
        self.emit_accepted(told, &wanting, accepted);
        Ok(accepted)
    }

    /// The details for the trace of a message, if it is sampled.
    fn trace_of(&self, message: &Message, steps: Option<Steps>) -> Option<Box<RequestTrace>> {
        let trace = self.events.trace_of(message)?;
        trace.is_sampled.then(|| {
            Box::new(RequestTrace {
                trace,
                resource: message.shown_resource(),
                steps,
                stored_at: Instant::now(),
            })
        })
    }

    fn emit_accepted(
        &self,
        told: Accepting,
        wanting: &[Arc<DestinationHandle>],
        accepted: Accepted,
    ) {
        let Accepting {
            endpoint,
            webhook_id,
            event_type,
            received_at,
            trace,
            ..
        } = told;
        let now = self.clock.stamp();
        let counted = match accepted {
            Accepted::New => TrafficKind::Accepted,
            Accepted::Duplicate => TrafficKind::Duplicate,
        };
        let traffic = self.events.traffic();
        traffic.count(counted, &endpoint, now);
        let duration = received_at.map(|received_at| {
            Duration::try_from(now.duration_since(received_at)).unwrap_or_default()
        });
        self.events.emit(Level::DEBUG, || PipelineEvent::Accepted {
            endpoint,
            webhook_id,
            event_type,
            accepted,
            destinations: names(wanting),
            duration,
            trace,
        });
    }
}

fn names(destinations: &[Arc<DestinationHandle>]) -> Vec<String> {
    let names = destinations.iter();
    names.map(|handle| handle.name().to_owned()).collect()
}

/// Deliveries that are counted at their destinations before they are stored. Otherwise an attempt
/// could end before its delivery is counted. Unless a new message was stored, a drop takes the
/// count back.
struct Opened<'d>(&'d [Arc<DestinationHandle>]);

impl<'d> Opened<'d> {
    fn at(destinations: &'d [Arc<DestinationHandle>]) -> Self {
        for destination in destinations {
            destination.state().opened();
        }
        Self(destinations)
    }

    fn end(mut self, accepted: Accepted) {
        if accepted == Accepted::New {
            self.0 = &[];
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        for destination in self.0 {
            destination.state().closed();
        }
    }
}

/// The details of a stored message for the events and the dispatchers.
struct Accepting {
    endpoint: String,
    webhook_id: String,
    event_type: String,
    lane: Lane,
    /// `None`: the request waited in the quarantine.
    received_at: Option<Timestamp>,
    trace: Option<Box<RequestTrace>>,
}

impl Accepting {
    fn of(message: &Message) -> Self {
        Self {
            endpoint: message.endpoint.clone(),
            webhook_id: message.webhook_id.clone(),
            event_type: message.kind().to_owned(),
            lane: Lane::of(message.event_type.as_deref()),
            received_at: None,
            trace: None,
        }
    }

    fn received(message: &Message) -> Self {
        Self {
            received_at: Some(message.received_at),
            ..Self::of(message)
        }
    }
}
