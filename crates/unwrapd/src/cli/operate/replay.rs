//! `unwrapd replay`: delivers stored messages again; the plan first, then the run.

use std::io::Write as _;

use clap::Args;

use super::admin::Admin;
use super::filter::FilterArguments;
use super::query::QueryArguments;
use super::runs;
use crate::api::{ReplayPlan, ReplayProgress, ReplayRequest};
use crate::cli::completions::candidates;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::{outln, plain, short, shown_name};
use crate::cli::stderr::{confirmed, message};
use crate::printable::counted;
use crate::store::filter::{Filter, Status};
use crate::store::replay::{Counts, Token};

#[derive(Args)]
#[command(after_help = "Examples: unwrapd replay wh_6852a1f2\n          \
    unwrapd replay --type 'response.*' --since 2h --destination app\n          \
    unwrapd replay --since 3d --to audit --token fill-audit --background\n\
    The same token replays only once; with its token, an interrupted replay continues.")]
pub(crate) struct Arguments {
    /// webhook-ids of the messages to deliver again
    #[arg(value_name = "WEBHOOK-ID", add = candidates::webhook_ids())]
    webhook_ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Only dead letters: short for --status dead
    #[arg(long, conflicts_with = "status")]
    dead: bool,
    /// All stored messages
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    how: HowArguments,
}

/// Options of every replay.
#[derive(Args)]
pub(crate) struct HowArguments {
    /// Deliver to this destination, whatever it subscribes to, instead of the original ones
    #[arg(long, value_name = "NAME", add = candidates::destinations())]
    to: Option<String>,
    /// Name of this replay [default: a new one, which is printed]
    #[arg(long)]
    token: Option<Token>,
    /// Print the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Begin and print the token; the gateway carries it on, also after a restart
    #[arg(long)]
    background: bool,
    /// Skip the confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ask: QueryArguments,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut filter = arguments.filter.filter(&arguments.webhook_ids)?;
    if arguments.dead {
        filter.status = vec![Status::Dead];
    }
    if filter == Filter::default() && !arguments.all {
        return Err(usage(
            "name the messages to replay: webhook-ids, a filter such as `--since 2h`, --dead, or --all",
        ));
    }
    replay(filter, &arguments.how).await
}

/// Prints the plan, asks for confirmation, and runs the replay.
pub(super) async fn replay(filter: Filter, how: &HowArguments) -> Result<(), Failure> {
    let admin = how.ask.admin.open()?;
    let mut asked = ReplayRequest {
        filter,
        to: how.to.clone(),
        token: how.token.clone(),
        dry_run: true,
        ..ReplayRequest::default()
    };
    let planned: ReplayPlan = admin.post(&["replays"], &asked).await?;
    let counts = planned.plan.counts;
    let ids = &asked.filter.webhook_id;
    if !ids.is_empty() && ids.iter().all(|id| planned.plan.unknown.contains(id)) {
        return Err(not_kept(ids));
    }
    if how.dry_run {
        return how.ask.print(planned, |planned| {
            Ok(write!(std::io::stdout().lock(), "{}", told(&planned))?)
        });
    }
    message(&told(&planned));
    // An earlier token may have deliveries left that the plan does not show any more.
    if counts.deliveries + counts.waiting == 0 && how.token.is_none() {
        return how.ask.print(planned, |_| Ok(()));
    }
    if counts.deliveries > 0 && !how.yes {
        let question = format!("Redeliver {}?", made(counts));
        if !confirmed(&question)? {
            return Err(anyhow::anyhow!("nothing was done").into());
        }
    }
    let token = match &how.token {
        Some(token) => token.clone(),
        None => uuid::Uuid::now_v7().to_string().parse()?,
    };
    if how.token.is_none() && !how.background {
        // Printed now: an interruption may leave no time for it.
        message(&format!(
            "token {0}: if the replay is interrupted, run it again with `--token {0}` to continue\n",
            token.as_str()
        ));
    }
    asked.token = Some(token.clone());
    asked.as_of = Some(planned.plan.as_of);
    asked.dry_run = false;
    if how.background {
        asked.background = true;
        asked.planned = Some(counts.deliveries + counts.waiting);
        let begun: ReplayProgress = admin.post(&["replays"], &asked).await?;
        return how.ask.print(begun, |begun| {
            if begun.done {
                message(&format!(
                    "everything was done before under this token: {}\n",
                    made(begun.counts)
                ));
                return Ok(outln!("{}", token.as_str())?);
            }
            runs::print_begun(&token)
        });
    }
    let ran = carry_out(&admin, &asked, &token).await?;
    how.ask.print(ran, |ran| {
        let made = made(ran.counts);
        let token = token.as_str();
        if ran.repeated {
            outln!("token {token} was already used for {made}; use a new token to replay again")?;
        } else {
            outln!("replaying {made}, token {token}")?;
        }
        Ok(())
    })
}

pub(super) fn not_kept(ids: &[String]) -> Failure {
    Failure::NotFound(anyhow::anyhow!(
        "no message has the webhook-id {}",
        ids.iter()
            .map(|id| shown_name(id))
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

/// Sends the request until the replay is complete.
async fn carry_out(
    admin: &Admin,
    asked: &ReplayRequest,
    token: &Token,
) -> Result<ReplayProgress, Failure> {
    let go_on = |error: anyhow::Error| {
        let token = token.as_str();
        error.context(format!(
            "the replay was interrupted; run the same command again with `--token {token}` to continue"
        ))
    };
    loop {
        let answer: Result<ReplayProgress, Failure> = admin.post(&["replays"], asked).await;
        let ran = answer.map_err(|failure| match failure {
            Failure::Failed(error) => Failure::Failed(go_on(error)),
            Failure::TryLater(error) => Failure::TryLater(go_on(error)),
            other => other,
        })?;
        if ran.done {
            return Ok(ran);
        }
        message(&format!("{} …\n", ran.counts.deliveries));
    }
}

/// The deliveries of a replay and their messages.
fn made(counts: Counts) -> String {
    let deliveries = counted(counts.deliveries, "delivery", "deliveries");
    let messages = counted(counts.messages, "message", "messages");
    format!("{deliveries} of {messages}")
}

fn told(planned: &ReplayPlan) -> String {
    let plan = &planned.plan;
    let counts = plan.counts;
    let mut lines = vec![format!("{} would be redelivered", made(counts))];
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
            ", which is not configured: they wait until it is"
        };
        lines.push(format!("{deliveries} for `{}`{remark}", plain(name)));
    }
    let remarks = [
        (
            counts.calls,
            "is a call, whose caller has hung up since",
            "are calls, whose callers have hung up since",
        ),
        (
            counts.waiting,
            "more already waits and becomes due at once, or is under way",
            "more already wait and become due at once, or are under way",
        ),
        (
            counts.gone,
            "more cannot be delivered: its payload was removed",
            "more cannot be delivered: their payloads were removed",
        ),
        (
            plan.unrouted,
            "message was wanted by no destination: name one with `--to`",
            "messages were wanted by no destination: name one with `--to`",
        ),
        (
            plan.unknown.len() as u64,
            "webhook-id has no message",
            "webhook-ids have no message",
        ),
    ];
    for (count, one, many) in remarks {
        if count > 0 {
            lines.push(counted(count, one, many));
        }
    }
    lines.join("\n  ") + "\n"
}
