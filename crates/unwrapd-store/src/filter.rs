//! Filters that select messages and deliveries, for lists, replays and dead letters. Pure.

mod when;

use std::str::FromStr;

use jiff::Timestamp;
use openai_webhooks::Envelope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::search_keys;
use unwrapd_core::route::{PatternError, Patterns};

pub use when::{When, WhenError};

/// Selection of messages and deliveries. An empty field selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Patterns of event types, as in the configuration.
    #[serde(rename = "type", skip_serializing_if = "Types::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub types: Types,
    /// Arrived then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub since: Option<When>,
    /// Arrived before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub until: Option<When>,
    /// Has a delivery in one of these states.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// Has a delivery for one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination: Vec<String>,
    /// Arrived at one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoint: Vec<String>,
    /// Has one of these webhook ids (`wh_…`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhook_id: Vec<String>,
    /// Has one of these event ids (`evt_…`), and its payload is stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_id: Vec<String>,
    /// Is about one of these resources (`resp_…`, `batch_…`), and its payload is stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource: Vec<String>,
}

impl Filter {
    /// The filter with its ages turned into times, as seen from `now`.
    #[must_use]
    pub fn select(&self, now: Timestamp) -> Selection {
        Selection {
            since: self
                .since
                .map_or(Timestamp::MIN, |when| when.seen_from(now)),
            until: self.until.map(|when| when.seen_from(now)),
            filter: self.clone(),
        }
    }

    /// The filters for an id of any kind, in the order in which they are tried: a webhook id, the
    /// id of an event, and the id of a resource.
    pub(super) fn for_id(id: &str) -> [Self; 3] {
        let ids = || vec![id.to_owned()];
        let webhook_id = Self {
            webhook_id: ids(),
            ..Self::default()
        };
        let event_id = Self {
            event_id: ids(),
            ..Self::default()
        };
        let resource = Self {
            resource: ids(),
            ..Self::default()
        };
        [webhook_id, event_id, resource]
    }

    /// Whether it names messages by ids, for which stores have a quick search.
    pub(super) fn names_ids(&self) -> bool {
        !self.webhook_id.is_empty() || self.names_payloads()
    }

    /// Whether it names messages by ids that stand in their payloads.
    pub(super) fn names_payloads(&self) -> bool {
        !self.event_id.is_empty() || !self.resource.is_empty()
    }

    /// The search keys of the event ids, and those of the resources. A message must have one key of
    /// each list; an empty list allows any.
    pub(super) fn search_keys(&self) -> (Vec<u32>, Vec<u32>) {
        let keys = |ids: &[String]| ids.iter().map(|id| search_keys::key(id)).collect();
        (keys(&self.event_id), keys(&self.resource))
    }

    /// Whether it asks for deliveries of a kind, and not only for messages.
    #[must_use]
    pub fn names_deliveries(&self) -> bool {
        !self.status.is_empty() || !self.destination.is_empty()
    }

    /// Whether it names only deliveries that were given up, for which stores have an index.
    pub(super) fn names_dead_only(&self) -> bool {
        let mut status = self.status.iter();
        !self.status.is_empty()
            && status.all(|status| matches!(status, Status::Dead | Status::Dropped))
    }

    /// Whether this delivery is asked for, if its message is.
    #[must_use]
    pub fn wants(&self, destination: &str, status: Status) -> bool {
        is_any_of(&self.destination, |name| name == destination)
            && is_any_of(&self.status, |wanted| *wanted == status)
    }
}

/// A filter at a moment: it has no ages any more.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The selection.
    pub filter: Filter,
    /// Arrived then or later.
    pub since: Timestamp,
    /// Arrived before then; `None`: however late.
    pub until: Option<Timestamp>,
}

impl Selection {
    /// Whether a message is asked for, as far as its payload tells. `None`: the payload was
    /// deleted.
    pub(super) fn wants_payload(&self, payload: Option<&[u8]>) -> bool {
        let filter = &self.filter;
        if !filter.names_payloads() {
            return true;
        }
        payload.and_then(Envelope::read).is_some_and(|envelope| {
            is_any_of(&filter.event_id, |id| envelope.event_id() == Some(id))
                && is_any_of(&filter.resource, |id| envelope.resource_id() == Some(id))
        })
    }

