//! `unwrapd dead`: lists dead letters, delivers them again, or drops them.

use clap::{Args, Subcommand};

use super::admin::Admin;
use super::filter::FilterArguments;
use super::query::{ListArguments, Listed, QueryArguments};
use super::replay::{HowArguments, not_kept, replay};
use super::runs;
use crate::api::{DeadLetter, DeadPage, DropDeadRequest, DropDeadResult};
use crate::cli::completions::candidates;
use crate::cli::consent::ConsentArguments;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{event_type, outln, short};
use crate::cli::stderr::message;
use crate::printable::counted;
use crate::store::filter::{Filter, Status};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List dead letters with their last answer, the newest messages first
    Ls(ListArguments),
    /// Deliver dead letters again
    Replay(Replay),
    /// Drop dead letters: they stay visible, but no longer count as dead
    Drop(Drop),
}

/// Options that select dead letters.
#[derive(Args)]
pub(crate) struct Selection {
    /// Only dead letters of these messages
    #[arg(value_name = "WEBHOOK-ID", add = candidates::dead_letters())]
    webhook_ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// All dead letters
    #[arg(long, conflicts_with = "webhook_ids")]
    all: bool,
}

#[derive(Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    how: HowArguments,
}

#[derive(Args)]
pub(crate) struct Drop {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    consent: ConsentArguments,
    /// Begin and print the token; the gateway carries it on, also after a restart
    #[arg(long)]
    background: bool,
    #[command(flatten)]
    ask: QueryArguments,
}

impl Selection {
    fn filter(&self) -> Result<Filter, Failure> {
        self.filter.filter(&self.webhook_ids)
    }
}

pub(crate) async fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Ls(arguments) => ls(arguments).await,
        Command::Replay(arguments) => {
            let mut filter = arguments.selection.filter()?;
            only_dead(&mut filter)?;
            replay(filter, &arguments.how).await
        }
        Command::Drop(arguments) => drop_dead(arguments).await,
    }
}

async fn ls(arguments: &ListArguments) -> Result<(), Failure> {
    let query = arguments.query();
    let heads = [
        "GIVEN UP",
        "TYPE",
        "WEBHOOK-ID",
        "DESTINATION",
        "ATTEMPTS",
        "LAST ANSWER",
    ];
    let page = |dead: DeadPage| Listed {
        next: dead.next,
        rows: dead.letters.into_iter().map(row).collect(),
    };
    let ask = &arguments.ask;
    ask.list("dead", &query, "no dead letters", &heads, page)
        .await
}

fn row(letter: DeadLetter) -> Vec<String> {
    let is_dropped = letter.status == Status::Dropped;
    let answer = letter.answer.unwrap_or_default();
    vec![
        short(letter.at),
        event_type(letter.event_type.as_deref()),
        letter.webhook_id,
        letter.destination,
        letter.attempts.to_string(),
        if is_dropped {
            format!("dropped; {answer}")
        } else {
            answer
        },
    ]
}

async fn drop_dead(arguments: &Drop) -> Result<(), Failure> {
    let mut filter = arguments.selection.filter()?;
    if filter == Filter::default() && !arguments.selection.all {
        return Err(usage(
            "name the dead letters to drop: webhook-ids, a filter such as `--destination app`, or --all",
        ));
    }
    only_dead(&mut filter)?;
    let admin = arguments.ask.admin.open()?;
    let mut asked = DropDeadRequest {
        all: names_all(&filter),
        filter,
        dry_run: true,
        ..DropDeadRequest::default()
    };
    let planned: DropDeadResult = admin.post(&["dead", "drop"], &asked).await?;
    let ids = &asked.filter.webhook_id;
    if !ids.is_empty() && ids.iter().all(|id| planned.unknown.contains(id)) {
        return Err(not_kept(ids));
    }
    if arguments.consent.dry_run {
        return arguments.ask.print(planned, |planned| {
            Ok(outln!("would drop {}", letters(planned.deliveries))?)
        });
    }
    if planned.deliveries > 0 {
        let plan = format!("Drop {}", letters(planned.deliveries));
        arguments.consent.ask(&plan)?;
    }
    asked.as_of = Some(planned.as_of);
    asked.dry_run = false;
    if arguments.background {
        return drop_in_background(&admin, &arguments.ask, asked, planned).await;
    }
    let mut dropped = DropDeadResult {
        deliveries: 0,
        ..planned
    };
    while !dropped.done {
        let step: DropDeadResult = admin.post(&["dead", "drop"], &asked).await?;
        dropped.deliveries += step.deliveries;
        dropped.done = step.done;
    }
    arguments.ask.print(dropped, |dropped| {
        Ok(outln!("dropped {}", letters(dropped.deliveries))?)
    })
}

/// Begins the drop of the plan, which the gateways carry on.
async fn drop_in_background(
    admin: &Admin,
    ask: &QueryArguments,
    mut asked: DropDeadRequest,
    planned: DropDeadResult,
) -> Result<(), Failure> {
    if planned.deliveries == 0 {
        message("no dead letters match\n");
        let done = DropDeadResult {
            done: true,
            ..planned
        };
        return ask.print(done, |_| Ok(()));
    }
    asked.background = true;
    asked.planned = Some(planned.deliveries);
    let begun: DropDeadResult = admin.post(&["dead", "drop"], &asked).await?;
    ask.print(begun, |begun| {
        let token = begun.token.as_ref();
        token.map_or(Ok(()), runs::print_begun)
    })
}

fn letters(count: u64) -> String {
    counted(count, "dead letter", "dead letters")
}

/// Whether the filter selects every dead letter.
fn names_all(filter: &Filter) -> bool {
    Filter {
        status: Vec::new(),
        ..filter.clone()
    } == Filter::default()
}

/// Dropped dead letters are selected by `--status dropped` only.
fn only_dead(filter: &mut Filter) -> Result<(), Failure> {
    if filter.status.is_empty() {
        filter.status = vec![Status::Dead];
    }
    let is_dead = |status: &Status| matches!(status, Status::Dead | Status::Dropped);
    if filter.status.iter().all(is_dead) {
        return Ok(());
    }
    Err(usage(
        "--status: for dead letters it must be `dead` or `dropped`",
    ))
}
