//! `unwrapd verify`: every check of saved requests, in order, each with its result, and the cause of
//! a failure as far as trials show it.

mod checks;
mod quarantined;
mod report;
mod secrets;

use std::path::{Path, PathBuf};

use clap::Args;

use super::request::{parse_time, read_bytes, unix_now};
use super::saved_request::{Form, SavedRequest};
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{outln, plain, shown_path};
use crate::cli::operate::AdminArguments;
use crate::cli::output::OutputArguments;
use checks::{Arrival, Subject};
use report::Report;
use secrets::SecretsArguments;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    unwrapd verify request.txt\n  \
    unwrapd verify headers.txt --body event.json --at 2026-11-24T08:00:00Z\n  \
    unwrapd verify *.txt --secret-env OPENAI_WEBHOOK_SECRET --secret-file old.secret\n  \
    unwrapd sign event.json | unwrapd verify - --body event.json --output json\n  \
    unwrapd verify request.txt --endpoint production --config unwrapd.toml\n  \
    unwrapd verify --quarantined 1\n\n\
    A request is saved as an HTTP request, as the output of `curl -v`, or as JSON with headers and\n\
    body, such as an event of AWS Lambda.\n\n\
    Exit code: 0 if all requests are authentic, 4 if one is not, 2 if one cannot be read.")]
pub(crate) struct Arguments {
    /// Saved requests: lines `name: value`, an empty line, the body; `-` for stdin
    #[arg(value_name = "REQUEST", required_unless_present = "quarantined")]
    requests: Vec<PathBuf>,
    /// Request in the quarantine of a running gateway, by its number
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["requests", "body", "at"])]
    quarantined: Option<i64>,
    /// File with the exact bytes of the body, if the request is saved without it
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Time of arrival, as Unix seconds or like 2026-11-24T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    #[command(flatten)]
    secrets: SecretsArguments,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// A saved request and its name.
struct Named {
    name: String,
    request: SavedRequest,
    body: Vec<u8>,
    arrival: Arrival,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let named = match arguments.quarantined {
        None => read_all(arguments)?,
        Some(number) => {
            let admin = arguments.admin.open()?;
            let with_payload = arguments.secrets.are_named();
            let detail = quarantined::read(&admin, number, with_payload).await?;
            if !with_payload {
                return print(arguments, &[quarantined::report(detail)]);
            }
            vec![quarantined::saved(detail)?]
        }
    };
    let known = arguments.secrets.read(arguments.admin.config())?;
    let mut reports = Vec::new();
    for (place, one) in named.iter().enumerate() {
        let others: Vec<(&str, &[u8])> = named
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place)
            .map(|(_, other)| (&*other.name, &*other.body))
            .collect();
        let subject = Subject {
            name: &one.name,
            request: &one.request,
            body: &one.body,
            known: &known,
            arrival: one.arrival,
            others: &others,
        };
        reports.push(subject.report());
    }
    print(arguments, &reports)
}

/// The requests of the command line, all of them before the first is checked.
fn read_all(arguments: &Arguments) -> Result<Vec<Named>, Failure> {
    if arguments.body.is_some() && arguments.requests.len() > 1 {
        return Err(usage(
            "--body is for one request: name the requests one by one",
        ));
    }
    let inputs = arguments.requests.iter().chain(&arguments.body);
    if inputs.filter(|path| is_stdin(path)).count() > 1 {
        return Err(usage(
            "only one of the requests and the body can come from stdin",
        ));
    }
    let requests = arguments.requests.iter();
    requests.map(|path| read(path, arguments)).collect()
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read(path: &Path, arguments: &Arguments) -> Result<Named, Failure> {
    let name = if is_stdin(path) {
        "stdin".to_owned()
    } else {
        shown_path(path)
    };
    let unreadable = |problem: String| usage(format!("{name}: {}", plain(&problem)));
    let mut request = SavedRequest::parse(&read_bytes(path)?).map_err(unreadable)?;
    let body = match (&arguments.body, request.body.take()) {
        (Some(file), _) => read_bytes(file)?,
        (None, Some(body)) => body,
        (None, None) => {
            let problem = match request.form {
                Form::Http => "there is no body after the headers".to_owned(),
                form => format!("this is {form}, and it has no body"),
            };
            return Err(unreadable(format!("{problem}: name its file with --body")));
        }
    };
    let arrival = match arguments.at.or(request.arrived_at) {
        Some(time) => Arrival::Known(time),
        None => Arrival::Now(unix_now()),
    };
    Ok(Named {
        name,
        request,
        body,
        arrival,
    })
}

fn print(arguments: &Arguments, reports: &[Report]) -> Result<(), Failure> {
    for (place, report) in reports.iter().enumerate() {
        arguments.output.print(report, |report| {
            if place > 0 {
                outln!("")?;
            }
            let heading = (reports.len() > 1).then_some(&*report.request);
            Ok(report.print(heading)?)
        })?;
    }
    if reports.iter().all(|report| report.authentic) {
        Ok(())
    } else {
        Err(Failure::NotAuthentic)
    }
}
