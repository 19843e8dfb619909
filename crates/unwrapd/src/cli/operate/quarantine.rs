//! `unwrapd quarantine`: lists and shows requests that could not be verified, verifies them again,
//! or drops them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::query::{Listed, QueryArguments};
use crate::api::{
    DropQuarantinedResult, QuarantinePage, QuarantineSelection, QuarantinedDetail, QuarantinedView,
};
use crate::cli::completions::candidates;
use crate::cli::consent::ConsentArguments;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{outln, plain, short};
use crate::cli::stderr::message;
use crate::printable::counted;
use crate::quarantine::RetryQuarantinedResult;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the requests, the newest first, and why each was refused
    Ls(Ls),
    /// Show one request with its headers, and why it was refused
    Show(Show),
    /// Verify requests again with the current secrets, and accept those that are authentic
    Retry(Chosen),
    /// Delete requests
    Drop(Drop),
}

#[derive(Args)]
pub(crate) struct Ls {
    /// Cursor printed by the previous page
    #[arg(long, value_name = "NUMBER")]
    after: Option<i64>,
    #[command(flatten)]
    ask: QueryArguments,
}

#[derive(Args)]
pub(crate) struct Show {
    /// Number of the request, as listed
    #[arg(add = candidates::quarantined())]
    number: i64,
    #[command(flatten)]
    ask: QueryArguments,
}

#[derive(Args)]
pub(crate) struct Chosen {
    /// Number of the request, as listed
    #[arg(required_unless_present = "all", conflicts_with = "all", add = candidates::quarantined())]
    number: Option<i64>,
    /// All requests
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ask: QueryArguments,
}

#[derive(Args)]
pub(crate) struct Drop {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    consent: ConsentArguments,
}

pub(crate) async fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Ls(arguments) => ls(arguments).await,
        Command::Show(arguments) => show(arguments).await,
        Command::Retry(arguments) => retry(arguments).await,
        Command::Drop(arguments) => delete_quarantined(arguments).await,
    }
}

async fn ls(arguments: &Ls) -> Result<(), Failure> {
    let after = arguments.after.iter();
    let query: Vec<_> = after.map(|after| ("after", after.to_string())).collect();
    let heads = [
        "NUMBER",
        "ARRIVED",
        "ENDPOINT",
        "WEBHOOK-ID",
        "BODY",
        "CAUSE",
    ];
    let page = |QuarantinePage { requests, next, .. }| Listed {
        next,
        rows: requests.into_iter().map(row).collect(),
    };
    let nothing = "the quarantine is empty";
    let ask = &arguments.ask;
    ask.list("quarantine", &query, nothing, &heads, page).await
}

fn row(quarantined: QuarantinedView) -> Vec<String> {
    let size = quarantined
        .size
        .map_or_else(|| "?".into(), |size| size.to_string());
    let kept = if quarantined.has_body {
        ""
    } else {
        " (not kept)"
    };
    vec![
        quarantined.id.to_string(),
        short(quarantined.received_at),
        quarantined.endpoint,
        quarantined.webhook_id.unwrap_or_else(|| "-".into()),
        format!("{size}{kept}"),
        quarantined.cause.unwrap_or(quarantined.reason),
    ]
}

async fn show(arguments: &Show) -> Result<(), Failure> {
    check_number(arguments.number)?;
    let admin = arguments.ask.admin.open()?;
    let number = arguments.number.to_string();
    let answer: QuarantinedDetail = admin.get(&["quarantine", &number], &[]).await?;
    arguments.ask.print(answer, |quarantined| {
        let size = quarantined
            .size
            .map_or_else(|| "unknown".into(), |size| size.to_string());
        let body = if quarantined.has_body {
            "stored"
        } else {
            "not stored"
        };
        let rows = [
            ("endpoint", quarantined.endpoint),
            ("arrived", format!("{:.3}", quarantined.received_at)),
            ("bytes", format!("{size} ({body})")),
            ("reason", quarantined.reason),
            (
                "cause",
                quarantined.cause.unwrap_or_else(|| "not found".into()),
            ),
        ];
        for (name, value) in rows {
            outln!("{name:<8}  {}", plain(&value))?;
        }
        for (name, value) in quarantined.headers.unwrap_or_default() {
            outln!("{}: {}", plain(&name), plain(&value))?;
        }
        Ok(())
    })
}

