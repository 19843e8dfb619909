//! Selects the destinations that want an event.

mod alert_type;
mod nearest;

use std::fmt;
use std::str::FromStr;

use openai_webhooks::EventType;

pub use alert_type::AlertType;
pub use nearest::{nearest_pattern, nearest_pattern_or_alert, nearest_type};

/// The event patterns of one destination: `response.completed`, `response.*`, `*`. A `!` in front
/// excludes what the pattern matches.
///
/// An event is wanted if a pattern matches and no `!` pattern does. A list of only `!` patterns
/// wants everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

impl Patterns {
    /// Patterns that match every event.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            wanted: vec![Pattern::StartsWith(String::new())],
            unwanted: Vec::new(),
        }
    }

    /// Parses a list of patterns.
    ///
    /// # Errors
    ///
    /// Returns a [`PatternError`] if a text is not a pattern.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut patterns = Self {
            wanted: Vec::new(),
            unwanted: Vec::new(),
        };
        for text in texts {
            match text.strip_prefix('!') {
                Some(text) => patterns.unwanted.push(text.parse()?),
                None => patterns.wanted.push(text.parse()?),
            }
        }
        if patterns.wanted.is_empty() {
            patterns.wanted = Self::everything().wanted;
        }
        Ok(patterns)
    }

    /// The patterns as they are written; exclusions are last.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let wanted = self.wanted.iter().map(Pattern::to_string);
        let unwanted = self.unwanted.iter().map(|pattern| format!("!{pattern}"));
        wanted.chain(unwanted).collect()
    }

    /// The types of the catalogue that are wanted.
    pub fn known(&self) -> impl Iterator<Item = EventType> {
        let all = EventType::ALL.iter().copied();
        all.filter(|event_type| self.want(Some(event_type.as_str())))
    }

    /// Whether they match a type of the catalogue, or one of an alert.
    #[must_use]
    pub fn match_known(&self) -> bool {
        let mut alerts = AlertType::ALL.into_iter();
        self.known().next().is_some() || alerts.any(|alert| self.want(Some(alert.as_str())))
    }

    /// Whether an alert of this gateway is wanted. Only a pattern that begins with `unwrapd.` means
    /// alerts: a plain `*` means the events of OpenAI.
    #[must_use]
    pub fn want_alert(&self, event_type: &str) -> bool {
        let names_alerts = |pattern: &&Pattern| pattern.text().starts_with(ALERT_PREFIX);
        let mut wanted = self.wanted.iter().filter(names_alerts);
        let is_unwanted = self.unwanted.iter().any(|it| it.matches(event_type));
        wanted.any(|pattern| pattern.matches(event_type)) && !is_unwanted
    }

    /// Whether an event of this type is wanted. A body without a type (`None`) is wanted only by a
    /// plain `*`.
    #[must_use]
    pub fn want(&self, event_type: Option<&str>) -> bool {
        let event_type = event_type.unwrap_or_default();
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(event_type));
        any(&self.wanted) && !any(&self.unwanted)
    }
}

/// Prefix of the types of the gateway's own alerts.
pub const ALERT_PREFIX: &str = "unwrapd.";

/// Maximum length of a pattern in bytes: several times that of the longest type.
const PATTERN_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(String),
    StartsWith(String),
}

impl Pattern {
    fn text(&self) -> &str {
        match self {
            Self::Exactly(text) | Self::StartsWith(text) => text,
        }
    }

    fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exactly(text) => text == event_type,
            Self::StartsWith(text) => event_type.starts_with(text),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(text) => f.write_str(text),
            Self::StartsWith(text) => write!(f, "{text}*"),
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let is_name = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
        };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError);
        }
        match text.strip_suffix('*') {
            Some(start) if is_name(start) && (start.is_empty() || start.ends_with('.')) => {
                Ok(Self::StartsWith(start.to_owned()))
            }
            None if is_name(text) && !text.is_empty() => Ok(Self::Exactly(text.to_owned())),
            _ => Err(PatternError),
        }
    }
}

/// The text is not an event pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an event pattern is a type such as `response.completed`, a family such as `response.*`, or `*`, with `!` in front to exclude it"
)]
pub struct PatternError;

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(patterns: &[&str], event_type: &str) -> bool {
        Patterns::parse(patterns.iter().copied())
            .unwrap()
            .want(Some(event_type))
    }

    #[test]
    fn patterns_are_shown_as_they_were_written() {
        let texts = ["response.*", "batch.failed", "!response.failed"];
        assert_eq!(Patterns::parse(texts).unwrap().texts(), texts);
        assert_eq!(
            Patterns::parse(["!batch.*"]).unwrap().texts(),
            ["*", "!batch.*"]
        );
        assert_eq!(Patterns::everything().texts(), ["*"]);
    }

    #[test]
    fn a_family_wants_its_members_only() {
        assert!(wants(&["response.*"], "response.completed"));
        assert!(!wants(&["response.*"], "responses.completed"));
        assert!(!wants(&["response.*"], "batch.completed"));
    }

    #[test]
    fn an_excluded_type_is_not_wanted_whatever_the_order_of_the_patterns() {
        assert!(!wants(
            &["!response.cancelled", "response.*"],
            "response.cancelled"
        ));
        assert!(!wants(
            &["response.*", "!response.cancelled"],
            "response.cancelled"
        ));
        assert!(wants(
            &["response.*", "!response.cancelled"],
            "response.failed"
        ));
    }

    #[test]
    fn patterns_with_only_exclusions_want_every_other_type() {
        assert!(wants(&["!batch.*"], "response.failed"));
        assert!(!wants(&["!batch.*"], "batch.failed"));
        assert!(wants(&[], "anything.at_all"));
    }

    #[test]
    fn alerts_are_wanted_by_patterns_that_name_them_and_by_no_star() {
        let want = |patterns: &[&str]| {
            let patterns = Patterns::parse(patterns.iter().copied()).unwrap();
            patterns.want_alert("unwrapd.destination.down")
        };
        assert!(want(&["unwrapd.*"]) && want(&["unwrapd.destination.*"]));
        assert!(want(&["batch.*", "unwrapd.destination.down"]));
        assert!(!want(&["*"]) && !want(&[]) && !want(&["!batch.*"]));
        assert!(!want(&["unwrapd.*", "!unwrapd.destination.down"]));
        assert!(!want(&["unwrapd.store.*"]));
    }

    #[test]
    fn types_of_openai_and_of_alerts_are_known() {
        let matches = |pattern: &str| Patterns::parse([pattern]).unwrap().match_known();
        for known in ["batch.*", "*", "unwrapd.*", "unwrapd.store.refusing"] {
            assert!(matches(known), "{known}");
        }
        for unknown in ["batches.*", "unwrapd.stores.*", "unwrapd.store.refused"] {
            assert!(!matches(unknown), "{unknown}");
        }
    }

    #[test]
    fn a_body_that_is_no_event_is_wanted_by_a_star_alone() {
        assert!(Patterns::everything().want(None));
        assert!(!Patterns::parse(["response.*"]).unwrap().want(None));
    }

    #[test]
    fn an_invalid_pattern_is_refused() {
        for text in [
            "",
            "!",
            "resp*",
            "response.*.x",
            "*.completed",
            "a b",
            "!!a",
            &"a".repeat(129),
        ] {
            assert_eq!(Patterns::parse([text]), Err(PatternError), "{text:?}");
        }
    }
}
