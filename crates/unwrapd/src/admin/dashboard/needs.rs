//! The lines of "Needs attention", each with its cause and its remedy. Pure.

use jiff::{SignedDuration, Timestamp};

use super::events::event_type;
use super::form::{segment, with_query};
use super::words::{Mark, counted, long_span, number, span};
use crate::api::{
    CircuitState, ConfiguredView, DestinationView, EndpointView, GatewayView, QuarantinedView,
};
use crate::store::{FailureCause, MessageView};

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
    pub(super) write_error: Option<String>,
    /// Why the content of the page cannot be read from the store.
    pub(super) read_error: Option<String>,
    pub(super) destinations: &'s [DestinationView],
    /// The answer to the latest dead letter of each destination with dead letters.
    pub(super) dead: &'s [(String, FailureCause)],
    pub(super) endpoints: &'s [EndpointView],
    pub(super) gateways: &'s [GatewayView],
    /// The requests in the quarantine, newest first.
    pub(super) refused: &'s [QuarantinedView],
    /// Whether there are more of them.
    pub(super) refused_is_cut: bool,
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
    needs.extend(write_error(situation));
    needs.extend(read_error(situation));
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
    needs.extend(situation.destinations.iter().filter_map(unconfigured));
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

fn write_error(situation: &Situation<'_>) -> Option<Need> {
    let error = situation.write_error.as_ref()?;
    Some(Need {
        mark: Mark::Bad,
        what: "The store cannot be written, so webhooks are refused with 503.".into(),
        detail: format!("{} OpenAI sends each again for 72 hours.", sentence(error)),
        actions: vec![Action::Open("System", "/system".into())],
    })
}

/// A store that can be written accepts webhooks, also if its reads fail or take too long.
fn read_error(situation: &Situation<'_>) -> Option<Need> {
    let error = situation.read_error.as_ref()?;
    let effect = match situation.write_error {
        Some(_) => "",
        None => " Webhooks are accepted all the same.",
    };
    Some(Need {
        mark: Mark::Bad,
        what: "The store cannot be read, so this page is incomplete.".into(),
        detail: format!("{}{effect}", sentence(error)),
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
    let detail = latest.map_or_else(String::new, |(_, cause)| {
        format!(
            "The last one was given up {} ago: {}.",
            long_span(situation.now.duration_since(cause.latest_at)),
            cause.answer
        )
    });
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

/// Refused requests of one endpoint with one cause.
struct RefusedGroup<'r> {
    latest: &'r QuarantinedView,
    count: u64,
    since: Timestamp,
    /// Whether all have the same text, with the same numbers.
    is_uniform: bool,
}

/// One line for each endpoint and cause.
fn refused(situation: &Situation<'_>) -> Vec<Need> {
    let mut groups: Vec<RefusedGroup<'_>> = Vec::new();
    for request in situation.refused {
        let is_same = |group: &&mut RefusedGroup<'_>| {
            let latest = group.latest;
            latest.endpoint == request.endpoint
                && without_numbers(latest) == without_numbers(request)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => {
                group.count += 1;
                group.since = request.received_at.min(group.since);
                group.is_uniform &= cause(group.latest) == cause(request);
            }
            None => groups.push(RefusedGroup {
                latest: request,
                count: 1,
                since: request.received_at,
                is_uniform: true,
            }),
        }
    }
    let at_least = if situation.refused_is_cut {
        "At least "
    } else {
        ""
    };
    let need = |group: RefusedGroup<'_>| {
        let latest = group.latest;
        let prefix = if group.is_uniform { "" } else { "The latest: " };
        Need {
            mark: Mark::Waiting,
            what: format!(
                "{at_least}{} at {}.",
                counted(group.count, "request was refused", "requests were refused"),
                latest.endpoint
            ),
            detail: format!(
                "{prefix}{} {}",
                sentence(cause(latest)),
                came(situation.now, group.since, latest.received_at),
            ),
            actions: vec![Action::Open(
                "See the cause",
                format!("/refused/{}", latest.id),
            )],
        }
    };
    groups.into_iter().map(need).collect()
}

fn cause(request: &QuarantinedView) -> &str {
    request.cause.as_deref().unwrap_or(&request.reason)
}

/// The cause without its numbers: late requests differ in how late they are.
fn without_numbers(request: &QuarantinedView) -> String {
    cause(request).replace(|letter: char| letter.is_ascii_digit(), "")
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

/// Nothing delivers what waits for it.
fn unconfigured(destination: &DestinationView) -> Option<Need> {
    if destination.is_configured || destination.waiting == 0 {
        return None;
    }
    let name = &destination.name;
    Some(Need {
        mark: Mark::Waiting,
        what: format!(
            "{} for {name}, which is not configured.",
            counted(destination.waiting, "delivery waits", "deliveries wait")
        ),
        detail: format!(
            "Configure it again, replay to another destination, or run `unwrapd destinations \
             give-up {name}`."
        ),
        actions: vec![Action::Open(
            "Open",
            format!("/destinations/{}", segment(name)),
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
    if situation.write_error.is_some() {
        return (
            "The store cannot be written. Webhooks are refused until it can.".into(),
            last.unwrap_or_default(),
        );
    }
    if situation.read_error.is_some() {
        return (
            "The store cannot be read. This page is incomplete.".into(),
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
