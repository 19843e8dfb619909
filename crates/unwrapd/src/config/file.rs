//! The configuration as it is written, and the checks that make it a [`Config`].

mod kind;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use openai_webhooks::Webhooks;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use super::server::{Server, endpoint_requests};
use super::source::{Mistake, SecretSource};
use super::{Config, DestinationSettings, EndpointSettings};
use crate::delivery::limits::Limits;
use crate::delivery::retry::RetryPolicy;
use crate::route::{Patterns, nearest_type};
use crate::store::postgres::PostgresAddress;
use crate::store::{Bounds, DELIVERIES_MAX, StoreSettings, StoreUrl, StoreUrlError};

const STORE_PATH: &str = "unwrapd.db";
/// Most deliveries under way at one destination. Each holds a connection and a message in memory.
const CONCURRENCY_MAX: usize = 1024;
/// Longest time an attempt may take: so long is a delivery leased to nobody if the process dies.
const TIMEOUT_SECONDS_MAX: u64 = 600;
/// Most deliveries a second that can be asked for; one machine does not make more.
const RATE_MAX: u32 = 100_000;
/// Most attempts that can be asked for: at most one an hour after the first day, this is for ever.
const ATTEMPTS_MAX: u32 = 1_000_000;
/// Longest deadline of a delivery: a month. Whatever has not been taken by then, somebody must look at.
const DEADLINE_HOURS_MAX: u64 = 30 * 24;
/// Longest back-off between two attempts: a day.
const RETRY_SECONDS_MAX: u64 = 24 * 3600;
/// OpenAI sends a webhook again for 72 hours; whoever forgets earlier takes a copy for a new one.
const DEDUPE_DAYS_MIN: u64 = 3;
/// Longest time an id is remembered: all of them are held in memory.
const DEDUPE_DAYS_MAX: u64 = 365;
/// Longest time a message is kept: ten years.
const RETENTION_DAYS_MAX: u64 = 3650;
/// Smallest store that is worth having, in MiB: some thousands of messages.
const SIZE_MB_MIN: u64 = 16;
/// Largest store, in MiB: 16 TiB.
const SIZE_MB_MAX: u64 = 16 * 1024 * 1024;
/// Most deliveries that may be allowed to wait.
const UNDELIVERED_MAX: u64 = 1_000_000_000;
/// Longest name of an endpoint or a destination.
const NAME_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    server: Server,
    #[serde(default)]
    store: StoreTable,
    #[serde(default)]
    endpoint: Vec<Endpoint>,
    #[serde(default)]
    destination: Vec<Destination>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    url: Option<Spanned<String>>,
    password: Option<Spanned<SecretSource>>,
    dedupe_days: Option<Spanned<u64>>,
    undelivered_max: Option<Spanned<u64>>,
    retention_days: Option<Spanned<u64>>,
    size_max_mb: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    name: Spanned<String>,
    secrets: Spanned<Vec<Spanned<SecretSource>>>,
    requests_max: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    name: Spanned<String>,
    url: Option<Spanned<String>>,
    secret: Option<Spanned<SecretSource>>,
    secrets: Option<Spanned<Vec<Spanned<SecretSource>>>>,
    connect_timeout_seconds: Option<Spanned<u64>>,
    allow_private: Option<Spanned<bool>>,
    ca: Option<Spanned<PathBuf>>,
    proxy: Option<Spanned<String>>,
    proxy_user: Option<Spanned<String>>,
    proxy_password: Option<Spanned<SecretSource>>,
    command: Option<Spanned<Vec<String>>>,
    jsonl: Option<Spanned<String>>,
    events: Option<Spanned<Vec<Spanned<String>>>>,
    concurrency: Option<Spanned<usize>>,
    rate: Option<Spanned<u32>>,
    timeout_seconds: Option<Spanned<u64>>,
    attempts_max: Option<Spanned<u32>>,
    deadline_hours: Option<Spanned<u64>>,
    retry_first_seconds: Option<Spanned<u64>>,
    retry_max_seconds: Option<Spanned<u64>>,
}

impl File {
    /// Only where messages are kept: for who needs no secrets.
    pub(super) fn check_store(self) -> Result<StoreSettings, Mistake> {
        // To look at a file takes no password.
        let store = StoreTable {
            password: None,
            ..self.store
        };
        store.check()
    }

    /// Where messages are kept, and the password for that: for who needs no other secrets.
    pub(super) fn check_store_to_open(self) -> Result<StoreSettings, Mistake> {
        self.store.check()
    }

