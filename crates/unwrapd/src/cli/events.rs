//! `unwrapd events`: what is kept, to look at.

use std::io::{IsTerminal as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::ask::{AskArguments, Listed};
use super::filter::{FilterArguments, PageArguments};
use super::text::{cut, event_type, plain, short, table};
use super::{Failure, say};
use crate::admin::{AllShown, Shown};
use crate::store::filter::Status;
use crate::store::{Found, Kept, KeptDelivery};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List messages, the newest first
    Ls(Ls),
    /// Show one message, its deliveries and every attempt
    Show(Show),
}

#[derive(Args)]
struct Ls {
    #[command(flatten)]
    filter: FilterArguments,
    #[command(flatten)]
    page: PageArguments,
    #[command(flatten)]
    ask: AskArguments,
}

#[derive(Args)]
struct Show {
    /// The webhook-id of the message
    #[arg(value_name = "WEBHOOK-ID")]
    webhook_id: String,
    /// Print the payload instead, byte for byte
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    ask: AskArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Ls(arguments) => ls(arguments).await,
        Command::Show(arguments) => show(arguments).await,
    }
}

async fn ls(arguments: &Ls) -> Result<(), Failure> {
    let query = arguments.filter.query(&arguments.page);
    let heads = ["ARRIVED", "ENDPOINT", "TYPE", "WEBHOOK-ID", "DELIVERIES"];
    let page = |found: Found| Listed {
        next: found.next,
        rows: found.messages.into_iter().map(row).collect(),
    };
    let nothing = "no matching events";
    let ask = &arguments.ask;
    ask.list("messages", &query, nothing, &heads, page).await
}

fn row(kept: Kept) -> Vec<String> {
    vec![
        short(kept.received_at),
        kept.endpoint,
        event_type(kept.event_type.as_deref()),
        kept.webhook_id,
        in_short(&kept.deliveries),
    ]
}

fn in_short(deliveries: &[KeptDelivery]) -> String {
    if deliveries.is_empty() {
        return "no destination subscribes to this type".into();
    }
    let one = |delivery: &KeptDelivery| {
        let attempts = match delivery.attempts {
            0 => String::new(),
            attempts => format!(" ({attempts})"),
        };
        format!(
            "{} {}{attempts}",
            delivery.destination,
            delivery.status.as_str()
        )
    };
    deliveries.iter().map(one).collect::<Vec<_>>().join(", ")
}

async fn show(arguments: &Show) -> Result<(), Failure> {
    let with_payload = [("payload", "true".to_owned())];
    let query = if arguments.payload {
        &with_payload[..]
    } else {
        &[]
    };
    let path = ["messages", &arguments.webhook_id];
    let answer = arguments.ask.admin.open()?.get(&path, query).await?;
    arguments.ask.print(answer, |all: AllShown| {
        all.messages.iter().try_for_each(if arguments.payload {
            print_payload
        } else {
            print
        })
    })
}

/// Prints the exact bytes, or escapes control characters on a terminal.
fn print_payload(shown: &Shown) -> Result<(), Failure> {
    let bytes = match (&shown.payload, &shown.payload_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(base64)) => STANDARD.decode(base64)?,
        (None, None) => {
            return Err(Failure::NotFound(anyhow::anyhow!(
                "the payload was removed: it was older than the retention time"
            )));
        }
    };
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        writeln!(stdout, "{}", plain(&String::from_utf8_lossy(&bytes)))?;
    } else {
        stdout.write_all(&bytes)?;
    }
    Ok(stdout.flush()?)
}

fn print(shown: &Shown) -> Result<(), Failure> {
    let kept = &shown.kept;
    let number = |number: Option<u64>, none: &str| {
        number.map_or_else(|| none.to_owned(), |number| number.to_string())
    };
    let secret = kept.secret.map_or_else(
        || "not recorded".into(),
        |place| format!("number {} of the endpoint", u64::from(place) + 1),
    );
    let rows = [
        ("webhook-id", kept.webhook_id.clone()),
        ("type", event_type(kept.event_type.as_deref())),
        (
            "resource",
            shown.resource.as_deref().map_or_else(|| "-".into(), cut),
        ),
        ("endpoint", kept.endpoint.clone()),
        ("sent", kept.sent_at.to_string()),
        ("arrived", format!("{:.3}", kept.received_at)),
        ("secret", secret),
        ("bytes", number(kept.bytes, "removed")),
    ];
    for (name, value) in rows {
        say!("{name:<10}  {}", plain(&value))?;
    }
    if let Some(oddity) = &shown.oddity {
        say!("oddity      {}", plain(oddity))?;
    }
    for delivery in &kept.deliveries {
        let when = match delivery.status {
            Status::Waiting => "due",
            Status::Delivered | Status::Dead | Status::Dropped => "at",
        };
        let status = delivery.status.as_str();
        say!(
            "\n{}  {status} {when} {:.3}",
            plain(&delivery.destination),
            delivery.at
        )?;
        let rows: Vec<Vec<String>> = delivery
            .latest
            .iter()
            .map(|attempt| {
                let body = attempt.body.as_deref().unwrap_or_default();
                vec![
                    format!("  {}", attempt.number),
                    format!("{:.3}", attempt.ended_at),
                    format!("{} ms", attempt.took_ms),
                    format!("{}  {body}", attempt.answer),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let heads = ["  ATTEMPT", "ENDED", "TOOK", "ANSWER"];
            say!("{}", table(&heads, &rows).trim_end())?;
        }
    }
    Ok(())
}
