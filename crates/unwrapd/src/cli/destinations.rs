//! `unwrapd destinations`: how the destinations of a running gateway fare, and their switches.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admin::AdminArguments;
use super::ask::AskArguments;
use super::consent::ConsentArguments;
use super::text::plain;
use super::{Failure, say};
use crate::admin::{AskedGiveUp, GaveUp};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List destinations with state, waiting deliveries, dead letters and last answer
    Ls(AskArguments),
    /// Hold back all deliveries to a destination; they wait, and calls expire
    Pause(Named),
    /// Deliver to a paused destination again
    Resume(Named),
    /// Give up the deliveries that wait for a destination that is not configured; they become dead letters
    GiveUp {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        consent: ConsentArguments,
    },
    /// Send one signed sample event now, and print the answer; nothing is stored
    Test {
        #[command(flatten)]
        named: Named,
        /// Type of the event [default: response.completed]
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
    },
}

#[derive(Args)]
struct Named {
    /// Name of the destination
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Ls(ask) => {
            let answer = ask.admin.open()?.get(&["destinations"], &[]).await?;
            ask.print(answer, |answer: Value| list(&answer["destinations"]))
        }
        Command::Pause(named) => {
            switch(named, "pause").await?;
            Ok(say!(
                "{} is paused; resume it with `unwrapd destinations resume {0}`",
                named.name
            )?)
        }
        Command::Resume(named) => {
            switch(named, "resume").await?;
            Ok(say!("{} is resumed", named.name)?)
        }
        Command::GiveUp { named, consent } => give_up(named, consent).await,
        Command::Test { named, event_type } => test(named, event_type.as_deref()).await,
    }
}

async fn switch(named: &Named, verb: &str) -> Result<Value, Failure> {
    let path = ["destinations", &named.name, verb];
    named.admin.open()?.post(&path, &json!({})).await
}

async fn give_up(named: &Named, consent: &ConsentArguments) -> Result<(), Failure> {
    let admin = named.admin.open()?;
    let path = ["destinations", &named.name, "give-up"];
    let asked = AskedGiveUp { dry_run: true };
    let planned: GaveUp = admin.post(&path, &asked).await?;
    let plan = format!(
        "{} for `{}`, as dead letters",
        match planned.deliveries {
            1 => "1 waiting delivery".into(),
            count => format!("{count} waiting deliveries"),
        },
        plain(&named.name)
    );
    if consent.dry_run {
        return Ok(say!("would give up {plan}")?);
    }
    consent.ask(&format!("Give up {plan}"))?;
    let mut deliveries = 0;
    loop {
        let step: Result<GaveUp, _> = admin.post(&path, &AskedGiveUp::default()).await;
        let step = match step {
            // Nothing was left.
            Err(Failure::NotFound(_)) if deliveries > 0 => break,
            step => step?,
        };
        deliveries += step.deliveries;
        if step.done {
            break;
        }
    }
    Ok(say!(
        "given up: {deliveries}. `unwrapd dead replay --destination {} --to NAME` delivers them elsewhere",
        plain(&named.name)
    )?)
}

async fn test(named: &Named, event_type: Option<&str>) -> Result<(), Failure> {
    let body = match event_type {
        Some(event_type) => json!({ "type": event_type }),
        None => json!({}),
    };
    let path = ["destinations", &named.name, "test"];
    let answer: Value = named.admin.open()?.post(&path, &body).await?;
    say!(
        "{} {} {} ({} ms)",
        text(&answer["type"]),
        text(&answer["webhook_id"]),
        text(&answer["answer"]),
        answer["took_ms"]
    )?;
    if text(&answer["outcome"]) != "delivered" {
        return Err(anyhow::anyhow!("not delivered").into());
    }
    Ok(())
}

fn list(destinations: &Value) -> Result<(), Failure> {
    let rows = destinations
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let width = |key: &str, head: &str| {
        let longest = rows.iter().map(|row| text(&row[key]).len()).max();
        longest.unwrap_or_default().max(head.len())
    };
    let (name, kind) = (width("name", "NAME"), width("kind", "KIND"));
    say!(
        "{:name$}  {:kind$}  {:9}  {:>8}  {:>8}  LAST ANSWER",
        "NAME",
        "KIND",
        "STATE",
        "WAITING",
        "DEAD"
    )?;
    for row in rows {
        let state = if row["paused_since"].is_string() {
            "paused"
        } else if row["is_configured"] == Value::Bool(false) {
            "unknown"
        } else {
            match text(&row["state"]).as_str() {
                "closed" => "up",
                "open" => "down",
                _ => "probing",
            }
        };
        let last = match (row["last_answer"].as_str(), row["next_probe_at"].as_str()) {
            (Some(answer), Some(at)) => {
                let at: Timestamp = at.parse()?;
                plain(&format!("{answer} (next try {at:.0})"))
            }
            (Some(answer), None) => plain(answer),
            _ if state == "unknown" && row["waiting"] != 0 => {
                "not configured (`unwrapd destinations give-up` ends what waits)".to_owned()
            }
            _ if state == "unknown" => "not configured".to_owned(),
            _ => "-".to_owned(),
        };
        say!(
            "{:name$}  {:kind$}  {state:9}  {:>8}  {:>8}  {last}",
            text(&row["name"]),
            text(&row["kind"]),
            row["waiting"].as_u64().unwrap_or_default(),
            row["dead"].as_u64().unwrap_or_default(),
        )?;
    }
    Ok(())
}

/// Text that others may have written, on one line.
fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}
