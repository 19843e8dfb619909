//! `unwrapd verify`: every check of one saved request, in order, each with its result.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use openai_webhooks::{PayloadProblem, Secret, VerificationError, Verified, Webhooks};
use serde::Serialize;

use super::SecretArguments;
use super::request::{SavedRequest, parse_time, read_bytes, unix_now};
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{outln, plain};
use crate::cli::output::OutputArguments;
use crate::diagnosis::{SignedRequest, Trials};

const LINE_END_ADDED: &str = ". The signature matches without the last line end of the body, \
    which was added when the request was saved";

#[derive(Args)]
#[command(
    after_help = "Example: unwrapd verify request.txt --at 2026-11-24T08:00:00Z\n\
    Exit code: 0 if the request is authentic, 4 if it is not."
)]
pub(crate) struct Arguments {
    /// The saved request: lines `name: value`, an empty line, the body; `-` for stdin
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// File with the exact bytes of the body, if the request is saved without it
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Time of arrival, as Unix seconds or like 2026-11-24T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    #[command(flatten)]
    secret: SecretArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let request = read(arguments)?;
    let webhooks = arguments.secret.webhooks()?;
    let now = arguments.at.unwrap_or_else(unix_now);
    let mut report = Report::of(&webhooks, &request, now);
    report.explain_secret(arguments, &request);
    arguments
        .output
        .print(&report, |report| Ok(report.print()?))?;
    if report.authentic {
        Ok(())
    } else {
        Err(Failure::NotAuthentic)
    }
}

fn read(arguments: &Arguments) -> Result<SavedRequest, Failure> {
    let is_stdin = |path: &Path| path.as_os_str() == "-";
    if is_stdin(&arguments.request) && arguments.body.as_deref().is_some_and(is_stdin) {
        return Err(usage(
            "the request and its body cannot both come from stdin",
        ));
    }
    let mut request = SavedRequest::parse(&read_bytes(&arguments.request)?)
        .map_err(|error| usage(error.to_string()))?;
    match &arguments.body {
        Some(body) => request.body = read_bytes(body)?,
        None if request.body.is_empty() => {
            return Err(usage(
                "there is no body after the headers: name its file with --body",
            ));
        }
        None => {}
    }
    Ok(request)
}

/// The checks in their order. A check that an earlier failure makes impossible is not listed.
#[derive(Serialize)]
struct Report {
    authentic: bool,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

impl Report {
    fn of(webhooks: &Webhooks, request: &SavedRequest, now: i64) -> Self {
        let signed = signed(request);
        let mut checks = Vec::new();
        let mut check = |name, result: Result<String, String>| {
            let ok = result.is_ok();
            let (Ok(detail) | Err(detail)) = result;
            checks.push(Check { name, ok, detail });
        };
        let trials = Trials::of(webhooks, signed, now);
        let authentic = trials.at_arrival.is_ok();
        match trials.at_arrival {
            Err(
                error @ (VerificationError::MissingHeader { .. }
                | VerificationError::ConflictingHeader { .. }
                | VerificationError::MalformedHeader { .. }
                | VerificationError::MalformedTimestamp),
            ) => check("headers", Err(error.to_string())),
            Err(
                error @ (VerificationError::TimestampTooOld { .. }
                | VerificationError::TimestampTooNew { .. }),
            ) => {
                check(
                    "headers",
                    Ok("all three are present and well-formed".into()),
                );
                check(
                    "time",
                    Err(format!("{error}. Give the time it arrived with --at")),
                );
            }
            _ => {
                check(
                    "headers",
                    Ok("all three are present and well-formed".into()),
                );
                check("time", Ok("within the tolerance".into()));
            }
        }
        match trials.when_sent {
            Ok(verified) => {
                check(
                    "signature",
                    Ok(format!("valid for {}", describe(&verified))),
                );
                match verified.event() {
                    Ok(event) => check("event", Ok(format!("{} {}", event.kind(), event.id()))),
                    Err(error) => check("event", Err(not_an_event(error.problem()))),
                }
            }
            Err(
                error @ (VerificationError::SignatureMismatch
                | VerificationError::TooManySignatures),
            ) => {
                let hint = if trials.matches_without_line_end {
                    LINE_END_ADDED
                } else {
                    ""
                };
                check("signature", Err(format!("{error}{hint}")));
            }
            Err(_) => {}
        }
        Self { authentic, checks }
    }

    /// Adds a remedy if the signature matches with `whsec_` in front of the secret.
    fn explain_secret(&mut self, arguments: &Arguments, request: &SavedRequest) {
        let mut failed = self.checks.iter_mut();
        let Some(check) = failed.find(|check| check.name == "signature" && !check.ok) else {
            return;
        };
        let proves = |secret: &Secret| {
            let verified = signed(request).verify_when_sent(&Webhooks::from(secret))?;
            verified.ok().map(drop)
        };
        let secret = arguments.secret.source().read_with_prefix();
        if secret.as_ref().and_then(proves).is_some() {
            check.detail.push_str(
                ". The signature matches with `whsec_` in front of the secret: add whsec_ in front \
                 of it, also where the application reads it",
            );
        }
    }

    fn print(&self) -> std::io::Result<()> {
        for Check { name, ok, detail } in &self.checks {
            let result = if *ok { "ok" } else { "FAILED" };
            outln!("{name:<10} {result:<7} {}", plain(detail))?;
        }
        outln!(
            "{}",
            if self.authentic {
                "authentic"
            } else {
                "not authentic"
            }
        )
    }
}

fn describe(verified: &Verified<'_>) -> String {
    let sent_at = Timestamp::from_second(verified.timestamp())
        .ok()
        .map_or_else(String::new, |time| format!(", sent {time}"));
    format!(
        "{}{sent_at}, {} bytes of body",
        verified.webhook_id(),
        verified.payload().len()
    )
}

fn not_an_event(problem: &PayloadProblem) -> String {
    format!("the body is authentic but not an event: {problem}")
}

fn signed(request: &SavedRequest) -> SignedRequest<'_> {
    SignedRequest {
        headers: &request.headers,
        body: &request.body,
    }
}
