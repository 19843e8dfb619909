//! `unwrapd torture`: grades the handler of an application by its answers to genuine, forged and
//! repeated events.

mod attacks;
mod checks;
mod effects;
mod finding;
mod forge;
mod gate;
mod judge;
mod report;
mod request;
mod runner;
mod sender;
mod spelling;

use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use openai_webhooks::EventType;
use reqwest::Url;

use super::failure::{Failure, usage};
use super::format::shown_name;
use super::stop_signals::StopSignals;
use super::webhook::SecretArguments;
use crate::printable::counted;
use crate::route::nearest_pattern;
use crate::settings_file::typed_url;
use checks::{CHECKS, Check, GENUINE};
use effects::EffectsArguments;
use finding::{Finding, Grade};
use forge::Forge;
use gate::{End, Verdict};
use judge::Judge;
use report::{OutputArguments, Report};
use runner::{Observed, is_not_reached};
use sender::Sender;

#[derive(Args)]
#[command(
    after_help = "Send it to a test instance: the application takes the events for real ones.\n\
    Examples: unwrapd torture http://127.0.0.1:3000/webhook\n          \
    unwrapd torture 3000/webhook --secret-env APP_WEBHOOK_SECRET --output junit > torture.xml\n          \
    unwrapd torture 3000/webhook --only stale-timestamp,duplicate\n          \
    unwrapd torture 3000/webhook --effects-command 'grep -c \"$UNWRAPD_WEBHOOK_ID\" effects.log || true'\n          \
    unwrapd torture --list\n\
    Exit code: 0 if no check failed, 1 if one did, 3 if there is no handler at the URL, 5 if nothing answers there."
)]
pub(super) struct Arguments {
    /// URL of the handler
    #[arg(value_name = "URL", required_unless_present = "list", value_parser = typed_url)]
    url: Option<Url>,
    /// Print every check, with what it sends and expects; sends nothing
    #[arg(long)]
    list: bool,
    /// Run only these checks of --list, separated by commas
    #[arg(long, value_name = "CHECKS", value_delimiter = ',', value_parser = names(), hide_possible_values = true)]
    only: Vec<String>,
    /// Leave these checks out, separated by commas
    #[arg(long, value_name = "CHECKS", value_delimiter = ',', value_parser = names(), hide_possible_values = true)]
    skip: Vec<String>,
    /// Event type of the checks that need only one; choose one that the application acts on
    #[arg(long = "type", value_name = "TYPE", default_value = "response.completed", value_parser = event_type)]
    event_type: EventType,
    /// Longest time for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    answer_within: u64,
    /// Count warnings and checks that were not judged as failures
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    effects: EffectsArguments,
    #[command(flatten)]
    secret: SecretArguments,
    #[command(flatten)]
    output: OutputArguments,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(CHECKS.iter().map(|check| check.name))
}

fn event_type(text: &str) -> Result<EventType, String> {
    text.parse().map_err(|_| {
        format!(
            "there is no event type of this name; did you mean `{}`? (all of them: unwrapd trigger --list)",
            nearest_pattern(&shown_name(text))
        )
    })
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        return Ok(arguments.output.list()?);
    }
    let mut signals = StopSignals::new()?;
    let report = tokio::select! {
        report = grade(arguments) => report?,
        () = signals.next() => return Err(anyhow::anyhow!("interrupted; nothing was judged").into()),
    };
    arguments.output.print(&report)?;
    end(&report)
}

async fn grade(arguments: &Arguments) -> Result<Report, Failure> {
    let began = Instant::now();
    let Some(url) = &arguments.url else {
        return Err(usage("the URL of the handler is missing"));
    };
    let checks = selected(arguments);
    let counter = arguments.effects.counter()?;
    let mut forge = Forge::new(arguments.secret.webhooks()?, arguments.event_type)?;
    let sender = Sender::new(url.clone())?;
    let report = |findings, counts, ungraded| Report {
        target: report::target(url),
        findings,
        counts,
        ungraded,
        strict: arguments.strict,
        took: began.elapsed(),
    };

    let accepting = match gate::pass(&sender, &mut forge).await {
        Ok(accepting) => accepting,
        Err(verdict) => {
            let end = verdict.end;
            return Ok(report(ungraded(verdict, &checks), None, Some(end)));
        }
    };
    if let Some(counter) = &counter
        && let Some(first) = accepting.sent.first()
        && let Err(problem) = counter.count(&first.subject).await
    {
        return Err(usage(format!("{}: {problem}", counter.option())));
    }
    let genuine = Observed {
        check: genuine(),
        took: accepting.took,
        sent: accepting.sent,
        not_sent: None,
    };
    let observed = runner::run(&checks, &sender, &forge, genuine, accepting.took).await;
    let counts = match &counter {
        Some(counter) => {
            let sent = observed.iter().flat_map(|one| &one.sent);
            let judged = sent.filter(|sent| sent.effects.is_some());
            Some(counter.count_all(judged.map(|sent| &sent.subject)).await)
        }
        None => None,
    };
    let judge = Judge {
        counts: counts.as_ref(),
        answer_within: Duration::from_secs(arguments.answer_within),
    };
    let findings = judge.judge_all(observed);
    Ok(report(findings, counts, None))
}

/// The checks to run, in the order of the table. The first one always runs.
fn selected(arguments: &Arguments) -> Vec<&'static Check> {
    let has = |list: &[String], check: &Check| list.iter().any(|name| name == check.name);
    CHECKS
        .iter()
        .filter(|check| {
            let is_chosen = arguments.only.is_empty() || has(&arguments.only, check);
            check.name == GENUINE || is_chosen && !has(&arguments.skip, check)
        })
        .collect()
}

fn genuine() -> &'static Check {
    let mut checks = CHECKS.iter();
    checks
        .find(|check| check.name == GENUINE)
        .expect("the table has it")
}

/// The verdict in the place of the first check. The others are not judged.
fn ungraded(verdict: Verdict, checks: &[&'static Check]) -> Vec<Finding> {
    let first = Finding {
        grade: match verdict.end {
            End::Failed => Grade::Fail,
            End::NotFound | End::TryLater => Grade::Unknown,
        },
        fault: Some(verdict.headline.into()),
        remedy: verdict.remedy.into(),
        sent: verdict.sent,
        ..Finding::not_run(genuine(), &verdict.saw)
    };
    let others = checks.iter().filter(|check| check.name != GENUINE);
    let reason = "not run: no genuine event is accepted";
    std::iter::once(first)
        .chain(others.map(|check| Finding::not_run(check, reason)))
        .collect()
}

fn end(report: &Report) -> Result<(), Failure> {
    if let Some(end) = report.ungraded {
        let fault = report
            .findings
            .first()
            .and_then(|first| first.fault.as_deref());
        let problem = anyhow::anyhow!("not graded: {}", fault.unwrap_or("no answer"));
        return Err(match end {
            End::Failed => Failure::Failed(problem),
            End::NotFound => Failure::NotFound(problem),
            End::TryLater => Failure::TryLater(problem),
        });
    }
    match report.failures() {
        0 => {}
        failures => {
            let failures = counted(failures, "check", "checks");
            return Err(anyhow::anyhow!("{failures} failed").into());
        }
    }
    let is_lost = |finding: &&Finding| finding.sent.iter().any(is_not_reached);
    match report.findings.iter().find(is_lost) {
        None => Ok(()),
        Some(finding) => Err(Failure::TryLater(anyhow::anyhow!(
            "the application stopped accepting connections before or during {}",
            finding.check.name
        ))),
    }
}
