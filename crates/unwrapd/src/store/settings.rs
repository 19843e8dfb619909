//! Where messages are kept, how long, and how many.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::postgres::{AddressError, PostgresAddress};

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
    /// How long a message is kept after it arrived and after its last delivery was settled. What waits for delivery is kept longer.
    pub retention: Duration,
    /// Most bytes that are kept. Near it, messages that wait for nothing go before their time; at it, new ones are refused. `None`: as
    /// many as the disk has.
    pub size_max: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            dedupe: Duration::from_secs(7 * 24 * 3600),
            undelivered_max: 10_000_000,
            retention: Duration::from_secs(30 * 24 * 3600),
            size_max: None,
        }
    }
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(Box<PostgresAddress>),
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(address) => address.fmt(f),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let is_postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        if is_postgres {
            return Ok(Self::Postgres(Box::new(text.parse()?)));
        }
        let path = text.strip_prefix("sqlite:").ok_or(StoreUrlError::Scheme)?;
        // In other programs these mean something else, and one of them a store that forgets.
        let is_plain = !path.is_empty()
            && !path.starts_with("file:")
            && !path.contains('?')
            && path != ":memory:";
        if path.starts_with("//") {
            return Err(StoreUrlError::Slashes);
        }
        if !is_plain {
            return Err(StoreUrlError::Path);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// Why a text names no store. It holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// Of neither kind.
    #[error(
        "this must be \"sqlite:\" and the path of a file, such as \"sqlite:unwrapd.db\", or the URL of a database, such as \"postgres://unwrapd@db.internal/unwrapd\""
    )]
    Scheme,
    /// As other programs write it.
    #[error(
        "no \"//\" behind \"sqlite:\": the path of the file follows at once, such as \"sqlite:unwrapd.db\" or \"sqlite:/var/lib/unwrapd/unwrapd.db\""
    )]
    Slashes,
    /// No plain path of a file.
    #[error(
        "behind \"sqlite:\" the path of a file is missing, such as \"sqlite:unwrapd.db\" or \"sqlite:/var/lib/unwrapd/unwrapd.db\""
    )]
    Path,
    /// No URL of a database.
    #[error(transparent)]
    Address(#[from] AddressError),
}
