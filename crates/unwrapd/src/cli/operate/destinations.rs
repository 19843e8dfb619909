//! `unwrapd destinations`: shows, pauses, resumes and tests the destinations of a running gateway.

use clap::{Args, Subcommand};

use super::admin::AdminArguments;
use super::query::QueryArguments;
use crate::api::{
    CircuitState, ConfiguredView, DestinationList, DestinationView, GiveUpRequest, GiveUpResult,
    PauseResult, TestOutcome, TestRequest, TestResult,
};
use crate::cli::completions::candidates;
use crate::cli::consent::ConsentArguments;
use crate::cli::failure::Failure;
use crate::cli::format::{outln, plain, short, table};
use crate::cli::stderr::message;
use crate::store::Failures;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List destinations with state, waiting deliveries, dead letters and last answer
    Ls(QueryArguments),
    /// Show the failed deliveries of a destination, by the answer of their latest attempt
    Failures(OfDestination),
    /// Hold back all deliveries to a destination; they wait, and calls expire
    Pause(Named),
    /// Deliver to a paused destination again
    Resume(Named),
    /// Give up the deliveries that wait for a destination that is not configured; they become dead
    /// letters
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
        #[arg(long = "type", value_name = "TYPE", add = candidates::event_types())]
        event_type: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct OfDestination {
    /// Name of the destination
    #[arg(add = candidates::destinations())]
    name: String,
    #[command(flatten)]
    ask: QueryArguments,
}

#[derive(Args)]
pub(crate) struct Named {
    /// Name of the destination
    #[arg(add = candidates::destinations())]
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(crate) async fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Ls(ask) => {
            let answer: DestinationList = ask.admin.open()?.get(&["destinations"], &[]).await?;
            ask.print(answer, |answer| list(&answer.destinations))
        }
        Command::Failures(OfDestination { name, ask }) => {
            let path = ["destinations", name, "failures"];
            let answer: Failures = ask.admin.open()?.get(&path, &[]).await?;
            ask.print(answer, |answer| list_failures(&answer))
        }
        Command::Pause(named) => {
            switch(named, "pause").await?;
            Ok(outln!(
                "{} is paused; resume it with `unwrapd destinations resume {0}`",
                named.name
            )?)
        }
        Command::Resume(named) => {
            switch(named, "resume").await?;
            Ok(outln!("{} is resumed", named.name)?)
        }
        Command::GiveUp { named, consent } => give_up(named, consent).await,
        Command::Test { named, event_type } => test(named, event_type.as_deref()).await,
    }
}

async fn switch(named: &Named, verb: &str) -> Result<PauseResult, Failure> {
    let path = ["destinations", &named.name, verb];
    named.admin.open()?.post_nothing(&path).await
}

async fn give_up(named: &Named, consent: &ConsentArguments) -> Result<(), Failure> {
    let admin = named.admin.open()?;
    let path = ["destinations", &named.name, "give-up"];
    let asked = GiveUpRequest { dry_run: true };
    let planned: GiveUpResult = admin.post(&path, &asked).await?;
    let plan = format!(
        "{} for `{}`, as dead letters",
        match planned.deliveries {
            1 => "1 waiting delivery".into(),
            count => format!("{count} waiting deliveries"),
        },
        plain(&named.name)
    );
    if consent.dry_run {
        return Ok(outln!("would give up {plan}")?);
    }
    consent.ask(&format!("Give up {plan}"))?;
    let mut deliveries = 0;
    loop {
        let step: Result<GiveUpResult, _> = admin.post(&path, &GiveUpRequest::default()).await;
        let step = match step {
            // The last step ended all remaining deliveries.
            Err(Failure::NotFound(_)) if deliveries > 0 => break,
            step => step?,
        };
        deliveries += step.deliveries;
        if step.done {
            break;
        }
    }
    Ok(outln!(
        "given up: {deliveries}. `unwrapd dead replay --destination {} --to NAME` delivers them elsewhere",
        plain(&named.name)
    )?)
}

async fn test(named: &Named, event_type: Option<&str>) -> Result<(), Failure> {
    let request = TestRequest {
        event_type: event_type.map(str::to_owned),
    };
    let path = ["destinations", &named.name, "test"];
    let result: TestResult = named.admin.open()?.post(&path, &request).await?;
    outln!(
        "{} {} {} ({} ms)",
        plain(&result.event_type),
        plain(&result.webhook_id),
        plain(&result.answer),
        result.took_ms
    )?;
    if result.outcome != TestOutcome::Delivered {
        return Err(anyhow::anyhow!("not delivered").into());
    }
    Ok(())
}

fn list(destinations: &[DestinationView]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = destinations.iter().map(row).collect();
    let heads = ["NAME", "KIND", "STATE", "WAITING", "DEAD", "LAST ANSWER"];
    Ok(outln!("{}", table(&heads, &rows).trim_end())?)
}

fn list_failures(failures: &Failures) -> Result<(), Failure> {
    if failures.causes.is_empty() {
        message("no failed deliveries\n");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = failures
        .causes
        .iter()
        .map(|cause| {
            vec![
                cause.deliveries.to_string(),
                cause.status.as_str().into(),
                short(cause.first_at),
                short(cause.latest_at),
                cause.example_webhook_id.clone(),
                cause.answer.clone(),
            ]
        })
        .collect();
    let heads = [
        "DELIVERIES",
        "STATUS",
        "FIRST",
        "LATEST",
        "EXAMPLE",
        "LATEST ANSWER",
    ];
    outln!("{}", table(&heads, &rows).trim_end())?;
    if !failures.is_exact {
        message("there are more failed deliveries; these are the newest\n");
    }
    Ok(())
}

fn row(view: &DestinationView) -> Vec<String> {
    let configured = view.configured.as_ref();
    let state = match configured.map(|configured| configured.state) {
        _ if view.paused_since.is_some() => "paused",
        None => "unknown",
        Some(CircuitState::Closed) => "up",
        Some(CircuitState::Open) => "down",
        Some(CircuitState::HalfOpen) => "probing",
    };
    let last = match configured {
        Some(configured) => last_answer(configured),
        None if view.paused_since.is_some() => "-".into(),
        None if view.waiting > 0 => {
            "not configured (`unwrapd destinations give-up` ends its deliveries)".into()
        }
        None => "not configured".into(),
    };
    vec![
        view.name.clone(),
        configured.map_or_else(|| "-".into(), |configured| configured.kind.clone()),
        state.into(),
        view.waiting.to_string(),
        view.dead.to_string(),
        last,
    ]
}

fn last_answer(configured: &ConfiguredView) -> String {
    match (&configured.last_answer, configured.next_probe_at) {
        (Some(answer), Some(at)) => format!("{answer} (next try {at:.0})"),
        (Some(answer), None) => answer.clone(),
        (None, _) => "-".into(),
    }
}
