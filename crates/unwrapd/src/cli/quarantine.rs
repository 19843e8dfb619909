//! `unwrapd quarantine`: what could not be proven, to look at, prove again, or drop.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::ask::{AskArguments, Listed};
use super::talk::talk;
use super::text::short;
use super::{Failure, say, usage};
use crate::admin::{DroppedSuspects, ShownSuspect, Suspects, Which};
use crate::quarantine::Retried;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the requests, and why each was refused
    Ls(Ls),
    /// Prove requests with the secrets of today, at the time they arrived, and accept those that are authentic
    Retry(Chosen),
    /// Drop requests
    Drop(Chosen),
}

#[derive(Args)]
struct Ls {
    /// Only those behind this number: the next page
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    #[command(flatten)]
    ask: AskArguments,
}

#[derive(Args)]
struct Chosen {
    /// Number of the request in the list
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    number: Option<i64>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ask: AskArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Ls(arguments) => ls(arguments).await,
        Command::Retry(arguments) => retry(arguments).await,
        Command::Drop(arguments) => discard(arguments).await,
    }
}

async fn ls(arguments: &Ls) -> Result<(), Failure> {
    let query = [("after", arguments.after.to_string())];
    let heads = [
        "NUMBER",
        "ARRIVED",
        "ENDPOINT",
        "WEBHOOK-ID",
        "BODY",
        "REASON",
    ];
    let page = |Suspects { suspects, next }| Listed {
        next,
        rows: suspects.into_iter().map(row).collect(),
    };
    let nothing = "nothing is in the quarantine";
    let ask = &arguments.ask;
    ask.list("quarantine", &query, nothing, &heads, page).await
}

fn row(suspect: ShownSuspect) -> Vec<String> {
    let size = suspect
        .size
        .map_or_else(|| "?".into(), |size| size.to_string());
    let kept = if suspect.has_body { "" } else { " (not kept)" };
    vec![
        suspect.id.to_string(),
        short(suspect.received_at),
        suspect.endpoint,
        suspect.webhook_id.unwrap_or_else(|| "-".into()),
        format!("{size}{kept}"),
        suspect.reason,
    ]
}

async fn retry(arguments: &Chosen) -> Result<(), Failure> {
    let answer = ask(arguments, "retry").await?;
    arguments.ask.print(answer, |retried: Retried| {
        if retried == Retried::default() {
            return Err(not_there(arguments));
        }
        say!(
            "{} accepted, {} copies of what was accepted before, {} not authentic, {} too old, {} without a body to prove",
            retried.accepted,
            retried.duplicates,
            retried.unproven,
            retried.too_old,
            retried.without_body
        )?;
        let is_any_accepted = retried.accepted + retried.duplicates > 0;
        if retried.unproven > 0 && !is_any_accepted {
            talk(
                "if they are OpenAI's: add its secret to the endpoint, send SIGHUP to the gateway, and try again\n",
            );
            return Err(Failure::NotAuthentic);
        }
        Ok(())
    })
}

async fn discard(arguments: &Chosen) -> Result<(), Failure> {
    let answer = ask(arguments, "drop").await?;
    arguments.ask.print(answer, |DroppedSuspects { dropped }| {
        if dropped == 0 {
            return Err(not_there(arguments));
        }
        Ok(say!("{dropped} dropped")?)
    })
}

async fn ask(arguments: &Chosen, verb: &str) -> Result<Value, Failure> {
    if arguments.number.is_some_and(|number| number < 1) {
        return Err(usage(
            "a number is 1 or more; `unwrapd quarantine ls` lists them",
        ));
    }
    let which = Which {
        id: arguments.number,
        all: arguments.all,
    };
    let admin = arguments.ask.admin.open()?;
    admin.post(&["quarantine", verb], &which).await
}

fn not_there(arguments: &Chosen) -> Failure {
    let problem = match arguments.number {
        Some(number) => format!("{number} is not in the quarantine"),
        None => "nothing is in the quarantine".into(),
    };
    Failure::NotFound(anyhow::Error::msg(problem))
}
