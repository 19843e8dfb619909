//! `unwrapd replay`: delivers again what is kept; the plan first, then the run.

use std::io::Write as _;

use clap::Args;

use super::admin::Admin;
use super::ask::AskArguments;
use super::filter::FilterArguments;
use super::talk::{confirmed, talk};
use super::text::{plain, print_json, short, shown_name};
use super::{Failure, Output, say, usage};
use crate::admin::{AskedReplay, Planned, Ran};
use crate::store::filter::{Filter, Status};
use crate::store::replay::Token;

#[derive(Args)]
#[command(after_help = "Examples: unwrapd replay wh_6852a1f2\n          \
    unwrapd replay --type 'response.*' --since 2h --destination app\n          \
    unwrapd replay --since 3d --to audit --token fill-audit --yes\n\
    Asked for twice under one token, it is delivered once; a replay that broke off goes on.")]
pub(super) struct Arguments {
    /// The webhook-ids of what to deliver again
    #[arg(value_name = "WEBHOOK-ID")]
    webhook_ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Only the dead: short for --status dead
    #[arg(long, conflicts_with = "status")]
    dead: bool,
    /// Everything that is kept
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    how: HowArguments,
}

/// How to replay, whatever it is.
#[derive(Args)]
pub(super) struct HowArguments {
    /// Deliver it to this destination, whether or not it wanted it then, instead of those that had it
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// The name of this replay [default: a new one, which is printed]
    #[arg(long)]
    token: Option<Token>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ask: AskArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut filter = arguments.filter.filter(&arguments.webhook_ids)?;
    if arguments.dead {
        filter.status = vec![Status::Dead];
    }
    if filter == Filter::default() && !arguments.all {
        return Err(usage(
            "say what to replay: webhook-ids, a filter such as `--since 2h`, --dead, or --all",
        ));
    }
    replay(filter, &arguments.how).await
}

/// Plans, asks, and runs.
pub(super) async fn replay(filter: Filter, how: &HowArguments) -> Result<(), Failure> {
    let admin = how.ask.admin.open()?;
    let mut asked = AskedReplay {
        filter,
        to: how.to.clone(),
        token: how.token.clone(),
        dry_run: true,
        ..AskedReplay::default()
    };
    let planned: Planned = admin.post(&["replays"], &asked).await?;
    let counts = planned.plan.counts;
    let ids = &asked.filter.webhook_id;
    if !ids.is_empty() && ids.iter().all(|id| planned.plan.unknown.contains(id)) {
        return Err(not_kept(ids));
    }
    if how.dry_run {
        return match how.ask.output {
            Output::Json => Ok(print_json(&planned)?),
            Output::Human => Ok(write!(std::io::stdout().lock(), "{}", told(&planned))?),
        };
    }
    talk(&told(&planned));
    // A token of before may have something left to do that the plan cannot see any more.
    if counts.deliveries + counts.waiting == 0 && how.token.is_none() {
        if how.ask.output == Output::Json {
            print_json(&planned)?;
        }
        return Ok(());
    }
    if counts.deliveries > 0 && !how.yes {
        let question = format!("Deliver {} again?", counts.deliveries);
        if !confirmed(&question)? {
            return Err(anyhow::anyhow!("nothing was done").into());
        }
    }
    let token = match &how.token {
        Some(token) => token.clone(),
        None => uuid::Uuid::now_v7().to_string().parse()?,
    };
    if how.token.is_none() {
        // Now, as whatever ends this may leave no time to say it.
        talk(&format!(
            "token {}: if this breaks off, ask again with --token and it goes on\n",
            token.as_str()
        ));
    }
    asked.token = Some(token.clone());
    asked.as_of = Some(planned.plan.as_of);
    asked.dry_run = false;
    let ran = carry_out(&admin, &asked, &token).await?;
    match how.ask.output {
        Output::Json => print_json(&ran)?,
        Output::Human if ran.repeated => say!(
            "nothing was made again: what fitted when token {} was first used was made then, {} deliveries of {} messages; another token makes what fits now",
            token.as_str(),
            ran.counts.deliveries,
            ran.counts.messages
        )?,
        Output::Human => say!(
            "{} deliveries of {} messages are under way, token {}",
            ran.counts.deliveries,
            ran.counts.messages,
            token.as_str()
        )?,
    }
    Ok(())
}

pub(super) fn not_kept(ids: &[String]) -> Failure {
    Failure::NotFound(anyhow::anyhow!(
        "no message is kept under {}",
        ids.iter()
            .map(|id| shown_name(id))
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

/// Asks until all of it is done.
async fn carry_out(admin: &Admin, asked: &AskedReplay, token: &Token) -> Result<Ran, Failure> {
    let go_on = |error: anyhow::Error| {
        let token = token.as_str();
        error.context(format!(
            "the replay broke off; ask again for the same with --token {token} and it goes on"
        ))
    };
    loop {
        let answer: Result<Ran, Failure> = admin.post(&["replays"], asked).await;
        let ran = answer.map_err(|failure| match failure {
            Failure::Failed(error) => Failure::Failed(go_on(error)),
            Failure::TryLater(error) => Failure::TryLater(go_on(error)),
            other => other,
        })?;
        if ran.done {
            return Ok(ran);
        }
        talk(&format!("{} …\n", ran.counts.deliveries));
    }
}

fn told(planned: &Planned) -> String {
    let plan = &planned.plan;
    let counts = plan.counts;
    let mut lines = vec![format!(
        "{} deliveries of {} messages would be made again",
        counts.deliveries, counts.messages
    )];
    if let (Some(oldest), Some(newest)) = (plan.oldest, plan.newest) {
        lines.push(format!(
            "arrived from {} to {}",
            short(oldest),
            short(newest)
        ));
    }
    for (name, deliveries) in &plan.destinations {
        let is_configured = !planned.unconfigured.contains(name);
        let remark = if is_configured {
            ""
        } else {
            ", which is not configured: they will wait until it is"
        };
        lines.push(format!("{deliveries} for `{}`{remark}", plain(name)));
    }
    let remarks = [
        (
            counts.calls,
            "are calls, and whoever rang has hung up since",
        ),
        (
            counts.waiting,
            "more wait already and will be due at once, or are under way",
        ),
        (counts.gone, "more cannot be made: their bodies are removed"),
        (plan.unknown.len() as u64, "ids are not kept"),
    ];
    for (count, remark) in remarks {
        if count > 0 {
            lines.push(format!("{count} {remark}"));
        }
    }
    lines.join("\n  ") + "\n"
}
