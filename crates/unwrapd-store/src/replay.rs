//! Replays, which deliver stored messages again: the request, the plan and the result. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Filter, Status};
use super::text_in_json::text_in_json;
use unwrapd_core::delivery::Lane;

/// Longest token of a replay: room for any id, and little to remember.
pub const TOKEN_BYTES_MAX: usize = 128;

/// Most tokens remembered; the oldest is forgotten, and would be a new one. Some 300 bytes each.
pub(super) const TOKENS_MAX: i64 = 100_000;

/// Messages to deliver again, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Of which messages, and which of their deliveries.
    pub filter: Filter,
    /// To this destination, whether or not it wanted the messages then; `None`: to those that had
    /// them.
    pub to: Option<String>,
}

/// The moment at which a filter is evaluated. Ages count from here, and later messages are not
/// selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AsOf {
    /// The moment.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Number of the newest message at that moment.
    pub newest: i64,
}

/// Names one replay: asked for twice under the same token, it is done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        // A token is a part of a path, in which these two have another meaning.
        let is_fit = !matches!(text, "" | "." | "..")
            && text.len() <= TOKEN_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then(|| Self(text.to_owned())).ok_or(TokenError)
    }
}

text_in_json!(Token, |token| token.0);

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token must have 1 to {TOKEN_BYTES_MAX} ASCII characters, without spaces, and not be `.` or `..`"
)]
pub struct TokenError;

/// A replay under its token, which is made step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRun {
    /// Which messages, and where to.
    pub replay: Replay,
    /// The name of the run.
    pub token: Token,
    /// The moment as of which the first step fixes the messages; `None`: the time of that step.
    pub as_of: Option<AsOf>,
    /// Number of deliveries of a step, at least, unless fewer are left.
    pub limit: usize,
}

/// Dead letters to drop, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRun {
    /// Of which messages, and which of their deliveries.
    pub filter: Filter,
    /// Only those that were dead then are dropped.
    pub as_of: AsOf,
    /// Where the previous step ended: its [`Dropped::next`].
    pub after: Option<i64>,
    /// Number of dead letters of a step, or a few more.
    pub limit: usize,
}

/// Counts of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Messages with a delivery that is made again.
    pub messages: u64,
    /// Deliveries that are made again, or for the first time.
    pub deliveries: u64,
    /// Calls among these deliveries. Their callers have hung up since.
    pub calls: u64,
    /// Selected deliveries that wait already: they become due at once. A running attempt is left
    /// alone.
    pub waiting: u64,
    /// Selected deliveries that cannot be made any more: the payload of the message was deleted.
    pub gone: u64,
}

/// Plan of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Give it to the replay, so that it selects the same messages.
    pub as_of: AsOf,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// Arrival of the oldest message with a delivery that is made again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest: Option<Timestamp>,
    /// Arrival of the newest one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest: Option<Timestamp>,
    /// Number of deliveries by destination.
    pub destinations: BTreeMap<String, u64>,
    /// Ids of the filter that no stored message has.
    pub unknown: Vec<String>,
    /// Messages that the filter selects as unrouted, and that are not delivered, because the replay
    /// names no destination.
    #[serde(default)]
    pub unrouted: u64,
}

/// A plan whose time was limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSoFar {
    /// The plan. If it is not whole, its counts are those of the oldest messages, and its
    /// [`as_of`](Plan::as_of) is that of all.
    pub plan: Plan,
    /// Whether all messages were counted.
    pub is_whole: bool,
}

/// Progress of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Everything done under its token.
    pub counts: Counts,
    /// Where deliveries have become due by this step.
    pub due: BTreeSet<(String, Lane)>,
}

/// How far a replay is after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    /// Ask again with the same token.
    More(Replayed),
    /// All of it is done, by this step or long ago.
    Done(Replayed),
    /// It was ended before all was done. Nothing was changed.
    Ended(Replayed),
    /// The token belongs to a replay of something else. Nothing was changed.
    AnotherReplay,
}