    /// Whether a message is asked for, as far as it can be told without its payload and its
    /// deliveries.
    #[must_use]
    pub fn wants(
        &self,
        endpoint: &str,
        webhook_id: &str,
        event_type: Option<&str>,
        received_at: Timestamp,
    ) -> bool {
        let filter = &self.filter;
        received_at >= self.since
            && self.until.is_none_or(|until| received_at < until)
            && is_any_of(&filter.endpoint, |name| name == endpoint)
            && is_any_of(&filter.webhook_id, |id| id == webhook_id)
            && filter.types.patterns.want(event_type)
    }
}

/// Nothing named means everything.
fn is_any_of<T>(named: &[T], is: impl Fn(&T) -> bool) -> bool {
    named.is_empty() || named.iter().any(is)
}

/// Patterns of event types, and how they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Types {
    texts: Vec<String>,
    patterns: Patterns,
}

impl Types {
    fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl Default for Types {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            patterns: Patterns::everything(),
        }
    }
}

impl TryFrom<Vec<String>> for Types {
    type Error = PatternError;

    fn try_from(texts: Vec<String>) -> Result<Self, PatternError> {
        let patterns = Patterns::parse(texts.iter().map(String::as_str))?;
        Ok(Self { texts, patterns })
    }
}

impl From<Types> for Vec<String> {
    fn from(types: Types) -> Self {
        types.texts
    }
}

/// Status of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The delivery waits for an attempt, or one is under way.
    Waiting,
    /// The destination has it.
    Delivered,
    /// Given up.
    Dead,
    /// Given up, and someone has looked at it and does not want it any more.
    Dropped,
}

impl Status {
    /// The status for a state in a store. Stores record a dropped delivery as a dead one with a
    /// mark.
    pub(super) fn of(state: &str, is_dropped: bool) -> Self {
        match state {
            "delivered" => Self::Delivered,
            "dead" if is_dropped => Self::Dropped,
            "dead" => Self::Dead,
            _ => Self::Waiting,
        }
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Dropped => "dropped",
        }
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        [Self::Waiting, Self::Delivered, Self::Dead, Self::Dropped]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(StatusError)
    }
}

/// The text is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status must be `waiting`, `delivered`, `dead` or `dropped`")]
pub struct StatusError;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_filter_survives_being_written_down() {
        let json = r#"{"type":["response.*","!response.failed"],"since":"3d","until":"2026-11-24T07:00:00Z","status":["dead"],"destination":["app"],"endpoint":["production"],"webhook_id":["wh_1"],"event_id":["evt_1"],"resource":["resp_1"]}"#;
        let filter: Filter = serde_json::from_str(json).unwrap();
        let again = serde_json::from_str(&serde_json::to_string(&filter).unwrap()).unwrap();
        assert_eq!(filter, again);
        let nothing = Filter::default();
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
    }

    #[test]
    fn a_misspelt_key_or_value_is_refused() {
        assert!(serde_json::from_str::<Filter>(r#"{"types":["response.*"]}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"status":["gone"]}"#).is_err());
        assert!(serde_json::from_str::<Filter>(r#"{"type":["resp*"]}"#).is_err());
    }

    #[test]
    fn the_beginning_of_a_time_belongs_to_it_and_the_end_does_not() {
        let filter = Filter {
            since: Some("2h".parse().unwrap()),
            until: Some("1h".parse().unwrap()),
            ..Filter::default()
        };
        let selection = filter.select(now());
        let wants = |time: &str| selection.wants("production", "wh_1", None, time.parse().unwrap());
        assert!(wants("2026-11-24T06:00:00Z"));
        assert!(!wants("2026-11-24T05:59:59.999Z"));
        assert!(wants("2026-11-24T06:59:59.999Z"));
        assert!(!wants("2026-11-24T07:00:00Z"));
    }
}
