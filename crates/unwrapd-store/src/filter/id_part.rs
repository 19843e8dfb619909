//! Part of an id, for a search.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text_in_json::text_in_json;

/// Fewest characters: almost every id contains a shorter text.
const CHARS_MIN: usize = 4;
/// Longest text in bytes. Ids of OpenAI have fewer than a hundred.
const BYTES_MAX: usize = 256;

/// Part of a webhook id, of an event id or of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdPart(String);

impl IdPart {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text of the part stands in a payload, of whatever field. Most payloads are ruled
    /// out by it, unparsed.
    pub(super) fn is_in(&self, payload: &[u8]) -> bool {
        let part = self.0.as_bytes();
        payload.windows(part.len()).any(|window| window == part)
    }
}

impl FromStr for IdPart {
    type Err = IdPartError;

    fn from_str(text: &str) -> Result<Self, IdPartError> {
        let is_fit = text.len() <= BYTES_MAX
            && text.chars().count() >= CHARS_MIN
            && !text.contains(char::is_control);
        is_fit.then(|| Self(text.to_owned())).ok_or(IdPartError)
    }
}

text_in_json!(IdPart, |part| part.0);

/// The text is no part of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of an id must have {CHARS_MIN} characters or more, and {BYTES_MAX} bytes at most")]
pub struct IdPartError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_id_is_neither_short_nor_long() {
        assert!("resp".parse::<IdPart>().is_ok());
        for text in ["", "abc", "éèê", "ab\0cd", &"x".repeat(BYTES_MAX + 1)] {
            assert_eq!(text.parse::<IdPart>(), Err(IdPartError), "{text:?}");
        }
    }

    #[test]
    fn a_part_stands_anywhere_in_a_payload() {
        let part: IdPart = "p_12".parse().unwrap();
        assert!(part.is_in(b"resp_123"));
        assert!(part.is_in(b"resp_12"));
        for payload in [&b"resp_1"[..], b"", b"RESP_123"] {
            assert!(!part.is_in(payload));
        }
    }
}
