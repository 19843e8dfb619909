//! Runs the checks one after the other, within a bounded time.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::checks::{Check, GENUINE};
use super::forge::Forge;
use super::request::{Sent, Silence};
use super::sender::Sender;

/// Longest time of all requests together. Then nothing more is sent, and the rest is not judged.
const RUN_MAX: Duration = Duration::from_secs(180);
/// Requests without an answer after which a check sends no more. Each may take ten seconds.
const SILENCES_MAX: usize = 3;

/// A check and the answers to its requests.
pub(super) struct Observed {
    pub(super) check: &'static Check,
    pub(super) sent: Vec<Sent>,
    pub(super) took: Duration,
    /// Why requests were not sent.
    pub(super) not_sent: Option<String>,
}

impl Observed {
    pub(super) fn not_run(check: &'static Check, reason: &str) -> Self {
        Self {
            check,
            sent: Vec::new(),
            took: Duration::ZERO,
            not_sent: Some(reason.to_owned()),
        }
    }
}

/// Runs all checks but the first, which the gate has run.
pub(super) async fn run(
    checks: &[&'static Check],
    sender: &Sender,
    forge: &Forge,
    genuine: Observed,
    usual: Duration,
) -> Vec<Observed> {
    let deadline = Instant::now() + RUN_MAX;
    let progress = Progress::new(checks.len());
    let mut observed = vec![genuine];
    let mut is_gone = false;
    for (number, check) in checks.iter().enumerate() {
        if check.name == GENUINE {
            continue;
        }
        let reason = if is_gone {
            Some("not run: the application no longer accepts connections")
        } else if Instant::now() > deadline {
            Some("not run: the checks before it took three minutes")
        } else {
            None
        };
        if let Some(reason) = reason {
            observed.push(Observed::not_run(check, reason));
            continue;
        }
        progress.show(number + 1, check.name);
        let one = take(check, sender, forge, usual, deadline).await;
        is_gone = !one.sent.is_empty() && one.sent.iter().all(is_not_reached);
        observed.push(one);
    }
    observed
}

async fn take(
    check: &'static Check,
    sender: &Sender,
    forge: &Forge,
    usual: Duration,
    deadline: Instant,
) -> Observed {
    let began = Instant::now();
    let mut sent: Vec<Sent> = Vec::new();
    let steps = (check.steps)(forge);
    let mut left = steps.len();
    for step in steps {
        left -= 1;
        sent.extend(sender.take(step, usual).await);
        let is_silent = |sent: &&Sent| matches!(sent.reply, Some(Err(_)));
        let silences = sent.iter().filter(is_silent).count();
        if silences >= SILENCES_MAX || Instant::now() > deadline {
            break;
        }
    }
    Observed {
        check,
        sent,
        took: began.elapsed(),
        not_sent: (left > 0).then(|| format!("{left} more not sent")),
    }
}

pub(super) fn is_not_reached(sent: &Sent) -> bool {
    matches!(sent.reply, Some(Err(Silence::NotReached(_))))
}

/// The present check, on a terminal.
struct Progress {
    all: usize,
    is_seen: bool,
}

impl Progress {
    fn new(all: usize) -> Self {
        let is_seen = std::io::stderr().is_terminal();
        Self { all, is_seen }
    }

    fn show(&self, number: usize, name: &str) {
        if self.is_seen {
            // A closed stderr is no failure.
            drop(write!(
                std::io::stderr(),
                "\r\x1b[K{number} of {}: {name}",
                self.all
            ));
        }
    }
}

/// Also if the run is interrupted.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_seen {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}
