//! `unwrapd gateways`: those that share the store with a running one.

use clap::Args;
use serde_json::Value;

use super::admin::AdminArguments;
use super::replay::{say_json, talk};
use super::text::table;
use super::{Failure, Output, say};
use crate::admin::Gateways;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let answer: Value = arguments.admin.open()?.get(&["gateways"], &[]).await?;
    if arguments.output == Output::Json {
        return say_json(&answer);
    }
    let Gateways { gateways } = serde_json::from_value(answer)?;
    if gateways.is_empty() {
        talk("nobody shares a store in an SQLite file\n");
        return Ok(());
    }
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
    Ok(say!("{}", table(&heads, &rows).trim_end())?)
}

/// As a number that can be divided exactly enough.
fn clamped(milliseconds: u64) -> u32 {
    u32::try_from(milliseconds).unwrap_or(u32::MAX)
}
