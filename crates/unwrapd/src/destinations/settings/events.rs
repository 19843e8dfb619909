//! The key `events`: the events that are delivered to a destination.

use serde::Deserialize;
use toml::Spanned;

use crate::route::{Patterns, nearest_pattern_or_alert};
use crate::settings_file::{Key, Keys, Location, Mistake, Mistakes, looks_secret, shown_pattern};

/// Most event patterns of a destination: several times the number of types. Each is compared with
/// every webhook.
const PATTERNS_MAX: usize = 256;

#[derive(Default, Deserialize)]
pub(super) struct EventKeys {
    events: Key<Vec<Spanned<String>>>,
}

impl Keys for EventKeys {}

impl EventKeys {
    pub(super) fn check(&self, location: &Location) -> Result<Patterns, Mistakes> {
        match &self.events {
            Some(events) => patterns(events, location),
            None => Ok(Patterns::everything()),
        }
    }
}

fn patterns(
    texts: &Spanned<Vec<Spanned<String>>>,
    location: &Location,
) -> Result<Patterns, Mistakes> {
    if texts.get_ref().is_empty() && !location.is_broken("events") {
        return Err(Mistake::absence(
            texts.span(),
            "a destination without events would get nothing: remove `events` to get all of them",
        )
        .into());
    }
    if texts.get_ref().len() > PATTERNS_MAX {
        return Err(Mistake::new(
            texts.span(),
            format!("there are more than {PATTERNS_MAX} event patterns: name families, such as `response.*`"),
        )
        .into());
    }
    let mut mistakes = Mistakes::default();
    for text in texts.get_ref() {
        // A secret has the letters of a pattern, and a pattern that is not known is repeated.
        if looks_secret(text.get_ref()) {
            mistakes.add(Mistake::new(
                text.span(),
                "this is a secret where an event pattern belongs: remove it, and replace the secret",
            ));
            continue;
        }
        let pattern = Patterns::parse([text.get_ref().trim_start_matches('!')])
            .map_err(|error| Mistake::new(text.span(), error.to_string()));
        let pattern = mistakes.keep(pattern);
        if pattern.is_some_and(|pattern| !pattern.match_known()) {
            // OpenAI may have added one that we do not know: no reason to refuse.
            let text = text.get_ref();
            tracing::warn!(
                "`{}` matches no event type that is known today; did you mean `{}`?",
                shown_pattern(text),
                nearest_pattern_or_alert(text)
            );
        }
    }
    mistakes.check()?;
    Patterns::parse(texts.get_ref().iter().map(|text| text.get_ref().as_str()))
        .map_err(|error| Mistake::new(texts.span(), error.to_string()).into())
}
