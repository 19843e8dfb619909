//! Patterns of event types in a filter.

use serde::{Deserialize, Serialize};
use unwrapd_core::route::{PatternError, Patterns};

/// Patterns of event types, and how they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Types {
    texts: Vec<String>,
    patterns: Patterns,
}

impl Types {
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The patterns as they are written; there is at least one that is no exclusion.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.patterns.texts()
    }

    /// Whether a message of this type is asked for.
    pub(super) fn want(&self, event_type: Option<&str>) -> bool {
        self.patterns.want(event_type)
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
