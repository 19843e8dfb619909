//! The configuration as it is written, and the checks that make it a [`Config`].

mod kind;

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openai_webhooks::Webhooks;
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;
use zeroize::Zeroizing;

use super::document::{Document, Location, Table};
use super::mistakes::{Mistake, Mistakes, looks_secret, shown_pattern};
use super::server::{Server, endpoint_requests};
use super::source::SecretSource;
use super::{Config, DestinationSettings, EndpointSettings, paths};
use crate::delivery::limits::Limits;
use crate::delivery::retry::RetryPolicy;
use crate::route::{Patterns, nearest_pattern};
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
/// Most secrets of an endpoint: some endpoints at OpenAI, each with an old and a new one. A forged
/// request costs an HMAC for each.
const ENDPOINT_SECRETS_MAX: usize = 16;
/// Most event patterns of a destination: several times as many as there are types. Each is compared with every webhook.
const PATTERNS_MAX: usize = 256;
/// Longest name of an endpoint or a destination.
const NAME_BYTES_MAX: usize = 64;

/// The tables of a configuration, each as far as it could be read.
pub(super) struct File {
    /// The folder that paths count from.
    folder: PathBuf,
    server: Table<Server>,
    store: Table<StoreTable>,
    endpoints: Vec<Table<Endpoint>>,
    destinations: Vec<Table<Destination>>,
    /// Whether endpoints stand there that are no tables.
    has_broken_endpoints: bool,
    /// Mistakes outside the tables, and in paths.
    mistakes: Mistakes,
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
    name: Option<Spanned<String>>,
    secrets: Option<Spanned<Vec<Spanned<SecretSource>>>>,
    requests_max: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    name: Option<Spanned<String>>,
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
    pub(super) fn read(mut root: DeTable<'_>, folder: &Path) -> Self {
        let mut mistakes = paths::count_from(folder, &mut root);
        let mut document = Document::of(root, &["server", "store"], &["endpoint", "destination"]);
        let file = Self {
            folder: folder.to_owned(),
            server: document.single("server"),
            store: document.single("store"),
            endpoints: document.listed("endpoint"),
            destinations: document.listed("destination"),
            has_broken_endpoints: document.is_broken("endpoint"),
            mistakes: Mistakes::default(),
        };
        mistakes.add(document.mistakes);
        Self { mistakes, ..file }
    }

    /// Only where messages are kept: for who needs no secrets.
    pub(super) fn check_store(mut self) -> Result<StoreSettings, Mistakes> {
        // To look at a file takes no password.
        if let Some(store) = &mut self.store.value {
            store.password = None;
        }
        self.check_store_to_open()
    }

    /// Where messages are kept, and the password for that: for who needs no other secrets.
    pub(super) fn check_store_to_open(self) -> Result<StoreSettings, Mistakes> {
        let mut mistakes = self.mistakes;
        let store = keep(&mut mistakes, self.store, |store, _| {
            store.check(&self.folder)
        });
        mistakes.check()?;
        Ok(store.expect("without a mistake there is one"))
    }

    pub(super) fn check(self) -> Result<Config, Mistakes> {
        let mut mistakes = self.mistakes;
        if self.endpoints.is_empty() && !self.has_broken_endpoints {
            mistakes.add(Mistake::whole(
                "there is no [[endpoint]], so nothing can be received: add one with a `name` and its `secrets`",
            ));
        }
        if let Some(surplus) = self.destinations.get(DELIVERIES_MAX) {
            mistakes.add(Mistake::new(
                surplus.location.span(),
                format!("{DELIVERIES_MAX} destinations are the limit: remove this one"),
            ));
        }
        let name = |value: &Option<Endpoint>| value.as_ref().and_then(|one| one.name.clone());
        check_names(&mut mistakes, &self.endpoints, name);
        let name = |value: &Option<Destination>| value.as_ref().and_then(|one| one.name.clone());
        check_names(&mut mistakes, &self.destinations, name);
        let server = keep(&mut mistakes, self.server, |server, location| {
            let mut mistakes = Mistakes::default();
            let listen = mistakes.keep(server.listen());
            let admin = mistakes.keep(server.admin(location));
            let settings = mistakes.keep(server.check(location));
            mistakes.check()?;
            Ok(listen.zip(admin).zip(settings))
        });
        let store = keep(&mut mistakes, self.store, |store, _| {
            store.check(&self.folder)
        });
        let mut endpoints = Vec::new();
        for endpoint in self.endpoints {
            endpoints.extend(keep(&mut mistakes, endpoint, Endpoint::check));
        }
        let mut destinations = Vec::new();
        for destination in self.destinations {
            if let (Some(destination), Some(store)) = (&destination.value, &store) {
                mistakes.keep(destination.refuse_files_of_the_store(&store.url));
            }
            destinations.extend(keep(&mut mistakes, destination, Destination::check));
        }
        mistakes.check()?;
        let ((listen, (admin, admin_token)), server) =
            server.flatten().expect("without a mistake there is one");
        Ok(Config {
            listen,
            admin,
            admin_token,
            server,
            store: store.expect("without a mistake there is one"),
            endpoints,
            destinations,
        })
    }
}

