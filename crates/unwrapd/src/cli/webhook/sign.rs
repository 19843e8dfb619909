//! `unwrapd sign`: a payload into the three headers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::SecretArguments;
use super::request::{parse_time, read_bytes, unix_now};
use crate::cli::failure::Failure;
use crate::cli::format::outln;
use crate::cli::output::OutputArguments;

#[derive(Args)]
#[command(
    after_help = "Example: unwrapd sign event.json > headers.txt\n         \
    curl -H 'content-type: application/json' -H @headers.txt --data-binary @event.json \\\n           \
    http://127.0.0.1:3000/webhook"
)]
pub(crate) struct Arguments {
    /// File with the exact bytes of the body; `-` for stdin
    #[arg(value_name = "PAYLOAD")]
    payload: PathBuf,
    /// The `webhook-id` [default: a new one]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// The `webhook-timestamp`, as Unix seconds or like 2026-11-24T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    #[command(flatten)]
    secret: SecretArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let webhooks = arguments.secret.webhooks()?;
    let payload = read_bytes(&arguments.payload)?;
    let id = arguments.id.clone().unwrap_or_else(new_webhook_id);
    let headers = webhooks
        .sign(&payload, id, arguments.at.unwrap_or_else(unix_now))
        .map_err(|error| Failure::Usage(error.into()))?;
    let pairs = headers.pairs();
    arguments.output.print(BTreeMap::from(pairs), |_| {
        for (name, value) in pairs {
            outln!("{name}: {value}")?;
        }
        Ok(())
    })
}

/// An id in OpenAI's form that begins with the time.
pub(crate) fn new_webhook_id() -> String {
    format!("wh_{}", uuid::Uuid::now_v7().simple())
}

/// An id in OpenAI's form.
pub(crate) fn new_event_id() -> String {
    format!("evt_{}", uuid::Uuid::now_v7().simple())
}
