//! Times of a filter.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::{Deserialize, Serialize};

use crate::text_in_json::text_in_json;

/// A point in time, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum When {
    /// Then.
    At(Timestamp),
    /// Age: this long before now.
    Ago(SignedDuration),
}

impl When {
    /// The same as a time.
    #[must_use]
    pub fn as_time(self, now: Timestamp) -> Self {
        Self::At(self.seen_from(now))
    }

    /// The time that it is as seen from `now`.
    #[must_use]
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => now.checked_sub(age).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        if let Ok(date) = text.parse::<Date>() {
            let midnight = TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight()));
            return midnight.map(Self::At).map_err(|_| WhenError);
        }
        let age: Span = text.parse().map_err(|_| WhenError)?;
        let age = age
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| WhenError)?;
        if age.is_negative() {
            return Err(WhenError);
        }
        Ok(Self::Ago(age))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => time.fmt(f),
            Self::Ago(age) => write!(f, "{age:#}"),
        }
    }
}

text_in_json!(When, |when| when.to_string());

/// The text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time must be like `2026-11-24T08:00:00Z`, `2026-11-24` (midnight in UTC), or an age such as `90m`, `2h` or `3d`"
)]
pub struct WhenError;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    fn seen_from_now(text: &str) -> String {
        text.parse::<When>().unwrap().seen_from(now()).to_string()
    }

    #[test]
    fn a_time_is_a_date_or_an_age() {
        assert_eq!(seen_from_now("2h"), "2026-11-24T06:00:00Z");
        assert_eq!(seen_from_now("3d"), "2026-11-21T08:00:00Z");
        assert_eq!(seen_from_now("1h 30m"), "2026-11-24T06:30:00Z");
        assert_eq!(seen_from_now("2026-11-24"), "2026-11-24T00:00:00Z");
        assert_eq!(
            seen_from_now("2026-11-24T09:00:00+02:00"),
            "2026-11-24T07:00:00Z"
        );
    }

    #[test]
    fn an_invalid_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "-2h",
            "2h ago",
            "2",
            "99999999999999999999d",
            "3mo",
        ] {
            assert_eq!(text.parse::<When>(), Err(WhenError), "{text:?}");
        }
    }
}
