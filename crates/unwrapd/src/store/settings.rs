//! Where messages are kept, how long, and how many.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where messages are kept, how long, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where.
    pub url: StoreUrl,
    /// How long and how many.
    pub bounds: Bounds,
}

impl From<StoreUrl> for StoreSettings {
    fn from(url: StoreUrl) -> Self {
        Self {
            url,
            bounds: Bounds::default(),
        }
    }
}

/// How long things are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long an id is remembered, so that a copy of its message is known as one. OpenAI sends copies for 72 hours.
    pub dedupe: Duration,
    /// Most deliveries that wait; while there are more, messages that somebody wants are refused.
    pub undelivered_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            dedupe: Duration::from_secs(7 * 24 * 3600),
            undelivered_max: 10_000_000,
        }
    }
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}