    pub(super) fn check(self) -> Result<Config, Mistake> {
        if self.endpoint.is_empty() {
            return Err(Mistake::whole(
                "there is no [[endpoint]], so nothing can be received: add one with a `name` and its `secrets`",
            ));
        }
        check_names(self.endpoint.iter().map(|endpoint| &endpoint.name))?;
        if let Some(surplus) = self.destination.get(DELIVERIES_MAX) {
            return Err(Mistake::new(
                surplus.name.span(),
                format!("there may be {DELIVERIES_MAX} destinations at most: take this one out"),
            ));
        }
        check_names(self.destination.iter().map(|destination| &destination.name))?;
        for destination in &self.destination {
            destination.refuse_files_of_the_store(self.store.url.as_ref())?;
        }
        let endpoints = self.endpoint.into_iter().map(Endpoint::check);
        let destinations = self.destination.into_iter().map(Destination::check);
        let (admin, admin_token) = self.server.admin()?;
        Ok(Config {
            listen: self.server.listen()?,
            admin,
            admin_token,
            server: self.server.check()?,
            store: self.store.check()?,
            endpoints: endpoints.collect::<Result<_, _>>()?,
            destinations: destinations.collect::<Result<_, _>>()?,
        })
    }
}

impl StoreTable {
    fn check(self) -> Result<StoreSettings, Mistake> {
        let defaults = Bounds::default();
        let url = match &self.url {
            Some(url) => store_url(url)?,
            None => StoreUrl::Sqlite(STORE_PATH.into()),
        };
        let url = match url {
            StoreUrl::Postgres(address) => {
                if let Some(size_max) = self.size_max_mb {
                    return Err(Mistake::new(
                        size_max.span(),
                        "`size_max_mb` is for SQLite files: for PostgreSQL shorten `retention_days` or lower `undelivered_max`, and watch the disk of the server",
                    ));
                }
                StoreUrl::Postgres(Box::new(with_password(*address, self.password)?))
            }
            StoreUrl::Sqlite(path) => {
                if let Some(password) = self.password {
                    return Err(Mistake::new(
                        password.span(),
                        "an SQLite file has no password: take it out, or name a database, such as \"postgres://unwrapd@db.internal/unwrapd\", in `url`",
                    ));
                }
                StoreUrl::Sqlite(path)
            }
        };
        Ok(StoreSettings {
            url,
            bounds: Bounds {
                dedupe: within(self.dedupe_days, DEDUPE_DAYS_MIN, DEDUPE_DAYS_MAX)?
                    .map_or(defaults.dedupe, days),
                undelivered_max: within(self.undelivered_max, 1, UNDELIVERED_MAX)?
                    .unwrap_or(defaults.undelivered_max),
                retention: within(self.retention_days, 1, RETENTION_DAYS_MAX)?
                    .map_or(defaults.retention, days),
                size_max: within(self.size_max_mb, SIZE_MB_MIN, SIZE_MB_MAX)?
                    .map(|mebibytes| mebibytes * 1024 * 1024)
                    .or(defaults.size_max),
            },
        })
    }
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

impl Endpoint {
    fn check(self) -> Result<EndpointSettings, Mistake> {
        let webhooks = webhooks(self.secrets.get_ref())?.ok_or_else(|| {
            Mistake::new(
                self.secrets.span(),
                "an endpoint without secrets could prove nothing: add `{ env = \"OPENAI_WEBHOOK_SECRET\" }`",
            )
        })?;
        Ok(EndpointSettings {
            name: self.name.into_inner(),
            webhooks,
            requests_max: endpoint_requests(self.requests_max)?,
        })
    }
}

impl Destination {
    fn check(mut self) -> Result<DestinationSettings, Mistake> {
        let kind = self.kind()?;
        let defaults = Limits::default();
        Ok(DestinationSettings {
            kind,
            events: match &self.events {
                Some(events) => patterns(events)?,
                None => Patterns::everything(),
            },
            limits: Limits {
                concurrency: within(self.concurrency, 1, CONCURRENCY_MAX)?
                    .unwrap_or(defaults.concurrency),
                rate: within(self.rate, 1, RATE_MAX)?,
                timeout: within(self.timeout_seconds, 1, TIMEOUT_SECONDS_MAX)?
                    .map_or(defaults.timeout, Duration::from_secs),
                retry: retry_policy(
                    self.retry_first_seconds,
                    self.retry_max_seconds,
                    self.deadline_hours,
                    self.attempts_max,
                )?,
            },
            name: self.name.into_inner(),
        })
    }
}

fn retry_policy(
    first_seconds: Option<Spanned<u64>>,
    max_seconds: Option<Spanned<u64>>,
    deadline_hours: Option<Spanned<u64>>,
    attempts_max: Option<Spanned<u32>>,
) -> Result<RetryPolicy, Mistake> {
    let defaults = RetryPolicy::default();
    let max_span = max_seconds.as_ref().map(Spanned::span);
    let first_span = first_seconds.as_ref().map(Spanned::span);
    let first =
        within(first_seconds, 1, RETRY_SECONDS_MAX)?.map_or(defaults.first, Duration::from_secs);
    let max = within(max_seconds, 1, RETRY_SECONDS_MAX)?
        .map_or(defaults.max.max(first), Duration::from_secs);
    if first > max
        && let Some(span) = max_span.or(first_span)
    {
        return Err(Mistake::new(
            span,
            "`retry_max_seconds` must not be less than `retry_first_seconds`",
        ));
    }
    Ok(RetryPolicy {
        first,
        max,
        give_up_after: within(deadline_hours, 1, DEADLINE_HOURS_MAX)?
            .map_or(defaults.give_up_after, |hours| {
                Duration::from_secs(hours * 3600)
            }),
        attempts_max: within(attempts_max, 1, ATTEMPTS_MAX)?,
        ..defaults
    })
}

/// What several secrets prove or sign, the newest first; `None` if there is none.
fn webhooks(sources: &[Spanned<SecretSource>]) -> Result<Option<Webhooks>, Mistake> {
    let mut webhooks: Option<Webhooks> = None;
    for source in sources {
        let secret = source
            .get_ref()
            .read_strong()
            .map_err(|problem| Mistake::new(source.span(), problem))?;
        webhooks = Some(match webhooks {
            None => Webhooks::from(&secret),
            Some(webhooks) => webhooks.and(&secret),
        });
    }
    Ok(webhooks)
}

/// Names stand in paths, in logs and on the command line, so they are plain and there is one of each.
fn check_names<'a>(names: impl Iterator<Item = &'a Spanned<String>>) -> Result<(), Mistake> {
    let mut known = HashSet::new();
    for name in names {
        let text = name.get_ref().as_str();
        let is_plain = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !is_plain {
            return Err(Mistake::new(
                name.span(),
                "a name is 1 to 64 lower-case letters, digits, `-` and `_`",
            ));
        }
        if !known.insert(text) {
            return Err(Mistake::new(
                name.span(),
                format!("the name `{text}` is taken by another above: choose a new one"),
            ));
        }
    }
    Ok(())
}

