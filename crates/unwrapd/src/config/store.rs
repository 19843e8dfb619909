//! The table `[store]`. The store itself reads no TOML, so its keys are here.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use crate::settings_file::{
    Key, Keys, Mistake, Mistakes, SecretSource, Table, check_path, differing, from_folder,
};
use crate::store::postgres::PostgresAddress;
use crate::store::{Bounds, StoreSettings, StoreUrl, StoreUrlError};

/// The file of the store unless set, beside the configuration.
const PATH_USUAL: &str = "unwrapd.db";
/// OpenAI sends a webhook again for 72 hours. A shorter memory would take a copy for a new one.
const DEDUPE_DAYS_MIN: u64 = 3;
/// Longest time an id is remembered: all of them are held in memory.
const DEDUPE_DAYS_MAX: u64 = 365;
/// Longest time a message is stored: ten years.
const RETENTION_DAYS_MAX: u64 = 3650;
/// Smallest store that is worth having, in MiB: some thousands of messages.
const SIZE_MB_MIN: u64 = 16;
/// Largest store, in MiB: 16 TiB.
const SIZE_MB_MAX: u64 = 16 * 1024 * 1024;
/// Most deliveries that may be allowed to wait.
const UNDELIVERED_MAX: u64 = 1_000_000_000;

#[derive(Default, Deserialize)]
struct StoreKeys {
    url: Key<String>,
    password: Key<SecretSource>,
    dedupe_days: Key<u64>,
    undelivered_max: Key<u64>,
    retention_days: Key<u64>,
    size_max_mb: Key<u64>,
}

impl Keys for StoreKeys {}

/// The purpose for which the settings of the store are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To open the store, which may take a password.
    Open,
    /// To look at its files, which takes none.
    Look,
}

/// Reads the table, and adds its mistakes. Paths start at `folder`. `None`: the value of a key is
/// wrong. A key that cannot be read is left out, so that other tables are checked with the rest.
pub(super) fn read(
    mut table: Table<'_>,
    folder: &Path,
    purpose: Use,
    mistakes: &mut Mistakes,
) -> Option<StoreSettings> {
    let mut keys: StoreKeys = table.take();
    if purpose == Use::Look {
        keys.password = None;
    }
    let settings = table.keep(keys.check(folder));
    mistakes.keep(table.end());
    settings
}

