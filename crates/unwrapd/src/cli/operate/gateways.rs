//! `unwrapd gateways`: the gateways that share the store of a running one.

use clap::Args;

use super::query::QueryArguments;
use crate::api::{GatewayList, GatewayView};
use crate::cli::failure::Failure;
use crate::cli::format::{outln, table};
use crate::cli::stderr::message;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    ask: QueryArguments,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let known: GatewayList = arguments.ask.admin.open()?.get(&["gateways"], &[]).await?;
    let is_current = known.is_current;
    arguments.ask.print(known, |known| {
        if known.gateways.is_empty() {
            message("this list is for PostgreSQL; an SQLite store has only one gateway\n");
            return Ok(());
        }
        show(known.gateways)
    })?;
    if is_current {
        return Ok(());
    }
    Err(Failure::TryLater(anyhow::anyhow!(
        "this gateway cannot reach the database, so the list is as old as the column HEARD shows: see its /readyz, or query another gateway"
    )))
}

fn show(gateways: Vec<GatewayView>) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = gateways
        .into_iter()
        .map(|gateway| {
            let configuration = if gateway.is_this {
                "(this one)".into()
            } else if gateway.differs_in.is_empty() {
                "the same".into()
            } else {
                format!("differs: {}", gateway.differs_in.join(", "))
            };
            let limits = if gateway.takes_part {
                "part"
            } else {
                "joining"
            };
            let heard = format!(
                "{:.1} s ago",
                f64::from(clamped(gateway.silent_ms)) / 1000.0
            );
            vec![gateway.name, limits.into(), heard, configuration]
        })
        .collect();
    let heads = ["GATEWAY", "LIMITS", "HEARD", "CONFIGURATION"];
    Ok(outln!("{}", table(&heads, &rows).trim_end())?)
}

/// A number that converts to `f64` without loss.
fn clamped(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds).unwrap_or(u32::MAX)
}
