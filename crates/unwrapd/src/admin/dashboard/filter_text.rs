//! The filter field: words such as `type:batch.* status:dead since:2h resp_abc`. The names are those
//! of the command line's options.

use crate::admin::json::Refusal;
use crate::admin::messages;
use crate::store::filter::{Filter, Status, Types, When};

/// The words with a name. `id` stands for a webhook id.
const NAMES: [&str; 9] = [
    "type",
    "status",
    "destination",
    "endpoint",
    "resource",
    "id",
    "event",
    "since",
    "until",
];

/// Reads a filter.
pub(super) fn parse(text: &str) -> Result<Filter, Refusal> {
    let mut filter = Filter::default();
    let mut types = Vec::new();
    for word in text.split_whitespace() {
        let named = word.split_once(':').filter(|(_, value)| !value.is_empty());
        let Some((name, value)) = named else {
            if word.ends_with(':') {
                return Err(Refusal::bad(format!(
                    "`{word}` needs a value behind the colon"
                )));
            }
            let part = word.parse().map_err(Refusal::bad)?;
            if filter.id_part.replace(part).is_some() {
                return Err(Refusal::bad(
                    "only one part of an id can be searched for; write other words as `name:value`",
                ));
            }
            continue;
        };
        match name {
            "type" => types.push(value.to_owned()),
            "status" => filter.status.push(value.parse().map_err(Refusal::bad)?),
            "destination" => filter.destination.push(value.to_owned()),
            "endpoint" => filter.endpoint.push(value.to_owned()),
            "resource" => filter.resource.push(value.to_owned()),
            "id" | "webhook-id" => filter.webhook_id.push(value.to_owned()),
            "event" => filter.event_id.push(value.to_owned()),
            "since" => filter.since = Some(value.parse().map_err(Refusal::bad)?),
            "until" => filter.until = Some(value.parse().map_err(Refusal::bad)?),
            _ => return Err(Refusal::bad(unknown(name))),
        }
    }
    filter.types = Types::try_from(types).map_err(Refusal::bad)?;
    messages::check(&filter)?;
    Ok(filter)
}

fn unknown(name: &str) -> String {
    let nearest = NAMES
        .into_iter()
        .min_by_key(|known| strsim::damerau_levenshtein(known, name))
        .unwrap_or_default();
    let name = crate::observe::refusals::shown(name);
    format!("a filter has no `{name}:`; did you mean `{nearest}:`?")
}

/// The words of a filter.
pub(super) fn text(filter: &Filter) -> String {
    let mut words = Vec::new();
    let mut add = |name: &str, values: &[String]| {
        words.extend(values.iter().map(|value| format!("{name}:{value}")));
    };
    add("type", &Vec::from(filter.types.clone()));
    let status: Vec<_> = filter
        .status
        .iter()
        .map(|status| status.as_str().to_owned())
        .collect();
    add("status", &status);
    add("destination", &filter.destination);
    add("endpoint", &filter.endpoint);
    add("resource", &filter.resource);
    add("id", &filter.webhook_id);
    add("event", &filter.event_id);
    words.extend(filter.since.map(|when| format!("since:{}", unspaced(when))));
    words.extend(filter.until.map(|when| format!("until:{}", unspaced(when))));
    words.extend(filter.id_part.as_ref().map(|part| part.as_str().to_owned()));
    words.join(" ")
}

/// A time or an age as one word.
fn unspaced(when: When) -> String {
    when.to_string().replace(' ', "")
}

/// The text without its words for a status, and with this one.
pub(super) fn with_status(text: &str, status: Option<Status>) -> String {
    let words = text.split_whitespace();
    let mut kept: Vec<String> = words
        .filter(|word| !word.starts_with("status:"))
        .map(str::to_owned)
        .collect();
    kept.extend(status.map(|status| format!("status:{}", status.as_str())));
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Filter {
        match parse(text) {
            Ok(filter) => filter,
            Err(refusal) => panic!("{text}: {}", refusal.detail()),
        }
    }

    #[test]
    fn words_of_the_command_line_make_a_filter() {
        let filter = read("type:batch.* type:!batch.failed status:dead destination:app since:2h");
        assert_eq!(filter.status, [Status::Dead]);
        assert_eq!(filter.destination, ["app"]);
        assert_eq!(Vec::from(filter.types), ["batch.*", "!batch.failed"]);
        assert!(filter.since.is_some());
        assert_eq!(read("  "), Filter::default());
    }

    #[test]
    fn a_word_without_a_name_is_a_part_of_an_id() {
        assert_eq!(read("resp_abc").id_part.unwrap().as_str(), "resp_abc");
        assert!(parse("resp_abc resp_def").is_err());
    }

    #[test]
    fn the_words_of_a_filter_make_the_same_filter() {
        let words = "type:batch.* status:dead status:unrouted destination:app endpoint:production \
                     resource:batch_1 id:wh_1 event:evt_1 since:90m until:2026-11-24T08:00:00Z abcd";
        assert_eq!(read(&text(&read(words))), read(words));
    }

    #[test]
    fn a_time_may_have_colons() {
        assert!(read("since:2026-11-24T08:00:00Z").since.is_some());
    }

    #[test]
    fn a_misspelt_name_is_refused_with_the_nearest_one() {
        assert!(unknown("tpye").ends_with("`type:`?"));
        assert!(unknown("destinations").ends_with("`destination:`?"));
        assert!(parse("stat:dead").is_err());
        assert!(parse("type:").is_err());
    }

    #[test]
    fn a_view_changes_the_status_and_nothing_else() {
        let text = "since:2h status:dead destination:app status:dropped";
        let waiting = with_status(text, Some(Status::Waiting));
        assert_eq!(waiting, "since:2h destination:app status:waiting");
        assert_eq!(with_status(text, None), "since:2h destination:app");
    }
}
