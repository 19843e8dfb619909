//! `unwrapd db check`: whether the store is whole.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Configured, failure};
use crate::cli::{Failure, Output, say};
use crate::store::sqlite;

#[derive(Args)]
#[command(after_help = "Ends with 0 if the store is sound, with 1 if it is not.")]
pub(crate) struct Arguments {
    /// The store, or a backup [default: the one that the configuration names]
    #[arg(value_name = "STORE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    configured: Configured,
    /// Leave out whether the indexes agree with the tables: some times as fast
    #[arg(long)]
    quick: bool,
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (path, settings) = arguments.configured.find(arguments.file.as_deref())?;
    let dedupe = settings.bounds.dedupe;
    let checks = sqlite::check(&path, dedupe, arguments.quick, Timestamp::now())
        .map_err(|error| failure(&path, error))?;
    let is_sound = checks.iter().all(|check| check.result.is_ok());
    match arguments.output {
        Output::Human => {
            for check in &checks {
                let (result, Ok(detail) | Err(detail)) = match &check.result {
                    result @ Ok(_) => ("ok", result),
                    result @ Err(_) => ("FAILED", result),
                };
                say!("{:<10} {result:<7} {detail}", check.name)?;
            }
            say!("{}", if is_sound { "sound" } else { "not sound" })?;
        }
        Output::Json => {
            let checks: Vec<_> = checks
                .iter()
                .map(|check| {
                    let (Ok(detail) | Err(detail)) = &check.result;
                    json!({ "name": check.name, "ok": check.result.is_ok(), "detail": detail })
                })
                .collect();
            say!("{}", json!({ "sound": is_sound, "checks": checks }))?;
        }
    }
    if is_sound {
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "{} is not sound: stop the gateway, keep the file, and restore a backup; report it if the disk is good",
        path.display()
    )))
}