async fn retry(arguments: &Chosen) -> Result<(), Failure> {
    check(arguments)?;
    let selection = QuarantineSelection::of(arguments.number);
    let admin = arguments.ask.admin.open()?;
    let retried: RetryQuarantinedResult = admin.post(&["quarantine", "retry"], &selection).await?;
    arguments.ask.print(retried, |retried| {
        if retried == RetryQuarantinedResult::default() {
            return nothing_there(arguments);
        }
        outln!(
            "{} accepted, {} duplicates of accepted webhooks, {} not authentic, {} too old, {} without a body to verify",
            retried.accepted,
            retried.duplicates,
            retried.unproven,
            retried.too_old,
            retried.without_body
        )?;
        let is_any_accepted = retried.accepted + retried.duplicates > 0;
        if retried.unproven > 0 && !is_any_accepted {
            message(
                "if OpenAI sent them: add its secret to the endpoint, send SIGHUP to the gateway, and try again\n",
            );
            return Err(Failure::NotAuthentic);
        }
        Ok(())
    })
}

async fn delete_quarantined(arguments: &Drop) -> Result<(), Failure> {
    let chosen = &arguments.chosen;
    let plan = plan(chosen).await?;
    if arguments.consent.dry_run {
        let answer = json!({ "would_drop": plan.count });
        return chosen
            .ask
            .print(answer, |_| Ok(outln!("would drop {}", plan.what)?));
    }
    let answer = if plan.count > 0 {
        arguments.consent.ask(&format!("Drop {}", plan.what))?;
        let admin = chosen.ask.admin.open()?;
        admin.post(&["quarantine", "drop"], &plan.selection).await?
    } else {
        DropQuarantinedResult { dropped: 0 }
    };
    chosen
        .ask
        .print(answer, |DropQuarantinedResult { dropped }| {
            if dropped == 0 {
                return nothing_there(chosen);
            }
            Ok(outln!(
                "dropped {}",
                counted(dropped, "request", "requests")
            )?)
        })
}

/// The requests to be dropped.
struct Plan {
    count: usize,
    what: String,
    /// The selection of these requests, without those that arrive later.
    selection: QuarantineSelection,
}

/// Counts the chosen requests, and drops none. Returns an error if the request of a given number is
/// absent.
async fn plan(chosen: &Chosen) -> Result<Plan, Failure> {
    check(chosen)?;
    let admin = chosen.ask.admin.open()?;
    if let Some(number) = chosen.number {
        // The first request that is not newer.
        let query = [
            ("after", number.saturating_add(1).to_string()),
            ("limit", "1".into()),
        ];
        let page: QuarantinePage = admin.get(&["quarantine"], &query).await?;
        let first = page.requests.into_iter().next();
        let Some(quarantined) = first.filter(|quarantined| quarantined.id == number) else {
            return Err(not_there(number));
        };
        return Ok(Plan {
            count: 1,
            what: format!(
                "request {number}, which arrived at `{}` at {}",
                plain(&quarantined.endpoint),
                short(quarantined.received_at)
            ),
            selection: QuarantineSelection::of(Some(number)),
        });
    }
    let (mut count, mut newest, mut after) = (0, 0, None);
    loop {
        let query: Vec<(&str, String)> = after
            .iter()
            .map(|after: &i64| ("after", after.to_string()))
            .collect();
        let page: QuarantinePage = admin.get(&["quarantine"], &query).await?;
        count += page.requests.len();
        if let Some(first) = page.requests.first() {
            newest = first.id.max(newest);
        }
        match page.next {
            // A cursor that does not advance would repeat the loop for ever.
            Some(next) if after.is_none_or(|after| next < after) => after = Some(next),
            _ => break,
        }
    }
    Ok(Plan {
        count,
        what: match count {
            0 => "nothing".into(),
            1 => "1 request".into(),
            count => format!("all {count} requests"),
        },
        selection: QuarantineSelection {
            up_to: Some(newest),
            ..QuarantineSelection::of(None)
        },
    })
}

fn check(chosen: &Chosen) -> Result<(), Failure> {
    chosen.number.map_or(Ok(()), check_number)
}

fn check_number(number: i64) -> Result<(), Failure> {
    if number < 1 {
        return Err(usage(
            "a number must be 1 or more; `unwrapd quarantine ls` lists them",
        ));
    }
    Ok(())
}

/// The end if nothing was found: an error for a request of a given number, and success for `--all`.
fn nothing_there(chosen: &Chosen) -> Result<(), Failure> {
    if let Some(number) = chosen.number {
        return Err(not_there(number));
    }
    message("the quarantine is empty\n");
    Ok(())
}

fn not_there(number: i64) -> Failure {
    Failure::NotFound(anyhow::anyhow!("request {number} is not in the quarantine"))
}
