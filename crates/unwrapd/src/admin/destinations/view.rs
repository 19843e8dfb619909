//! A destination as operators see it.

use jiff::Timestamp;

use crate::api::{CircuitState, ConfiguredView, DestinationView, LimitsView};
use crate::delivery::limits::Limits;
use crate::destinations::Configured;
use crate::destinations::state::{Circuit, DestinationState};
use crate::store::{AttemptHistory, DestinationCounts};

pub(super) fn view(
    name: String,
    configured: Option<ConfiguredView>,
    paused_since: Option<Timestamp>,
    standing: &DestinationCounts,
) -> DestinationView {
    let oldest_since = standing.lanes.iter().filter_map(|lane| lane.oldest_since);
    DestinationView {
        oldest_since: oldest_since.min(),
        name,
        is_configured: configured.is_some(),
        configured,
        paused_since,
        waiting: standing.waiting(),
        dead: standing.dead,
    }
}

pub(super) fn configured(
    target: &Configured,
    destination_state: &DestinationState,
    history: &AttemptHistory,
) -> ConfiguredView {
    let (state, next_probe_at) = match destination_state.circuit() {
        Circuit::Closed => (CircuitState::Closed, None),
        Circuit::Open { probe_at } => (CircuitState::Open, Some(probe_at)),
        Circuit::HalfOpen => (CircuitState::HalfOpen, None),
    };
    let (last_answer, last_answer_at) = destination_state
        .last_answer()
        .map(|answer| (answer.text, answer.at))
        .unzip();
    ConfiguredView {
        kind: target.destination.kind().to_owned(),
        state,
        next_probe_at,
        claimed: destination_state.claimed(),
        delivered: destination_state.delivered(),
        last_answer,
        last_answer_at,
        last_delivered_at: destination_state.last_delivered_at(history),
        failing_since: destination_state.failing_since(history),
        limits: limits(&target.description.limits),
        events: target.description.events.clone(),
        target: target.description.target.clone(),
    }
}

fn limits(limits: &Limits) -> LimitsView {
    LimitsView {
        concurrency: limits.concurrency,
        rate: limits.rate,
        timeout_seconds: limits.timeout.as_secs(),
        deadline_hours: limits.retry.give_up_after.as_secs() / 3_600,
    }
}