fn store_url(text: &Spanned<String>) -> Result<StoreUrl, Mistake> {
    let mistake = |problem: String| Mistake::new(text.span(), problem);
    let url: StoreUrl = text
        .get_ref()
        .parse()
        .map_err(|error: StoreUrlError| mistake(error.to_string()))?;
    if let StoreUrl::Postgres(address) = &url
        && address.has_password()
    {
        return Err(mistake(
            "a password does not stand in the configuration, which is copied, shown and committed: take it out of the URL and add `password = { env = \"UNWRAPD_STORE_PASSWORD\" }`, or { file = \"PATH\" }".into(),
        ));
    }
    Ok(url)
}

/// The password that the configuration names, or else what other programs for PostgreSQL take.
fn with_password(
    address: PostgresAddress,
    source: Option<Spanned<SecretSource>>,
) -> Result<PostgresAddress, Mistake> {
    let Some(source) = source else {
        return Ok(with_usual_password(address));
    };
    with_password_of(address, source.get_ref())
        .map_err(|problem| Mistake::new(source.span(), problem))
}

pub(super) fn with_usual_password(address: PostgresAddress) -> PostgresAddress {
    let usual = std::env::var("PGPASSWORD").map(Zeroizing::new);
    match usual {
        Ok(password) => address.with_password(&password),
        Err(_) => address,
    }
}

pub(super) fn with_password_of(
    address: PostgresAddress,
    source: &SecretSource,
) -> Result<PostgresAddress, String> {
    let password = source.read_text()?;
    // Files end in a line break, and no password does.
    Ok(address.with_password(password.trim_end_matches(['\r', '\n'])))
}

fn patterns(texts: &Spanned<Vec<Spanned<String>>>) -> Result<Patterns, Mistake> {
    if texts.get_ref().is_empty() {
        return Err(Mistake::new(
            texts.span(),
            "a destination without events would get nothing: leave `events` out to get all of them",
        ));
    }
    for text in texts.get_ref() {
        let pattern = Patterns::parse([text.get_ref().trim_start_matches('!')])
            .map_err(|error| Mistake::new(text.span(), error.to_string()))?;
        if pattern.known().next().is_none() {
            // OpenAI may have added one that we do not know: no reason to refuse.
            let text = text.get_ref();
            tracing::warn!(
                "`{text}` matches no event type that is known today; did you mean `{}`?",
                nearest_type(text)
            );
        }
    }
    Patterns::parse(texts.get_ref().iter().map(|text| text.get_ref().as_str()))
        .map_err(|error| Mistake::new(texts.span(), error.to_string()))
}

pub(super) fn within<T: PartialOrd + std::fmt::Display + Copy>(
    number: Option<Spanned<T>>,
    min: T,
    max: T,
) -> Result<Option<T>, Mistake> {
    let Some(number) = number else {
        return Ok(None);
    };
    if *number.get_ref() < min || *number.get_ref() > max {
        return Err(Mistake::new(
            number.span(),
            format!("this must be {min} to {max}"),
        ));
    }
    Ok(Some(*number.get_ref()))
}