/// How far the dropping of dead letters is after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many were dropped by this step.
    pub deliveries: u64,
    /// Where to go on; `None`: that was all.
    pub next: Option<i64>,
}

/// A delivery, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Existing {
    pub(super) id: i64,
    pub(super) destination: String,
    pub(super) lane: Lane,
    pub(super) status: Status,
}

impl Existing {
    /// Whether it is a dead letter that the filter asks for.
    pub(super) fn is_dead_and_wanted(&self, filter: &Filter) -> bool {
        self.status == Status::Dead && filter.wants(&self.destination, self.status)
    }
}

/// The deliveries of one message that a replay makes again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice<'e> {
    /// Ended deliveries, which begin again.
    pub(super) again: Vec<&'e Existing>,
    /// Waiting deliveries, which become due.
    pub(super) waiting: Vec<&'e Existing>,
    /// Whether the destination asked for has no delivery of it yet.
    pub(super) is_missing: bool,
    /// Whether nothing is left of the message but that it arrived.
    pub(super) is_lost: bool,
}

impl Replay {
    /// Chooses among the deliveries of a message that the filter wants.
    pub(super) fn choose<'e>(&self, deliveries: &'e [Existing], has_body: bool) -> Choice<'e> {
        let mut choice = Choice::default();
        // With their body, messages lose their deliveries.
        let may_be_lost = self.to.is_none() && !self.filter.names_deliveries();
        choice.is_lost = may_be_lost && deliveries.is_empty() && !has_body;
        let mut add = |delivery: &'e Existing| match delivery.status {
            Status::Waiting => choice.waiting.push(delivery),
            _ => choice.again.push(delivery),
        };
        let asked = || deliveries.iter().filter(|delivery| self.asks_for(delivery));
        let Some(to) = &self.to else {
            asked().for_each(add);
            return choice;
        };
        let is_unrouted = || self.filter.wants_unrouted() && deliveries.is_empty() && has_body;
        if self.filter.names_deliveries() && asked().next().is_none() && !is_unrouted() {
            return choice;
        }
        match deliveries
            .iter()
            .find(|delivery| &delivery.destination == to)
        {
            Some(delivery) => add(delivery),
            None => choice.is_missing = true,
        }
        choice
    }

    /// Whether the filter selects the message because it has no delivery, and nothing is delivered,
    /// because the replay names no destination.
    pub(super) fn leaves_unrouted(&self, deliveries: &[Existing], has_body: bool) -> bool {
        self.to.is_none() && self.filter.wants_unrouted() && deliveries.is_empty() && has_body
    }

    /// Whether the choice depends on whether the payload is stored.
    pub(super) fn depends_on_payload(&self, deliveries: &[Existing]) -> bool {
        let choice = self.choose(deliveries, true);
        !choice.again.is_empty() || choice.is_missing || deliveries.is_empty()
    }

    /// Whether the filter selects the delivery. A dropped delivery is selected by its status only.
    fn asks_for(&self, delivery: &Existing) -> bool {
        let is_meant =
            delivery.status != Status::Dropped || self.filter.status.contains(&Status::Dropped);
        is_meant && self.filter.wants(&delivery.destination, delivery.status)
    }
}

impl Choice<'_> {
    /// How many deliveries it is about; a lost message counts as one.
    pub(super) fn deliveries(&self) -> usize {
        let others = [self.is_missing, self.is_lost];
        self.again.len() + self.waiting.len() + others.into_iter().filter(|is| *is).count()
    }
}

