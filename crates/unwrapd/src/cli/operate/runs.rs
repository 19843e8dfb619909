//! `unwrapd runs`: lists replays and drops of dead letters, shows their progress, and stops them.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::time::sleep;

use super::admin::Admin;
use super::query::{Listed, QueryArguments};
use crate::api::{BulkList, BulkView};
use crate::cli::failure::Failure;
use crate::cli::format::{outln, plain, short};
use crate::cli::stderr::message;
use crate::store::filter::Filter;
use crate::store::replay::Token;
use crate::store::{BulkAction, BulkState};

/// First pause between two looks at a run that is followed. It doubles up to [`LOOK_MAX`].
const LOOK_MIN: Duration = Duration::from_millis(250);
/// Longest pause between two looks at a run that is followed.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Maximum number of values of one kind that are shown of a filter. It may have a thousand ids.
const VALUES_SHOWN_MAX: usize = 5;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the latest replays and drops of dead letters, the newest first
    Ls(QueryArguments),
    /// Show one with its progress
    Show(Show),
    /// End one after its present step; what is done stays done
    Stop(Named),
}

#[derive(Args)]
pub(crate) struct Named {
    /// Name of the run, as printed at its begin and as listed
    token: Token,
    #[command(flatten)]
    ask: QueryArguments,
}

#[derive(Args)]
#[command(
    after_help = "Examples: unwrapd replay --since 2h --destination app --token again-1 --background\n          \
    unwrapd runs show again-1 --follow\n          \
    unwrapd runs stop again-1"
)]
pub(crate) struct Show {
    #[command(flatten)]
    named: Named,
    /// Print the progress until the run has ended; exit code 1 unless everything was done
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Ls(ask) => ls(ask).await,
        Command::Show(Show { named, follow }) => show(named, *follow).await,
        Command::Stop(named) => stop(named).await,
    }
}

async fn ls(ask: &QueryArguments) -> Result<(), Failure> {
    let heads = ["BEGAN", "TOKEN", "ACTION", "STATE", "DONE", "SELECTS"];
    let page = |BulkList { runs }| Listed {
        next: None,
        rows: runs.into_iter().map(row).collect(),
    };
    ask.list("replays", &[], "no replays and no drops", &heads, page)
        .await
}

fn row(run: BulkView) -> Vec<String> {
    let (done, selects) = (progress(&run), words(&run.filter));
    vec![
        short(run.began_at),
        run.token.into(),
        action(run.action).into(),
        state(run.state).into(),
        done,
        selects,
    ]
}

async fn show(Named { token, ask }: &Named, follows: bool) -> Result<(), Failure> {
    let admin = ask.admin.open()?;
    let run = if follows {
        ended(&admin, token).await?
    } else {
        look(&admin, token).await?
    };
    let is_done = run.state == BulkState::Done;
    ask.print(run, |run| print(&run))?;
    if follows && !is_done {
        return Err(anyhow::anyhow!("the run ended before everything was done").into());
    }
    Ok(())
}

async fn look(admin: &Admin, token: &Token) -> Result<BulkView, Failure> {
    admin.get(&["replays", token.as_str()], &[]).await
}

/// Prints the progress as it changes, and returns the run when it has ended.
async fn ended(admin: &Admin, token: &Token) -> Result<BulkView, Failure> {
    let (mut latest, mut pause) = (String::new(), LOOK_MIN);
    loop {
        let run = look(admin, token).await?;
        if run.state != BulkState::Running {
            return Ok(run);
        }
        let waits = run
            .reason
            .as_ref()
            .map(|reason| format!("; waits: {reason}"));
        let line = progress(&run) + &waits.unwrap_or_default();
        if line != latest {
            message(&format!("{line}\n"));
            latest = line;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

async fn stop(Named { token, ask }: &Named) -> Result<(), Failure> {
    let path = ["replays", token.as_str(), "stop"];
    let run: BulkView = ask.admin.open()?.post_nothing(&path).await?;
    ask.print(run, |run| {
        let (token, done) = (plain(token.as_str()), progress(&run));
        Ok(match run.state {
            BulkState::Stopped => outln!("{token} is stopped: {done} done, which stays"),
            ended => outln!("{token} had ended before: {}, {done}", state(ended)),
        }?)
    })
}

/// Prints the token of a run that the gateways carry on.
pub(super) fn print_begun(token: &Token) -> Result<(), Failure> {
    let token = token.as_str();
    message(&format!(
        "the gateway carries it on: `unwrapd runs show {token} --follow` shows its progress, `unwrapd runs stop {token}` ends it\n"
    ));
    Ok(outln!("{token}")?)
}

fn print(run: &BulkView) -> Result<(), Failure> {
    let carried_on_by = if run.background {
        "the gateways"
    } else {
        "a client"
    };
    let rows = [
        ("token", Some(run.token.as_str().to_owned())),
        ("action", Some(action(run.action).into())),
        ("state", Some(state(run.state).into())),
        ("reason", run.reason.clone()),
        ("done", Some(progress(run))),
        ("selects", Some(words(&run.filter))),
        ("to", run.to.clone()),
        ("began", Some(short(run.began_at))),
        ("ended", run.ended_at.map(short)),
        ("carried on by", Some(carried_on_by.into())),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            outln!("{name:<13}  {}", plain(&value))?;
        }
    }
    Ok(())
}

const fn action(action: BulkAction) -> &'static str {
    match action {
        BulkAction::Replay => "replay",
        BulkAction::Drop => "drop",
    }
}

const fn state(state: BulkState) -> &'static str {
    match state {
        BulkState::Running => "running",
        BulkState::Done => "done",
        BulkState::Stopped => "stopped",
        BulkState::Failed => "failed",
    }
}

/// Number of deliveries that are done, and that of the plan.
fn progress(run: &BulkView) -> String {
    let done = run.done();
    match run.planned {
        Some(planned) => format!("{done} of {}", planned.max(done)),
        None => done.to_string(),
    }
}

/// The filter in words, such as "status dead, destination app".
fn words(filter: &Filter) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(filter) else {
        return String::new();
    };
    let words: Vec<String> = fields
        .iter()
        .map(|(name, value)| of_field(name, value))
        .collect();
    if words.is_empty() {
        return "all messages".into();
    }
    words.join(", ")
}

fn of_field(name: &str, value: &Value) -> String {
    let values = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts = values.iter().filter_map(Value::as_str);
    let shown: Vec<&str> = texts.take(VALUES_SHOWN_MAX).collect();
    let more = match values.len() - shown.len() {
        0 => String::new(),
        more => format!(" or {more} more"),
    };
    format!("{name} {}{more}", shown.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_shown_in_words_and_not_with_a_thousand_ids() {
        let words = |json: &str| words(&serde_json::from_str(json).unwrap());
        assert_eq!(words("{}"), "all messages");
        assert_eq!(
            words(r#"{"status": ["dead"], "destination": ["app", "audit"], "since": "2h"}"#),
            "destination app or audit, since 2h, status dead"
        );
        assert_eq!(
            words(r#"{"webhook_id": ["1", "2", "3", "4", "5", "6", "7"]}"#),
            "webhook_id 1 or 2 or 3 or 4 or 5 or 2 more"
        );
    }
}
