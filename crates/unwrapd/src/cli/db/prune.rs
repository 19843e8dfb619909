//! `unwrapd db prune`: deletes old messages while no gateway runs, and frees their space.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Configured, failure, megabytes};
use crate::cli::consent::ConsentArguments;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::outln;
use crate::cli::output::OutputArguments;
use crate::cli::stderr::message;
use crate::clock::{START_GAP, START_TOLD};
use crate::delivery::later;
use crate::printable::counted;
use crate::store::sqlite;
use crate::store::sqlite::SqliteStore;
use crate::store::{Bounds, Lifecycle as _, Maintenance as _, StoreError};

#[derive(Args)]
#[command(
    after_help = "--dry-run also works beside a running gateway. Messages that wait for delivery are never\n\
    deleted, and ids are kept for `dedupe_days`. Freed space is used again, but the file becomes\n\
    smaller only with --vacuum, which needs free space of up to twice the final size."
)]
pub(crate) struct Arguments {
    /// File of the store [default: the one in the configuration]
    #[arg(value_name = "STORE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    configured: Configured,
    /// Delete messages that arrived and were settled longer ago [default: `retention_days`]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(0..=36_500))]
    older_than: Option<u64>,
    #[command(flatten)]
    consent: ConsentArguments,
    /// Count ages by the clock of this machine, even if no gateway has seen that time yet
    #[arg(long)]
    trust_clock: bool,
    /// Also make the file smaller
    #[arg(long, conflicts_with = "dry_run")]
    vacuum: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = arguments.configured.find(arguments.file.as_deref())?;
    // Deleted messages do not come back, so the retention and dedupe times are never guessed.
    let mut bounds = arguments.configured.bounds()?.ok_or_else(|| {
        usage("name the configuration of the gateway with --config: it has `retention_days` and `dedupe_days`")
    })?;
    if let Some(days) = arguments.older_than {
        bounds.retention = Duration::from_secs(days * 24 * 3600);
    }
    // Only the messages of the plan are deleted: a gateway frees space by itself when it needs
    // some.
    bounds.size_max = None;
    let now = time(&path, arguments.trust_clock)?;
    let (messages, bytes) =
        sqlite::prunable(&path, &bounds, now).map_err(|error| failure(&path, error))?;
    if arguments.consent.dry_run {
        let answer = json!({ "messages": messages, "payload_bytes": bytes });
        return arguments.output.print(answer, |_| {
            Ok(outln!(
                "would delete {} with {} of payload",
                self::messages(messages),
                megabytes(bytes)
            )?)
        });
    }

    if messages > 0 {
        let payload = megabytes(bytes);
        arguments.consent.ask(&format!(
            "Delete {} with {payload} of payload",
            self::messages(messages)
        ))?;
    }
    let forgotten = forget(&path, &bounds, now)
        .await
        .map_err(|error| in_use(&path, error))?;
    let sizes = if arguments.vacuum {
        Some(sqlite::vacuum(&path).map_err(|error| in_use(&path, error))?)
    } else {
        None
    };
    let answer = match sizes {
        None => json!({ "messages": forgotten }),
        Some((before, after)) => {
            json!({ "messages": forgotten, "bytes_before": before, "bytes_after": after })
        }
    };
    arguments.output.print(answer, |_| {
        let space = match sizes {
            None => "the freed space is used again".into(),
            Some((before, after)) => {
                format!(
                    "the file had {} and has {}",
                    megabytes(before),
                    megabytes(after)
                )
            }
        };
        Ok(outln!("deleted {}; {space}", self::messages(forgotten))?)
    })
}

/// The time by which ages are counted. A clock that is far ahead of the last gateway's time may be
/// wrong, and deleted messages do not come back: then that gateway's time is used.
fn time(path: &Path, trusts_clock: bool) -> Result<Timestamp, Failure> {
    let wall = Timestamp::now();
    let remembered = sqlite::remembered_at(path).map_err(|error| failure(path, error))?;
    match remembered {
        Some(remembered) if !trusts_clock && wall > later(remembered, START_GAP) => {
            if wall.duration_since(remembered) > START_TOLD {
                message(&format!(
                    "the clock of this machine is ahead of the time at which the last gateway ran, \
                     {remembered:.0}: ages are counted by that time. If the clock is right, use \
                     --trust-clock\n"
                ));
            }
            Ok(remembered)
        }
        _ => Ok(wall),
    }
}

fn messages(count: u64) -> String {
    counted(count, "message", "messages")
}

async fn forget(path: &Path, bounds: &Bounds, now: Timestamp) -> Result<u64, StoreError> {
    let store = SqliteStore::open(path, bounds, now)?;
    let mut messages = 0;
    loop {
        let pruned = store.prune(now).await?;
        messages += pruned.messages;
        if !pruned.is_more {
            break;
        }
    }
    store.close().await;
    Ok(messages)
}

fn in_use(path: &Path, error: StoreError) -> Failure {
    match error {
        StoreError::InUse(_) => Failure::TryLater(anyhow::anyhow!(
            "a gateway is running on {}: it deletes old messages by itself; to do it by hand, stop the gateway first",
            path.display()
        )),
        error => failure(path, error),
    }
}
