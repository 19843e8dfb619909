//! Suggests an event type or a pattern for one that matches nothing.

use std::collections::BTreeSet;

use openai_webhooks::EventType;

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
    let text = plain(text);
    let (family, last) = split(text.trim_end_matches(".*"));
    let likeness = |event_type: &EventType| {
        let (other_family, other_last) = split(event_type.as_str());
        2.0 * strsim::jaro(family, other_family) + likeness_of_words(last, other_last)
    };
    let all = EventType::ALL.iter().copied();
    all.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or(EventType::ResponseCompleted)
}

/// The pattern nearest to `text`: a family such as `response.*` if the text looks like a family,
/// otherwise a type.
#[must_use]
pub fn nearest_pattern(text: &str) -> String {
    let text = plain(text);
    let excluding = if text.starts_with('!') { "!" } else { "" };
    let text = text.trim_start_matches('!');
    if EVERYTHING.contains(&text) {
        return format!("{excluding}*");
    }
    let stem = text.trim_end_matches('*').trim_end_matches('.');
    let is_family = text.ends_with('*') || !text.contains('.') || text.ends_with('.');
    let families: BTreeSet<&str> = EventType::ALL
        .iter()
        .flat_map(|event_type| {
            let text = event_type.as_str();
            text.match_indices('.').map(move |(end, _)| &text[..end])
        })
        .collect();
    let likeness = |family: &&str| strsim::jaro(family, stem);
    let nearest = families
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(family) if is_family && likeness(&family) >= LIKE_MIN => {
            format!("{excluding}{family}.*")
        }
        _ => format!("{excluding}{}", nearest_type(stem)),
    }
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
    fn every_type_leads_to_itself() {
        for event_type in EventType::ALL {
            assert_eq!(nearest_type(event_type.as_str()), *event_type);
        }
    }
}