impl StoreKeys {
    fn check(self, folder: &Path) -> Result<StoreSettings, Mistakes> {
        let defaults = Bounds::default();
        let mut mistakes = Mistakes::default();
        let url = match &self.url {
            Some(url) => mistakes.keep(store_url(url, folder)),
            None => Some(StoreUrl::Sqlite(folder.join(PATH_USUAL))),
        };
        let url = match url {
            Some(StoreUrl::Postgres(address)) => {
                if let Some(size_max) = &self.size_max_mb {
                    mistakes.add(Mistake::new(
                        size_max.span(),
                        "`size_max_mb` is for SQLite files: for PostgreSQL shorten \
                         `retention_days` or lower `undelivered_max`, and watch the disk of the \
                         server",
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
                        "an SQLite file has no password: remove it, or name a database, such as \
                         \"postgres://unwrapd@db.internal/unwrapd\", in `url`",
                    ));
                }
                Some(StoreUrl::Sqlite(path))
            }
            None => None,
        };
        let dedupe = DEDUPE_DAYS_MIN..=DEDUPE_DAYS_MAX;
        let dedupe = mistakes.keep_number("dedupe_days", self.dedupe_days, dedupe);
        let undelivered = 1..=UNDELIVERED_MAX;
        let undelivered =
            mistakes.keep_number("undelivered_max", self.undelivered_max, undelivered);
        let retention = 1..=RETENTION_DAYS_MAX;
        let retention = mistakes.keep_number("retention_days", self.retention_days, retention);
        let size = SIZE_MB_MIN..=SIZE_MB_MAX;
        let size = mistakes.keep_number("size_max_mb", self.size_max_mb, size);
        mistakes.check()?;
        Ok(StoreSettings {
            url: url.expect("without a mistake there is one"),
            bounds: Bounds {
                dedupe: dedupe.map_or(defaults.dedupe, days),
                undelivered_max: undelivered.unwrap_or(defaults.undelivered_max),
                retention: retention.map_or(defaults.retention, days),
                size_max: size
                    .map(|mebibytes| mebibytes * 1024 * 1024)
                    .or(defaults.size_max),
            },
        })
    }
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

fn store_url(text: &Spanned<String>, folder: &Path) -> Result<StoreUrl, Mistake> {
    let mistake = |problem: String| Mistake::new(text.span(), problem);
    let url: StoreUrl = text
        .get_ref()
        .parse()
        .map_err(|error: StoreUrlError| mistake(error.to_string()))?;
    match url {
        StoreUrl::Sqlite(path) => {
            check_path(&path.to_string_lossy()).map_err(mistake)?;
            Ok(StoreUrl::Sqlite(from_folder(folder, &path)))
        }
        StoreUrl::Postgres(address) if address.has_password() => Err(mistake(
            "a password must not be in the configuration, which is copied, shown and committed: \
             remove it from the URL and add `password = { env = \"UNWRAPD_STORE_PASSWORD\" }`, or \
             { file = \"PATH\" }"
                .into(),
        )),
        StoreUrl::Postgres(address) => Ok(StoreUrl::Postgres(Box::new(
            address.with_files_from(folder),
        ))),
    }
}

/// The password that the configuration names, or else what other programs for PostgreSQL take.
fn with_password(
    address: PostgresAddress,
    source: Key<SecretSource>,
) -> Result<PostgresAddress, Mistake> {
    let Some(source) = source else {
        return Ok(with_usual_password(address));
    };
    with_password_of(address, source.get_ref())
        .map_err(|problem| Mistake::new(source.span(), problem))
}

fn with_usual_password(address: PostgresAddress) -> PostgresAddress {
    let usual = std::env::var("PGPASSWORD").map(Zeroizing::new);
    match usual {
        Ok(password) => address.with_password(&password),
        Err(_) => address,
    }
}

fn with_password_of(
    address: PostgresAddress,
    source: &SecretSource,
) -> Result<PostgresAddress, String> {
    let password = source.read_text()?;
    // Files end in a line break, and no password does.
    Ok(address.with_password(password.trim_end_matches(['\r', '\n'])))
}

/// The store that a command line names, with the password from this file, or else from where other
/// programs for PostgreSQL take it.
pub(crate) fn named_store(url: &str, password_file: Option<&Path>) -> Result<StoreUrl, String> {
    let url: StoreUrl = url
        .parse()
        .map_err(|error: StoreUrlError| error.to_string())?;
    let StoreUrl::Postgres(address) = url else {
        return Ok(url);
    };
    if address.has_password() {
        return Err(
            "a password must not be on the command line, which every user of the machine can see: \
             remove it from the URL, change it, and put it into the environment variable \
             PGPASSWORD or into a file for --password-file"
                .into(),
        );
    }
    let address = match password_file {
        Some(file) => with_password_of(*address, &SecretSource::File(file.to_owned()))?,
        None => with_usual_password(*address),
    };
    Ok(StoreUrl::Postgres(Box::new(address)))
}

/// The keys in which the settings differ. All take effect only after a restart.
pub(super) fn changed_keys(
    before: &StoreSettings,
    after: &StoreSettings,
) -> impl Iterator<Item = &'static str> {
    let (old, new) = (&before.bounds, &after.bounds);
    differing([
        ("[store] url or password", before.url != after.url),
        ("[store] dedupe_days", old.dedupe != new.dedupe),
        (
            "[store] undelivered_max",
            old.undelivered_max != new.undelivered_max,
        ),
        ("[store] retention_days", old.retention != new.retention),
        ("[store] size_max_mb", old.size_max != new.size_max),
    ])
}
