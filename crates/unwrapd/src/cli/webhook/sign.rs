//! `unwrapd sign`: a payload into the three headers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use openai_webhooks::Webhooks;

use super::SecretArguments;
use super::request::{parse_time, read_bytes, unix_now};
use crate::cli::failure::Failure;
use crate::cli::format::{Output, outln, print_json};

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
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let webhooks = Webhooks::from(&arguments.secret.read()?);
    let payload = read_bytes(&arguments.payload)?;
    let id = arguments.id.clone().unwrap_or_else(new_webhook_id);
    let headers = webhooks
        .sign(&payload, id, arguments.at.unwrap_or_else(unix_now))
        .map_err(|error| Failure::Usage(error.into()))?;
    match arguments.output {
        Output::Human => {
            for (name, value) in headers.pairs() {
                outln!("{name}: {value}")?;
            }
        }
        Output::Json => {
            let headers: BTreeMap<_, _> = headers.pairs().into();
            print_json(&headers)?;
        }
    }
    Ok(())
}

/// An id in OpenAI's form that begins with the time.
pub(super) fn new_webhook_id() -> String {
    format!("wh_{}", uuid::Uuid::now_v7().simple())
}

/// An id in OpenAI's form.
pub(super) fn new_event_id() -> String {
    format!("evt_{}", uuid::Uuid::now_v7().simple())
}
