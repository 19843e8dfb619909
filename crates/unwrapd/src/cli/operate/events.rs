//! `unwrapd events`: lists and shows stored messages.

use std::io::{IsTerminal as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};

use super::query::{ListArguments, Listed, QueryArguments};
use crate::api::{MessageDetail, MessageDetails};
use crate::cli::completions::candidates;
use crate::cli::failure::Failure;
use crate::cli::format::{cut, event_type, outln, plain, short, table};
use crate::message::Origin;
use crate::store::filter::Status;
use crate::store::{DeliveryView, MessagePage, MessageView};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List messages, the newest first
    Ls(ListArguments),
    /// Show the messages with an id, their deliveries and every attempt
    Show(Show),
}

#[derive(Args)]
pub(crate) struct Show {
    /// The webhook id (`wh_…`), the id of the event (`evt_…`), or the id of what it is about
    /// (`resp_…`)
    #[arg(value_name = "ID", add = candidates::webhook_ids())]
    id: String,
    /// Print the payload instead, byte for byte
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    ask: QueryArguments,
}

pub(crate) async fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Ls(arguments) => ls(arguments).await,
        Command::Show(arguments) => show(arguments).await,
    }
}

async fn ls(arguments: &ListArguments) -> Result<(), Failure> {
    let query = arguments.query();
    let heads = [
        "ARRIVED",
        "ENDPOINT",
        "TYPE",
        "RESOURCE",
        "WEBHOOK-ID",
        "DELIVERIES",
    ];
    let page = |found: MessagePage| Listed {
        next: found.next,
        rows: found.messages.into_iter().map(row).collect(),
    };
    let nothing = "no matching events";
    let ask = &arguments.ask;
    ask.list("messages", &query, nothing, &heads, page).await
}

fn row(kept: MessageView) -> Vec<String> {
    vec![
        short(kept.received_at),
        kept.endpoint,
        event_type(kept.event_type.as_deref()),
        resource(kept.resource.as_deref()),
        kept.webhook_id,
        in_short(&kept.deliveries),
    ]
}

fn resource(id: Option<&str>) -> String {
    id.map_or_else(|| "-".into(), cut)
}

fn in_short(deliveries: &[DeliveryView]) -> String {
    if deliveries.is_empty() {
        return "no destination subscribes to this type".into();
    }
    let one = |delivery: &DeliveryView| {
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
    let path = ["messages", &arguments.id];
    let answer: MessageDetails = arguments.ask.admin.open()?.get(&path, query).await?;
    arguments.ask.print(answer, |all| {
        if arguments.payload {
            return all.messages.iter().try_for_each(print_payload);
        }
        for (place, shown) in all.messages.iter().enumerate() {
            if place > 0 {
                outln!("")?;
            }
            print(shown)?;
        }
        Ok(())
    })
}

/// Prints the exact bytes, or escapes control characters on a terminal.
fn print_payload(shown: &MessageDetail) -> Result<(), Failure> {
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

fn print(shown: &MessageDetail) -> Result<(), Failure> {
    let kept = &shown.message;
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
        ("resource", resource(kept.resource.as_deref())),
        ("endpoint", kept.endpoint.clone()),
        ("sent", kept.sent_at.to_string()),
        ("arrived", format!("{:.3}", kept.received_at)),
        ("secret", secret),
        ("bytes", number(kept.bytes, "removed")),
    ];
    let is_ours = kept.origin != Origin::OpenAi;
    let origin = is_ours.then(|| ("origin", kept.origin.as_str().to_owned()));
    let rows = rows.into_iter().chain(origin);
    for (name, value) in rows {
        outln!("{name:<10}  {}", plain(&value))?;
    }
    if let Some(oddity) = &shown.oddity {
        outln!("oddity      {}", plain(oddity))?;
    }
    for delivery in &kept.deliveries {
        let when = match delivery.status {
            Status::Waiting => "due",
            _ => "at",
        };
        let status = delivery.status.as_str();
        outln!(
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
            outln!("{}", table(&heads, &rows).trim_end())?;
        }
    }
    print_siblings(shown)
}

fn print_siblings(shown: &MessageDetail) -> Result<(), Failure> {
    if shown.siblings.is_empty() {
        return Ok(());
    }
    let resource = resource(shown.message.resource.as_deref());
    outln!("\nother messages about {}", plain(&resource))?;
    let siblings = shown.siblings.iter();
    let rows: Vec<Vec<String>> = siblings
        .map(|sibling| {
            vec![
                format!("  {}", short(sibling.received_at)),
                event_type(sibling.event_type.as_deref()),
                sibling.webhook_id.clone(),
                sibling.status.as_str().to_owned(),
            ]
        })
        .collect();
    let heads = ["  ARRIVED", "TYPE", "WEBHOOK-ID", "STATUS"];
    Ok(outln!("{}", table(&heads, &rows).trim_end())?)
}
