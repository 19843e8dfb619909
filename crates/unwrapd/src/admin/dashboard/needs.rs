//! The lines of "Needs attention", each with its cause and its remedy. Pure.

use jiff::{SignedDuration, Timestamp};

use super::events::event_type;
use super::form::{segment, with_query};
use super::words::{Mark, counted, long_span, number, span};
use crate::api::{
    CircuitState, ConfiguredView, DestinationView, EndpointView, GatewayView, QuarantinedView,
};
use crate::store::MessageView;

/// Difference of the clocks, in milliseconds, from which it needs attention. A webhook is refused
/// from five minutes on.
const CLOCK_AHEAD_MS_MAX: i64 = 60_000;
/// The same for a clock that is behind.
const CLOCK_BEHIND_MS_MAX: i64 = 5_000;
/// Maximum number of types that a line names.
const TYPES_MAX: usize = 3;

/// The state of the gateway, as far as it can need attention.
pub(super) struct Situation<'s> {
    pub(super) now: Timestamp,
    /// Why the store cannot be written.
    pub(super) store_error: Option<String>,
    pub(super) destinations: &'s [DestinationView],
    /// Summary of the latest dead letter of each destination with dead letters.
    pub(super) dead: &'s [(String, MessageView)],
    pub(super) endpoints: &'s [EndpointView],
    pub(super) gateways: &'s [GatewayView],
    /// The requests in the quarantine, newest first.
    pub(super) refused: &'s [QuarantinedView],
    /// Latest messages for which no destination was configured.
    pub(super) unrouted: &'s [MessageView],
    /// Lasting conditions that the gateway has noticed.
    pub(super) warnings: &'s [String],
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) mark: Mark,
    pub(super) what: String,
    pub(super) detail: String,
    pub(super) actions: Vec<Action>,
}

