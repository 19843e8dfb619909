//! Suggests an event type or a pattern for one that matches nothing.

use std::collections::BTreeSet;

use openai_webhooks::EventType;

use super::AlertType;

/// Synonyms. OpenAI uses `succeeded` for some resources and `completed` for others
/// ([list](https://developers.openai.com/api/reference/resources/webhooks)).
const SYNONYMS: [&[&str]; 6] = [
    &[
        "completed",
        "succeeded",
        "complete",
        "success",
        "successful",
        "finished",
        "done",
        "ended",
    ],
    &["failed", "failure", "error", "errored"],
    &["cancelled", "canceled", "cancel", "aborted", "stopped"],
    &["expired", "timeout", "timed_out"],
    &["incoming", "started", "created", "new"],
    &["in_progress", "processing", "running"],
];

/// Words that people use for all types.
const EVERYTHING: [&str; 5] = ["all", "any", "everything", "all.*", "**"];

/// Minimum similarity of two families for a suggestion, from 0 to 1.
const LIKE_MIN: f64 = 0.75;

/// The type nearest to `text`: in the nearest family, the type with the nearest last word, synonyms
/// included.
#[must_use]
pub fn nearest_type(text: &str) -> EventType {
    let nearest = nearest(&plain(text), &types());
    nearest.parse().unwrap_or(EventType::ResponseCompleted)
}

/// The pattern nearest to `text`: a family such as `response.*` if the text looks like a family,
/// otherwise a type.
#[must_use]
pub fn nearest_pattern(text: &str) -> String {
    nearest_pattern_of(text, &types())
}

/// As [`nearest_pattern`], also of the types of alerts.
#[must_use]
pub fn nearest_pattern_or_alert(text: &str) -> String {
    let alerts = AlertType::ALL.into_iter().map(AlertType::as_str);
    nearest_pattern_of(text, &types().into_iter().chain(alerts).collect::<Vec<_>>())
}

fn types() -> Vec<&'static str> {
    let all = EventType::ALL.iter();
    all.map(|event_type| event_type.as_str()).collect()
}

fn nearest_pattern_of(text: &str, types: &[&str]) -> String {
    let text = plain(text);
    let excluding = if text.starts_with('!') { "!" } else { "" };
    let text = text.trim_start_matches('!');
    if EVERYTHING.contains(&text) {
        return format!("{excluding}*");
    }
    let stem = text.trim_end_matches('*').trim_end_matches('.');
    let is_family = text.ends_with('*') || !text.contains('.') || text.ends_with('.');
    let families: BTreeSet<&str> = types
        .iter()
        .flat_map(|text| text.match_indices('.').map(|(end, _)| &text[..end]))
        .collect();
    let likeness = |family: &&str| strsim::jaro(family, stem);
    let nearest_family = families
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest_family {
        Some(family) if is_family && likeness(&family) >= LIKE_MIN => {
            format!("{excluding}{family}.*")
        }
        _ => format!("{excluding}{}", nearest(stem, types)),
    }
}

fn nearest<'t>(text: &str, types: &[&'t str]) -> &'t str {
    let (family, last) = split(text.trim_end_matches(".*"));
    let likeness = |event_type: &&str| {
        let (other_family, other_last) = split(event_type);
        2.0 * strsim::jaro(family, other_family) + likeness_of_words(last, other_last)
    };
    let all = types.iter().copied();
    all.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}

fn plain(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace('-', "_")
}

/// The family and the last word.
fn split(text: &str) -> (&str, &str) {
    text.rsplit_once('.').unwrap_or(("", text))
}

fn likeness_of_words(one: &str, other: &str) -> f64 {
    let mean_the_same = |words: &&[&str]| words.contains(&one) && words.contains(&other);
    if one == other {
        1.0
    } else if SYNONYMS.iter().any(mean_the_same) {
        0.95
    } else {
        0.9 * strsim::jaro(one, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synonyms_and_typos_of_a_type_lead_to_the_type() {
        for (text, expected) in [
            ("fine_tuning.job.completed", "fine_tuning.job.succeeded"),
            ("fine-tuning.job.done", "fine_tuning.job.succeeded"),
            ("fine_tuning.job.canceled", "fine_tuning.job.cancelled"),
            ("eval.run.completed", "eval.run.succeeded"),
            ("eval.run.cancelled", "eval.run.canceled"),
            ("response.succeeded", "response.completed"),
            ("responses.failed", "response.failed"),
            ("response.error", "response.failed"),
            ("batch.finished", "batch.completed"),
            ("Batch.Expired", "batch.expired"),
            ("batch.complted", "batch.completed"),
            ("realtime.call.started", "realtime.call.incoming"),
            ("completed", "batch.completed"),
        ] {
            let nearest = nearest_type(text);
            if text == "completed" {
                assert!(nearest.as_str().ends_with(".completed"), "{nearest}");
            } else {
                assert_eq!(nearest.as_str(), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_family_leads_to_a_family() {
        for (text, expected) in [
            ("responses.*", "response.*"),
            ("response", "response.*"),
            ("!responses.*", "!response.*"),
            ("response.", "response.*"),
            ("fine_tuning.jobs.*", "fine_tuning.job.*"),
            ("finetuning.*", "fine_tuning.*"),
            ("batches.*", "batch.*"),
            ("evals.run.*", "eval.run.*"),
            ("all", "*"),
            ("everything", "*"),
            ("response.compleet", "response.completed"),
        ] {
            assert_eq!(nearest_pattern(text), expected, "{text}");
        }
    }

    #[test]
    fn a_misspelt_alert_leads_to_an_alert() {
        for (text, expected) in [
            ("unwrapd.destination.dwon", "unwrapd.destination.down"),
            ("!unwrapd.store.refused", "!unwrapd.store.refusing"),
            ("unwraped.endpoint.silent", "unwrapd.endpoint.silent"),
            ("unwrapd.destinations.*", "unwrapd.destination.*"),
            ("unwraped.*", "unwrapd.*"),
            ("batch.complted", "batch.completed"),
        ] {
            assert_eq!(nearest_pattern_or_alert(text), expected, "{text}");
        }
    }

    #[test]
    fn every_type_leads_to_itself() {
        for event_type in EventType::ALL {
            assert_eq!(nearest_type(event_type.as_str()), *event_type);
            assert_eq!(
                nearest_pattern_or_alert(event_type.as_str()),
                event_type.as_str()
            );
        }
        for alert in AlertType::ALL {
            assert_eq!(nearest_pattern_or_alert(alert.as_str()), alert.as_str());
        }
    }
}
