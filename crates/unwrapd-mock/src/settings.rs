//! Settings of the mock.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use openai_webhooks::Secret;
use reqwest::Url;

use crate::rules::Rule;

/// Largest speed of the clock.
pub const SPEED_MAX: u32 = 1_000_000;

/// Settings of a [`Mock`](crate::Mock). The default has a free port of this machine, real time, and
/// no faults.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Whether the address may be another one than loopback, and whether webhooks go to other
    /// machines over plain HTTP.
    pub allow_remote: bool,
    /// The clock runs this many times as fast as real time, at most [`SPEED_MAX`]. With 0 it
    /// stands still until it is advanced.
    pub speed: u32,
    /// Faults and outcomes.
    pub rules: Vec<Rule>,
    /// Webhook endpoints that exist from the start, for all event types.
    pub endpoints: Vec<(Url, Secret)>,
    /// Each webhook that this number divides is delivered twice. 0: none.
    pub duplicate_every: u64,
    /// Retention of responses.
    pub retention: Retention,
    /// Longest real time to wait for the answer to a webhook.
    pub answer_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            speed: 1,
            rules: Vec::new(),
            endpoints: Vec::new(),
            duplicate_every: 0,
            retention: Retention::Normal,
            answer_timeout: Duration::from_secs(5),
        }
    }
}

/// How long the project stores background responses
/// ([guide](https://developers.openai.com/api/docs/guides/background)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Ten minutes with `store: false`, else 30 days.
    Normal,
    /// Modified abuse monitoring: 30 days with `store: true`, else ten minutes.
    ModifiedAbuseMonitoring,
    /// Zero data retention: ten minutes.
    Zero,
}

impl Retention {
    /// The names of all kinds.
    pub const NAMES: [&str; 3] = ["normal", "modified-abuse-monitoring", "zero"];
    /// Time for which a background response can be fetched at least.
    const SHORT: Duration = Duration::from_secs(10 * 60);
    /// Time of normal storage.
    const LONG: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// The time after its end at which a response vanishes. `store` is that of the request.
    pub(crate) fn of(self, store: Option<bool>) -> Duration {
        let is_stored = match self {
            Self::Normal => store != Some(false),
            Self::ModifiedAbuseMonitoring => store == Some(true),
            Self::Zero => false,
        };
        if is_stored { Self::LONG } else { Self::SHORT }
    }
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "normal" => Ok(Self::Normal),
            "modified-abuse-monitoring" => Ok(Self::ModifiedAbuseMonitoring),
            "zero" => Ok(Self::Zero),
            _ => Err(format!("this must be one of {}", Self::NAMES.join(", "))),
        }
    }
}