impl Counts {
    /// One more message of which this is chosen. Says whether something of it is delivered again.
    pub(super) fn add(&mut self, choice: &Choice<'_>, lane: Lane, can_be_made: bool) -> bool {
        self.waiting += choice.waiting.len() as u64;
        self.gone += u64::from(choice.is_lost);
        let deliveries = choice.again.len() as u64 + u64::from(choice.is_missing);
        if deliveries == 0 {
            return false;
        }
        if !can_be_made {
            self.gone += deliveries;
            return false;
        }
        self.messages += 1;
        self.deliveries += deliveries;
        if lane == Lane::Call {
            self.calls += deliveries;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries() -> Vec<Existing> {
        [
            ("app", Status::Delivered),
            ("audit", Status::Dead),
            ("mail", Status::Waiting),
            ("old", Status::Dropped),
        ]
        .into_iter()
        .zip(0..)
        .map(|((destination, status), id)| Existing {
            id,
            destination: destination.into(),
            lane: Lane::Standard,
            status,
        })
        .collect()
    }

    fn chosen(filter: &str, to: Option<&str>) -> (Vec<String>, usize, bool) {
        let replay = Replay {
            filter: serde_json::from_str(filter).unwrap(),
            to: to.map(str::to_owned),
        };
        let deliveries = deliveries();
        let choice = replay.choose(&deliveries, true);
        let again = choice.again.iter();
        (
            again.map(|delivery| delivery.destination.clone()).collect(),
            choice.waiting.len(),
            choice.is_missing,
        )
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn deliveries_are_replayed_unless_they_wait_or_were_dropped() {
        assert_eq!(chosen("{}", None), (names(&["app", "audit"]), 1, false));
    }

    #[test]
    fn a_dropped_delivery_is_replayed_only_by_that_status() {
        assert_eq!(chosen(r#"{"destination":["old"]}"#, None).0, names(&[]));
        assert_eq!(chosen(r#"{"status":["dead"]}"#, None).0, names(&["audit"]));
        assert_eq!(chosen(r#"{"status":["dropped"]}"#, None).0, names(&["old"]));
    }

    #[test]
    fn a_destination_that_had_no_delivery_gets_one() {
        assert_eq!(chosen("{}", Some("new")), (names(&[]), 0, true));
        assert_eq!(chosen("{}", Some("app")), (names(&["app"]), 0, false));
        assert_eq!(chosen("{}", Some("mail")), (names(&[]), 1, false));
    }

    #[test]
    fn a_new_destination_gets_only_messages_that_match_by_other_deliveries() {
        let dead_at = |name: &str| format!(r#"{{"status":["dead"],"destination":["{name}"]}}"#);
        assert_eq!(
            chosen(&dead_at("audit"), Some("new")),
            (names(&[]), 0, true)
        );
        assert_eq!(chosen(&dead_at("app"), Some("new")), (names(&[]), 0, false));
    }

    #[test]
    fn an_unrouted_message_is_delivered_to_a_named_destination_only() {
        let mut replay = Replay {
            filter: serde_json::from_str(r#"{"status":["unrouted","dead"]}"#).unwrap(),
            to: Some("new".into()),
        };
        assert!(replay.choose(&[], true).is_missing);
        assert!(!replay.choose(&[], false).is_missing);
        assert!(!replay.leaves_unrouted(&[], true));
        replay.to = None;
        assert_eq!(replay.choose(&[], true), Choice::default());
        assert!(replay.leaves_unrouted(&[], true));
        assert!(!replay.leaves_unrouted(&[], false));
        assert!(!replay.leaves_unrouted(&deliveries(), true));
        assert_eq!(
            chosen(r#"{"status":["unrouted"]}"#, Some("new")),
            (names(&[]), 0, false)
        );
    }

    #[test]
    fn a_message_of_which_nothing_is_left_counts_as_gone() {
        let everything = Replay::default();
        let mut counts = Counts::default();
        assert!(!counts.add(&everything.choose(&[], false), Lane::Standard, false));
        assert!(!counts.add(&everything.choose(&[], true), Lane::Standard, true));
        assert_eq!((counts.gone, counts.deliveries), (1, 0));
    }

    #[test]
    fn a_token_is_short_and_visible() {
        assert!("0190-abc_X/1".parse::<Token>().is_ok());
        for text in ["", "a b", "a\n", "é", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{text:?}");
        }
    }
}