/// A button of a line: a link, or a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A link to this path.
    Open(&'static str, String),
    /// A form without fields, posted to this path.
    Post(&'static str, String),
}

/// All lines, the gravest first.
pub(super) fn of(situation: &Situation<'_>) -> Vec<Need> {
    let mut needs = Vec::new();
    needs.extend(store(situation));
    needs.extend(
        situation
            .destinations
            .iter()
            .filter_map(|destination| down(situation, destination)),
    );
    needs.extend(
        situation
            .destinations
            .iter()
            .filter_map(|destination| dead(situation, destination)),
    );
    needs.extend(refused(situation));
    needs.extend(situation.destinations.iter().filter_map(paused));
    needs.extend(situation.endpoints.iter().filter_map(clock));
    needs.extend(unrouted(situation));
    needs.extend(situation.gateways.iter().filter_map(different));
    needs.extend(situation.warnings.iter().map(|warning| Need {
        mark: Mark::Waiting,
        what: sentence(warning),
        detail: String::new(),
        actions: Vec::new(),
    }));
    needs
}

fn store(situation: &Situation<'_>) -> Option<Need> {
    let error = situation.store_error.as_ref()?;
    Some(Need {
        mark: Mark::Bad,
        what: "The store cannot be written, so webhooks are refused with 503.".into(),
        detail: format!("{} OpenAI sends each again for 72 hours.", sentence(error)),
        actions: vec![Action::Open("System", "/system".into())],
    })
}

/// The configuration and state of a destination whose circuit is not closed.
fn if_down(destination: &DestinationView) -> Option<&ConfiguredView> {
    let configured = destination.configured.as_ref();
    configured.filter(|configured| match configured.state {
        CircuitState::Closed => false,
        CircuitState::Open | CircuitState::HalfOpen => true,
    })
}

/// The first failure of the present run of failures, if the destination is down and that is known.
pub(super) fn down_since(destination: &DestinationView) -> Option<Timestamp> {
    if_down(destination)?.failing_since
}

fn down(situation: &Situation<'_>, destination: &DestinationView) -> Option<Need> {
    let configured = if_down(destination)?;
    let name = &destination.name;
    let fails = match configured.failing_since {
        Some(since) => format!(
            "has failed for {}",
            long_span(situation.now.duration_since(since))
        ),
        None => "is down".into(),
    };
    // After a start the answers are unknown.
    let answer = configured.last_answer.as_ref();
    let answer = answer.map_or_else(String::new, |answer| format!(": {answer}"));
    let next = match configured.next_probe_at {
        Some(at) if at > situation.now => {
            format!(
                "The next attempt is in {}.",
                span(at.duration_since(situation.now))
            )
        }
        // Nothing is due, or an attempt is under way.
        _ => "The next delivery that is due will be attempted.".into(),
    };
    let waiting = counted(destination.waiting, "delivery waits", "deliveries wait");
    let path = format!("/destinations/{}", segment(name));
    let mut actions = vec![
        Action::Open("Failures", path.clone()),
        Action::Post("Test", format!("{path}/test")),
    ];
    if destination.paused_since.is_none() {
        actions.push(Action::Post("Pause", format!("{path}/pause")));
    }
    Some(Need {
        mark: Mark::Bad,
        what: format!("{name} {fails}{answer}."),
        detail: format!("{waiting}. {next}"),
        actions,
    })
}

fn dead(situation: &Situation<'_>, destination: &DestinationView) -> Option<Need> {
    if destination.dead == 0 {
        return None;
    }
    let name = &destination.name;
    let latest = situation.dead.iter().find(|(dead, _)| dead == name);
    let delivery = latest.and_then(|(_, message)| {
        message
            .deliveries
            .iter()
            .find(|delivery| &delivery.destination == name)
    });
    let answer = delivery.and_then(|delivery| delivery.latest.last());
    let detail = match (delivery, answer) {
        (Some(delivery), Some(attempt)) => format!(
            "The last one was given up {} ago: {}.",
            long_span(situation.now.duration_since(delivery.at)),
            attempt.answer
        ),
        _ => String::new(),
    };
    let filter = format!("status:dead destination:{name}");
    Some(Need {
        mark: Mark::Bad,
        what: format!(
            "{} at {name}.",
            counted(destination.dead, "dead letter", "dead letters")
        ),
        detail,
        actions: vec![
            Action::Open("Open", with_query("/events", &[("q", &filter)])),
            Action::Open("Replay…", with_query("/replay", &[("q", &filter)])),
        ],
    })
}

/// One line for each endpoint and cause.
fn refused(situation: &Situation<'_>) -> Vec<Need> {
    let mut groups: Vec<(&QuarantinedView, u64, Timestamp)> = Vec::new();
    for request in situation.refused {
        let is_same = |(first, ..): &&mut (&QuarantinedView, u64, Timestamp)| {
            first.endpoint == request.endpoint && first.reason == request.reason
        };
        match groups.iter_mut().find(is_same) {
            Some((_, count, since)) => {
                *count += 1;
                *since = request.received_at.min(*since);
            }
            None => groups.push((request, 1, request.received_at)),
        }
    }
    groups
        .into_iter()
        .map(|(first, count, since)| Need {
            mark: Mark::Waiting,
            what: format!(
                "{} at {}.",
                counted(count, "request was refused", "requests were refused"),
                first.endpoint
            ),
            detail: format!(
                "{} {}",
                sentence(first.cause.as_deref().unwrap_or(&first.reason)),
                came(situation.now, since, first.received_at),
            ),
            actions: vec![Action::Open(
                "See the cause",
                format!("/refused/{}", first.id),
            )],
        })
        .collect()
}

/// When the first and the last of some requests came.
fn came(now: Timestamp, first: Timestamp, last: Timestamp) -> String {
    let (first, last) = (
        long_span(now.duration_since(first)),
        long_span(now.duration_since(last)),
    );
    if first == last {
        format!("The last came {last} ago.")
    } else {
        format!("The first came {first} ago, the last {last} ago.")
    }
}

fn paused(destination: &DestinationView) -> Option<Need> {
    destination.paused_since?;
    let name = &destination.name;
    Some(Need {
        mark: Mark::Waiting,
        what: format!("{name} is paused."),
        detail: format!(
            "{}.",
            counted(destination.waiting, "delivery waits", "deliveries wait")
        ),
        actions: vec![Action::Post(
            "Resume",
            format!("/destinations/{}/resume", segment(name)),
        )],
    })
}

fn clock(endpoint: &EndpointView) -> Option<Need> {
    let ahead = endpoint.clock_ahead_ms?;
    if (-CLOCK_BEHIND_MS_MAX..=CLOCK_AHEAD_MS_MAX).contains(&ahead) {
        return None;
    }
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let by = long_span(SignedDuration::from_millis(ahead.saturating_abs()));
    Some(Need {
        mark: Mark::Waiting,
        what: format!("The clock of this machine is {by} {side} the clock of OpenAI."),
        detail: "Webhooks are refused when the difference is five minutes. Synchronise the clock, \
                 for example with systemd-timesyncd or chrony. Webhooks that arrive very late look \
                 the same."
            .into(),
        actions: Vec::new(),
    })
}

fn unrouted(situation: &Situation<'_>) -> Option<Need> {
    let mut types: Vec<String> = situation
        .unrouted
        .iter()
        .map(|message| event_type(message.event_type.as_deref()))
        .collect();
    let latest = situation.unrouted.first()?;
    types.sort_unstable();
    types.dedup();
    let named = types[..types.len().min(TYPES_MAX)].join(", ");
    let more = match types.len().saturating_sub(TYPES_MAX) {
        0 => String::new(),
        more => format!(" and {}", counted(more as u64, "more type", "more types")),
    };
    Some(Need {
        mark: Mark::Neutral,
        what: format!("No destination subscribes to {named}{more}."),
        detail: format!(
            "Such an event came {} ago. It is stored and can be replayed to a destination. To \
             deliver the next ones, add the type to `events` of a destination.",
            long_span(situation.now.duration_since(latest.received_at))
        ),
        actions: vec![Action::Open(
            "Open",
            with_query("/events", &[("q", "status:unrouted")]),
        )],
    })
}

fn different(gateway: &GatewayView) -> Option<Need> {
    if gateway.differs_in.is_empty() {
        return None;
    }
    Some(Need {
        mark: Mark::Waiting,
        what: format!("Gateway {} has another configuration.", gateway.name),
        detail: format!("It differs in: {}.", gateway.differs_in.join(", ")),
        actions: vec![Action::Open("System", "/system".into())],
    })
}

/// The text with a capital letter in front and a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// The first sentence of the overview, which tells whether all is well, and the line below it.
pub(super) fn headline(situation: &Situation<'_>, needs: &[Need]) -> (String, String) {
    let waiting: u64 = situation.destinations.iter().map(|one| one.waiting).sum();
    let latest = situation
        .endpoints
        .iter()
        .filter_map(|one| one.last_webhook_at)
        .max();
    let last = latest.map(|at| {
        format!(
            "The last webhook came {} ago.",
            long_span(situation.now.duration_since(at))
        )
    });
    if situation.store_error.is_some() {
        return (
            "The store cannot be written. Webhooks are refused until it can.".into(),
            last.unwrap_or_default(),
        );
    }
    let down: Vec<_> = situation
        .destinations
        .iter()
        .filter(|destination| if_down(destination).is_some())
        .collect();
    let others = |here: usize| match needs.len().saturating_sub(here) {
        0 => "Everything else is fine. ".to_owned(),
        more => format!(
            "{} below. ",
            counted(
                more as u64,
                "more thing needs a look",
                "more things need a look"
            )
        ),
    };
    if let [destination] = down[..] {
        let long = |since| long_span(situation.now.duration_since(since));
        let since = down_since(destination);
        let waiting = counted(
            destination.waiting,
            "delivery is waiting",
            "deliveries are waiting",
        );
        let waits = match destination.oldest_since.or(since) {
            _ if destination.waiting == 0 => "Nothing waits for it.".to_owned(),
            Some(oldest) => format!("{waiting}, the oldest for {}.", long(oldest)),
            None => format!("{waiting}."),
        };
        let name = &destination.name;
        let fails = match since {
            Some(since) => format!("{name} has been down for {}.", long(since)),
            None => format!("{name} is down."),
        };
        return (
            format!("{fails} {waits}"),
            others(1) + &last.unwrap_or_default(),
        );
    }
    if !down.is_empty() {
        let waits = counted(waiting, "delivery is waiting", "deliveries are waiting");
        return (
            format!("{} destinations are down. {waits}.", down.len()),
            others(down.len()) + &last.unwrap_or_default(),
        );
    }
    let waits = match waiting {
        0 => "Nothing waits.".to_owned(),
        waiting => format!(
            "{}.",
            counted(waiting, "delivery is waiting", "deliveries are waiting")
        ),
    };
    let first = match needs.len() {
        0 => "All is well.".to_owned(),
        1 => "One thing needs a look.".to_owned(),
        count => format!("{} things need a look.", number(count as u64)),
    };
    (
        first,
        format!("{} {waits}", last.unwrap_or_default())
            .trim()
            .to_owned(),
    )
}
