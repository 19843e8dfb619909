//! `unwrapd db`: checks, copies and prunes the store, beside a running gateway or without one.

mod backup;
mod check;
mod copy;
mod prune;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::{Failure, usage};
use super::format::shown_path;
use crate::config::Config;
use crate::store::sqlite::access::{Wish, explain};
use crate::store::{Bounds, StoreError, StoreUrl};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Check that the store is undamaged and consistent; reads only, also beside a gateway
    Check(check::Arguments),
    /// Copy the store into a file, also beside a running gateway
    Backup(backup::Arguments),
    /// Move the store from SQLite into PostgreSQL or back, while no gateway runs
    Copy(copy::Arguments),
    /// Delete old messages, and free their space; a running gateway does this by itself
    Prune(prune::Arguments),
}

pub(super) async fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Check(arguments) => check::run(arguments).await,
        Command::Backup(arguments) => backup::run(arguments),
        Command::Copy(arguments) => copy::run(arguments).await,
        Command::Prune(arguments) => prune::run(arguments).await,
    }
}

/// The configuration that names the store and its retention.
#[derive(Args)]
struct Configured {
    /// The configuration file that names the store [default: unwrapd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Configured {
    fn path(&self) -> &Path {
        self.config
            .as_deref()
            .unwrap_or_else(|| Path::new("unwrapd.toml"))
    }

    /// Whether the file exists, or was given on the command line.
    fn is_there(&self) -> bool {
        self.config.is_some() || self.path().exists()
    }

    /// The file of the store: the given one, or else the one in the configuration.
    fn find(&self, file: Option<&Path>) -> Result<PathBuf, Failure> {
        let url = match file {
            Some(file) => StoreUrl::Sqlite(file.to_owned()),
            None => Config::read_store(self.path())?.url,
        };
        let StoreUrl::Sqlite(path) = url else {
            return Err(usage(
                "this command is for SQLite files, and the store is in PostgreSQL: use pg_dump and \
                 the tools of your server; the gateways delete old messages by themselves",
            ));
        };
        check_there(&path)?;
        Ok(path)
    }

    /// Retention and dedupe times, if a configuration has them.
    fn bounds(&self) -> Result<Option<Bounds>, Failure> {
        if !self.is_there() {
            return Ok(None);
        }
        Ok(Some(Config::read_store(self.path())?.bounds))
    }
}

/// A command that only reads must not create a store.
fn check_there(path: &Path) -> Result<(), Failure> {
    match path.try_exists() {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        // The file may exist. Without the permission, this process cannot check.
        Err(error) => {
            let problem = explain(path, Wish::Read, &error);
            return Err(anyhow::Error::msg(problem).into());
        }
    }
    Err(Failure::NotFound(anyhow::anyhow!(
        "there is no store at {}",
        shown_path(path)
    )))
}

fn failure(path: &Path, error: StoreError) -> Failure {
    anyhow::Error::from(error)
        .context(path.display().to_string())
        .into()
}

fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let megabytes = bytes as f64 / f64::from(1024 * 1024);
    format!("{megabytes:.1} MB")
}
