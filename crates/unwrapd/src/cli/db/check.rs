//! `unwrapd db check`: checks that the store is undamaged and consistent.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Configured, check_there, failure};
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{outln, plain};
use crate::cli::output::OutputArguments;
use crate::config::{Config, named_store};
use crate::store::{StoreUrl, postgres, sqlite};

/// Whether the text is a URL, and not a path.
fn is_url(text: &str) -> bool {
    text.starts_with("sqlite:") || text.contains("://")
}

#[derive(Args)]
#[command(after_help = "Exit code: 0 if the store is sound, 1 if it is not.")]
pub(crate) struct Arguments {
    /// File of a store or a backup, or URL of a database [default: from the configuration]
    #[arg(value_name = "STORE")]
    store: Option<PathBuf>,
    /// File with the password of that database, instead of the environment variable PGPASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    configured: Configured,
    /// Skip the comparison of indexes and tables: several times as fast
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    /// The store to be checked.
    fn url(&self) -> Result<StoreUrl, Failure> {
        let Some(store) = &self.store else {
            return Ok(Config::read_store_to_open(self.configured.path())?.url);
        };
        // A path need not be text.
        match store.to_str() {
            Some(url) if is_url(url) => {
                named_store(url, self.password_file.as_deref()).map_err(usage)
            }
            _ => Ok(StoreUrl::Sqlite(store.clone())),
        }
    }
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let url = arguments.url()?;
    let name = match &url {
        StoreUrl::Sqlite(path) => path.display().to_string(),
        StoreUrl::Postgres(address) => format!("the store {address}"),
    };
    let checks = match &url {
        StoreUrl::Sqlite(path) => {
            check_there(path)?;
            let dedupe = arguments.configured.bounds()?.unwrap_or_default().dedupe;
            sqlite::check(path, dedupe, arguments.quick, Timestamp::now())
                .map_err(|error| failure(path, error))?
        }
        StoreUrl::Postgres(address) => postgres::check(address)
            .await
            .map_err(|error| anyhow::Error::from(error).context(name.clone()))?
            .ok_or_else(|| Failure::NotFound(anyhow::anyhow!("{name} does not exist")))?,
    };
    let is_sound = checks.iter().all(|check| check.result.is_ok());
    let told: Vec<_> = checks
        .iter()
        .map(|check| {
            let (Ok(detail) | Err(detail)) = &check.result;
            json!({ "name": check.name, "ok": check.result.is_ok(), "detail": detail })
        })
        .collect();
    let answer = json!({ "sound": is_sound, "checks": told });
    arguments.output.print(answer, |_| {
        for check in &checks {
            let (result, Ok(detail) | Err(detail)) = match &check.result {
                result @ Ok(_) => ("ok", result),
                result @ Err(_) => ("FAILED", result),
            };
            outln!("{:<10} {result:<7} {}", check.name, plain(detail))?;
        }
        Ok(outln!("{}", if is_sound { "sound" } else { "not sound" })?)
    })?;
    if is_sound {
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "{name} is not sound: stop the gateways, keep a copy of the store, and restore a backup. If the disk is good, please report this"
    )))
}
