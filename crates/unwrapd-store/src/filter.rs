//! Filters that select messages and deliveries, for lists, replays and dead letters. Pure.

mod id_part;
mod status;
mod types;
mod when;

use jiff::Timestamp;
use openai_webhooks::Envelope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::search_keys;
pub use id_part::{IdPart, IdPartError};
pub use status::{Status, StatusError};
pub use types::Types;
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
    /// Has a delivery in one of these states, or is `unrouted`: no destination wanted it.
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
    /// Has this text in its webhook id, its event id or its resource. A whole id selects only the
    /// messages with that id. For lists and counts: a search reads payloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 4)]
    pub id_part: Option<IdPart>,
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

    /// Whether payloads must be read for it.
    pub(super) fn reads_payloads(&self) -> bool {
        self.names_payloads() || self.id_part.is_some()
    }

    /// Whether it names messages by whole ids that stand in their payloads.
    pub(super) fn names_payloads(&self) -> bool {
        !self.event_id.is_empty() || !self.resource.is_empty()
    }

    /// The search keys of the event ids, and those of the resources. A message must have one key of
    /// each list; an empty list allows any.
    pub(super) fn search_keys(&self) -> (Vec<u32>, Vec<u32>) {
        let keys = |ids: &[String]| ids.iter().map(|id| search_keys::key(id)).collect();
        (keys(&self.event_id), keys(&self.resource))
    }

    /// Whether stores return candidates that it does not select in the end.
    pub(super) fn is_sifted(&self) -> bool {
        let by_deliveries = self.names_deliveries() && !self.names_unrouted_only();
        by_deliveries || !self.types.is_empty()
    }

    /// Whether it selects messages that no destination wanted. A destination rules them out.
    #[must_use]
    pub fn wants_unrouted(&self) -> bool {
        self.status.contains(&Status::Unrouted) && self.destination.is_empty()
    }

    /// Whether it selects only messages that no destination wanted, of which stores have a list.
    pub(super) fn names_unrouted_only(&self) -> bool {
        self.wants_unrouted() && self.status.iter().all(|it| *it == Status::Unrouted)
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
    /// Whether the payload decides if a message with this webhook id is asked for.
    pub(super) fn depends_on_payload(&self, webhook_id: &str) -> bool {
        self.filter.names_payloads() || self.unmatched_part(webhook_id).is_some()
    }

    /// Whether a message is asked for, as far as its ids tell. A `payload` of `None` was deleted,
    /// or [does not decide](Self::depends_on_payload).
    pub(super) fn wants_payload(&self, webhook_id: &str, payload: Option<&[u8]>) -> bool {
        if !self.depends_on_payload(webhook_id) {
            return true;
        }
        let part = self.unmatched_part(webhook_id);
        let payload = payload.filter(|payload| part.is_none_or(|part| part.is_in(payload)));
        let filter = &self.filter;
        payload.and_then(Envelope::read).is_some_and(|envelope| {
            let has_part = |id: Option<&str>| {
                part.is_none_or(|part| id.is_some_and(|id| id.contains(part.as_str())))
            };
            is_any_of(&filter.event_id, |id| envelope.event_id() == Some(id))
                && is_any_of(&filter.resource, |id| envelope.resource_id() == Some(id))
                && (has_part(envelope.event_id()) || has_part(envelope.resource_id()))
        })
    }

    /// The part of an id that is asked for, if this webhook id does not contain it.
    fn unmatched_part(&self, webhook_id: &str) -> Option<&IdPart> {
        let part = self.filter.id_part.as_ref();
        part.filter(|part| !webhook_id.contains(part.as_str()))
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
            && filter.types.want(event_type)
    }
}

/// Nothing named means everything.
fn is_any_of<T>(named: &[T], is: impl Fn(&T) -> bool) -> bool {
    named.is_empty() || named.iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_filter_survives_being_written_down() {
        let json = r#"{"type":["response.*","!response.failed"],"since":"3d","until":"2026-11-24T07:00:00Z","status":["dead"],"destination":["app"],"endpoint":["production"],"webhook_id":["wh_1"],"event_id":["evt_1"],"resource":["resp_1"],"id_part":"evt_"}"#;
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
        assert!(serde_json::from_str::<Filter>(r#"{"id_part":"abc"}"#).is_err());
    }

    #[test]
    fn a_part_of_an_id_is_searched_in_three_ids() {
        let filter = Filter {
            id_part: Some("_123".parse().unwrap()),
            ..Filter::default()
        };
        let selection = filter.select(now());
        let payload = |event: &str, resource: &str| {
            format!(
                r#"{{"type":"batch.failed","id":"{event}","data":{{"id":"{resource}"}},"x":"_1234"}}"#
            )
        };
        let wants = |webhook_id: &str, payload: &str| {
            selection.wants_payload(webhook_id, Some(payload.as_bytes()))
        };
        assert!(wants("wh_1234", ""));
        assert!(wants("wh_1", &payload("evt_12345", "batch_1")));
        assert!(wants("wh_1", &payload("evt_1", "batch_123")));
        assert!(!wants("wh_1", &payload("evt_1", "batch_1")));
        assert!(selection.wants_payload("wh_1234", None));
        assert!(!selection.wants_payload("wh_1", None));
    }

    #[test]
    fn a_destination_rules_out_messages_that_no_destination_wanted() {
        let filter = |json: &str| serde_json::from_str::<Filter>(json).unwrap();
        assert!(filter(r#"{"status":["unrouted"]}"#).names_unrouted_only());
        assert!(filter(r#"{"status":["unrouted","dead"]}"#).wants_unrouted());
        assert!(!filter(r#"{"status":["unrouted","dead"]}"#).names_unrouted_only());
        assert!(!filter(r#"{"status":["unrouted"],"destination":["app"]}"#).wants_unrouted());
        assert!(!filter("{}").wants_unrouted());
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
