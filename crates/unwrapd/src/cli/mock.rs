//! `unwrapd mock`: the part of OpenAI that ends in a webhook, on this machine. The crate
//! `unwrapd-mock` has the mock itself; this file has its command line and its output.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::value_parser;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use unwrapd_mock::{Mock, Report, Retention, Rule, SPEED_MAX, Settings, StartError};

use super::dev::parse_address;
use super::failure::{Failure, usage};
use super::format::{outln, plain, shown_path};
use super::output::OutputArguments;
use super::stderr::message;
use super::stop_signals::StopSignals;
use super::webhook::SecretArguments;
use crate::files;
use crate::settings_file::typed_url;

/// Largest file of rules, in bytes.
const RULES_BYTES_MAX: usize = 64 * 1024;

#[derive(Args)]
#[command(after_help = "Examples: unwrapd mock\n          \
    unwrapd mock --speed 3600 --rule 'POST /v1/responses 429 after=3 retry_after=2 times=2'\n          \
    OPENAI_WEBHOOK_SECRET=$(unwrapd secret) unwrapd mock --endpoint http://127.0.0.1:3000/webhook\n          \
    curl http://127.0.0.1:8090/v1/responses -H 'authorization: Bearer any' \\\n            \
    -H 'content-type: application/json' \\\n            \
    -d '{\"model\": \"gpt-6-astra\", \"input\": \"Hi\", \"background\": true}'\n          \
    curl http://127.0.0.1:8090/_mock/calls -d '{}'")]
pub(super) struct Arguments {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090", value_parser = parse_address)]
    listen: SocketAddr,
    /// Accept an address that other machines can reach, and endpoints on them over plain HTTP. Any
    /// key opens the mock
    #[arg(long)]
    allow_remote: bool,
    /// How many times as fast as real time the clock runs. 0: only when it is advanced
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(..=i64::from(SPEED_MAX)))]
    speed: u32,
    /// Webhook endpoint that exists from the start, for all event types; repeatable. Its secret is
    /// that of --secret-env or --secret-file
    #[arg(long, value_name = "URL", value_parser = typed_url)]
    endpoint: Vec<reqwest::Url>,
    #[command(flatten)]
    secret: SecretArguments,
    /// Fault or outcome, such as `GET /v1/files/* 503 times=1` or `response failed`; repeatable
    #[arg(long, value_name = "RULE")]
    rule: Vec<Rule>,
    /// File with a rule on each line, and comments after `#`
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Deliver every Nth webhook twice. 0: none
    #[arg(long, value_name = "N", default_value_t = 20)]
    duplicate_every: u64,
    /// How the project retains responses
    #[arg(long, value_name = "KIND", default_value = Retention::NAMES[0], value_parser = PossibleValuesParser::new(Retention::NAMES).try_map(|name| name.parse::<Retention>()))]
    retention: Retention,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut signals = StopSignals::new()?;
    let output = &arguments.output;
    let mock = Mock::start(settings(arguments)?).await;
    let mock = mock.map_err(|error| match error {
        StartError::Remote(_) => usage(format!("{error}: add --allow-remote to accept that")),
        StartError::Settings(_) => Failure::Usage(error.into()),
        StartError::Listen(_, ref cause) if cause.kind() == std::io::ErrorKind::AddrInUse => {
            Failure::TryLater(error.into())
        }
        error => error.into(),
    })?;
    let mut reports = mock.subscribe();
    let base_url = mock.base_url();
    output.print(json!({"kind": "listening", "base_url": base_url}), |_| {
        Ok(outln!("listening  {base_url}")?)
    })?;
    message(&format!(
        "For an official SDK: export OPENAI_BASE_URL={base_url} OPENAI_API_KEY=any\n\
         Press Ctrl-C to stop.\n"
    ));
    loop {
        let report = tokio::select! {
            report = reports.recv() => report,
            () = signals.next() => break,
        };
        match report {
            Ok(report) => output.print(report, |report| Ok(outln!("{}", line(&report))?))?,
            Err(RecvError::Lagged(count)) => message(&format!("{count} lines are left out\n")),
            Err(RecvError::Closed) => break,
        }
    }
    mock.stop().await;
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    settings.listen = arguments.listen;
    settings.allow_remote = arguments.allow_remote;
    settings.speed = arguments.speed;
    settings.rules.clone_from(&arguments.rule);
    if let Some(file) = &arguments.rules {
        settings.rules.extend(read_rules(file)?);
    }
    settings.duplicate_every = arguments.duplicate_every;
    settings.retention = arguments.retention;
    if !arguments.endpoint.is_empty() {
        let secret = arguments.secret.secret()?;
        let urls = arguments.endpoint.iter().cloned();
        settings.endpoints = urls.map(|url| (url, secret.clone())).collect();
    }
    Ok(settings)
}

fn read_rules(file: &Path) -> Result<Vec<Rule>, Failure> {
    let name = shown_path(file);
    let content = files::read(file, RULES_BYTES_MAX);
    let content = content.with_context(|| format!("cannot read {name}"));
    let content = content.map_err(Failure::Usage)?;
    let text =
        files::text(&content.bytes).map_err(|problem| usage(format!("{name}: {problem}")))?;
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let rule = line.split('#').next().unwrap_or_default().trim();
        if !rule.is_empty() {
            let at = |error| usage(format!("{name}, line {}: {error}", number + 1));
            rules.push(rule.parse().map_err(at)?);
        }
    }
    Ok(rules)
}

/// A report for people.
fn line(report: &Report) -> String {
    match report {
        Report::Request {
            at,
            method,
            path,
            status,
            scripted,
            ..
        } => {
            let by_rule = if *scripted { ", by a rule" } else { "" };
            format!(
                "{}  request  {method} {} {status}{by_rule}",
                time(*at),
                plain(path)
            )
        }
        Report::Event {
            at,
            r#type,
            resource,
            endpoints,
            ..
        } => {
            let nobody = if *endpoints == 0 {
                "  no endpoint wants it"
            } else {
                ""
            };
            format!(
                "{}  event    {type}  {}{nobody}",
                time(*at),
                plain(resource)
            )
        }
        Report::Attempt {
            at,
            r#type,
            resource,
            is_duplicate,
            status,
            problem,
            milliseconds,
            state,
            next_in_seconds,
            ..
        } => {
            let answer = status.map_or_else(
                || problem.clone().unwrap_or_default(),
                |status| format!("{status} in {milliseconds} ms"),
            );
            let next = match next_in_seconds {
                Some(seconds) => format!(", again in {seconds} s"),
                None if *state == "given_up" => ", given up".into(),
                None => String::new(),
            };
            let duplicate = if *is_duplicate { "duplicate: " } else { "" };
            format!(
                "{}  webhook  {type}  {}  {duplicate}{answer}{next}",
                time(*at),
                plain(resource)
            )
        }
        report => format!("{report:?}"),
    }
}

/// A time of the mock's clock.
fn time(at: u64) -> String {
    let time = i64::try_from(at).ok();
    let time = time.and_then(|at| Timestamp::from_second(at).ok());
    time.map_or_else(String::new, |time| time.strftime("%H:%M:%S").to_string())
}