/// The checked value of a table; `None` if it has mistakes, which are added to the others.
fn keep<T, C>(
    mistakes: &mut Mistakes,
    table: Table<T>,
    check: impl FnOnce(T, &Location) -> Result<C, Mistakes>,
) -> Option<C> {
    mistakes.add(table.mistakes);
    mistakes.keep(check(table.value?, &table.location))
}

impl StoreTable {
    fn check(self, folder: &Path) -> Result<StoreSettings, Mistakes> {
        let defaults = Bounds::default();
        let mut mistakes = Mistakes::default();
        let url = match &self.url {
            Some(url) => mistakes.keep(store_url(url, folder)),
            None => Some(StoreUrl::Sqlite(folder.join(STORE_PATH))),
        };
        let url = match url {
            Some(StoreUrl::Postgres(address)) => {
                if let Some(size_max) = &self.size_max_mb {
                    mistakes.add(Mistake::new(
                        size_max.span(),
                        "`size_max_mb` is for SQLite files: for PostgreSQL shorten `retention_days` or lower `undelivered_max`, and watch the disk of the server",
                    ));
                }
                mistakes
                    .keep(with_password(*address, self.password))
                    .map(|address| StoreUrl::Postgres(Box::new(address)))
            }
            Some(StoreUrl::Sqlite(path)) => {
                if let Some(password) = self.password {
                    mistakes.add(Mistake::new(
                        password.span(),
                        "an SQLite file has no password: remove it, or name a database, such as \"postgres://unwrapd@db.internal/unwrapd\", in `url`",
                    ));
                }
                Some(StoreUrl::Sqlite(path))
            }
            None => None,
        };
        let dedupe = within(
            "dedupe_days",
            self.dedupe_days,
            DEDUPE_DAYS_MIN,
            DEDUPE_DAYS_MAX,
        );
        let dedupe = mistakes.keep(dedupe);
        let undelivered_max = within("undelivered_max", self.undelivered_max, 1, UNDELIVERED_MAX);
        let undelivered_max = mistakes.keep(undelivered_max);
        let retention = within("retention_days", self.retention_days, 1, RETENTION_DAYS_MAX);
        let retention = mistakes.keep(retention);
        let size_max = within("size_max_mb", self.size_max_mb, SIZE_MB_MIN, SIZE_MB_MAX);
        let size_max = mistakes.keep(size_max);
        mistakes.check()?;
        Ok(StoreSettings {
            url: url.expect("without a mistake there is one"),
            bounds: Bounds {
                dedupe: dedupe.flatten().map_or(defaults.dedupe, days),
                undelivered_max: undelivered_max
                    .flatten()
                    .unwrap_or(defaults.undelivered_max),
                retention: retention.flatten().map_or(defaults.retention, days),
                size_max: size_max
                    .flatten()
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
    fn check(self, location: &Location) -> Result<EndpointSettings, Mistakes> {
        let mut mistakes = Mistakes::default();
        let name = mistakes.keep(required(self.name, "name", location));
        let secrets = mistakes.keep(required(self.secrets, "secrets", location));
        let webhooks = secrets.flatten().and_then(|secrets| {
            if secrets.get_ref().len() > ENDPOINT_SECRETS_MAX {
                mistakes.add(Mistake::new(
                    secrets.span(),
                    format!(
                        "there are more than {ENDPOINT_SECRETS_MAX} secrets: remove those that OpenAI no longer signs with"
                    ),
                ));
                return None;
            }
            let webhooks = mistakes.keep(webhooks(secrets.get_ref()))?;
            if webhooks.is_none() && !location.is_broken("secrets") {
                mistakes.add(Mistake::absence(
                    secrets.span(),
                    "an endpoint needs a secret to verify webhooks with: add `{ env = \"OPENAI_WEBHOOK_SECRET\" }`",
                ));
            }
            webhooks
        });
        let requests_max = mistakes.keep(endpoint_requests(self.requests_max));
        mistakes.check()?;
        // What is missing without a mistake of this check is told as one of the table.
        match (name.flatten(), webhooks, requests_max) {
            (Some(name), Some(webhooks), Some(requests_max)) => Ok(EndpointSettings {
                name: name.into_inner(),
                webhooks,
                requests_max,
            }),
            _ => Err(Mistakes::default()),
        }
    }
}

/// A key that must stand there. `None`: it does, and what is wrong with it is told already.
fn required<T>(
    value: Option<Spanned<T>>,
    key: &str,
    location: &Location,
) -> Result<Option<Spanned<T>>, Mistake> {
    if value.is_none() && !location.is_broken(key) {
        return Err(missing(location.span(), key));
    }
    Ok(value)
}

/// About a table without a key that it must have.
pub(super) fn missing(table: Range<usize>, key: &str) -> Mistake {
    Mistake::absence(table, format!("the key `{key}` is missing here: add it"))
}

impl Destination {
    fn check(mut self, location: &Location) -> Result<DestinationSettings, Mistakes> {
        let mut mistakes = Mistakes::default();
        let name = mistakes.keep(required(self.name.clone(), "name", location));
        let kind = mistakes.keep(self.kind(location)).flatten();
        let defaults = Limits::default();
        let events = match &self.events {
            Some(events) => mistakes.keep(patterns(events, location)),
            None => Some(Patterns::everything()),
        };
        let concurrency = within("concurrency", self.concurrency, 1, CONCURRENCY_MAX);
        let concurrency = mistakes.keep(concurrency);
        let rate = mistakes.keep(within("rate", self.rate, 1, RATE_MAX));
        let timeout = within(
            "timeout_seconds",
            self.timeout_seconds,
            1,
            TIMEOUT_SECONDS_MAX,
        );
        let timeout = mistakes.keep(timeout);
        let retry = mistakes.keep(retry_policy(
            self.retry_first_seconds,
            self.retry_max_seconds,
            self.deadline_hours,
            self.attempts_max,
        ));
        mistakes.check()?;
        match (name.flatten(), kind, events, retry) {
            (Some(name), Some(kind), Some(events), Some(retry)) => Ok(DestinationSettings {
                name: name.into_inner(),
                kind,
                events,
                limits: Limits {
                    concurrency: concurrency.flatten().unwrap_or(defaults.concurrency),
                    rate: rate.flatten(),
                    timeout: timeout
                        .flatten()
                        .map_or(defaults.timeout, Duration::from_secs),
                    retry,
                },
            }),
            _ => Err(Mistakes::default()),
        }
    }
}

fn retry_policy(
    first_seconds: Option<Spanned<u64>>,
    max_seconds: Option<Spanned<u64>>,
    deadline_hours: Option<Spanned<u64>>,
    attempts_max: Option<Spanned<u32>>,
) -> Result<RetryPolicy, Mistakes> {
    let defaults = RetryPolicy::default();
    let mut mistakes = Mistakes::default();
    let max_span = max_seconds.as_ref().map(Spanned::span);
    let first_span = first_seconds.as_ref().map(Spanned::span);
    let seconds = |key, number| within(key, number, 1, RETRY_SECONDS_MAX);
    let first = mistakes.keep(seconds("retry_first_seconds", first_seconds));
    let max = mistakes.keep(seconds("retry_max_seconds", max_seconds));
    let give_up_after = within("deadline_hours", deadline_hours, 1, DEADLINE_HOURS_MAX);
    let give_up_after = mistakes.keep(give_up_after);
    let attempts_max = mistakes.keep(within("attempts_max", attempts_max, 1, ATTEMPTS_MAX));
    mistakes.check()?;
    let first = first.flatten().map_or(defaults.first, Duration::from_secs);
    let max = max
        .flatten()
        .map_or(defaults.max.max(first), Duration::from_secs);
    if first > max
        && let Some(span) = max_span.or(first_span)
    {
        return Err(Mistake::new(
            span,
            "`retry_max_seconds` must not be less than `retry_first_seconds`",
        )
        .into());
    }
    Ok(RetryPolicy {
        first,
        max,
        give_up_after: give_up_after
            .flatten()
            .map_or(defaults.give_up_after, |hours| {
                Duration::from_secs(hours * 3600)
            }),
        attempts_max: attempts_max.flatten(),
        ..defaults
    })
}

/// A verifier and signer with several secrets, the newest first; `None` if there is none.
fn webhooks(sources: &[Spanned<SecretSource>]) -> Result<Option<Webhooks>, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut webhooks: Option<Webhooks> = None;
    for source in sources {
        let secret = source
            .get_ref()
            .read_strong()
            .map_err(|problem| Mistake::new(source.span(), problem));
        let Some(secret) = mistakes.keep(secret) else {
            continue;
        };
        webhooks = Some(match webhooks {
            None => Webhooks::from(&secret),
            Some(webhooks) => webhooks.and(&secret),
        });
    }
    mistakes.check()?;
    Ok(webhooks)
}

/// Names stand in paths, in logs and on the command line, so they are plain and there is one of each.
fn check_names<T>(
    mistakes: &mut Mistakes,
    tables: &[Table<T>],
    name: impl Fn(&Option<T>) -> Option<Spanned<String>>,
) {
    let mut known = HashSet::new();
    for name in tables.iter().filter_map(|table| name(&table.value)) {
        let text = name.get_ref();
        let is_plain = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        let span: Range<usize> = name.span();
        if !is_plain {
            mistakes.add(Mistake::new(
                span,
                "a name is 1 to 64 lower-case letters, digits, `-` and `_`",
            ));
        } else if !known.insert(text.clone()) {
            mistakes.add(Mistake::new(
                span,
                format!("the name `{text}` is already used above: choose another"),
            ));
        }
    }
}

fn store_url(text: &Spanned<String>, folder: &Path) -> Result<StoreUrl, Mistake> {
    let mistake = |problem: String| Mistake::new(text.span(), problem);
    let url: StoreUrl = text
        .get_ref()
        .parse()
        .map_err(|error: StoreUrlError| mistake(error.to_string()))?;
    match url {
        StoreUrl::Sqlite(path) => {
            paths::check(&path.to_string_lossy()).map_err(mistake)?;
            Ok(StoreUrl::Sqlite(paths::from_folder(folder, &path)))
        }
        StoreUrl::Postgres(address) if address.has_password() => Err(mistake(
            "a password must not be in the configuration, which is copied, shown and committed: remove it from the URL and add `password = { env = \"UNWRAPD_STORE_PASSWORD\" }`, or { file = \"PATH\" }".into(),
        )),
        StoreUrl::Postgres(address) => {
            Ok(StoreUrl::Postgres(Box::new(address.with_files_from(folder))))
        }
    }
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
        if pattern.is_some_and(|pattern| pattern.known().next().is_none()) {
            // OpenAI may have added one that we do not know: no reason to refuse.
            let text = text.get_ref();
            tracing::warn!(
                "`{}` matches no event type that is known today; did you mean `{}`?",
                shown_pattern(text),
                nearest_pattern(text)
            );
        }
    }
    mistakes.check()?;
    Patterns::parse(texts.get_ref().iter().map(|text| text.get_ref().as_str()))
        .map_err(|error| Mistake::new(texts.span(), error.to_string()).into())
}

/// The number under `key`, if there is one, and if it lies between `min` and `max`.
pub(super) fn within<T: PartialOrd + std::fmt::Display + Copy>(
    key: &str,
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
            format!("`{key}` must be {min} to {max}"),
        ));
    }
    Ok(Some(*number.get_ref()))
}
