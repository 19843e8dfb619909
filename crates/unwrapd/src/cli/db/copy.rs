//! `unwrapd db copy`: copies one store completely into another, of the same kind or not.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};

use super::megabytes;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::outln;
use crate::cli::output::OutputArguments;
use crate::config::{Config, named_store};
use crate::store::{self, Copied, CopyError, Progress, Step};

/// Time between two updates of a progress line on a terminal,
const MOVE_EVERY: Duration = Duration::from_millis(200);
/// and between two lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Width of the longest progress line.
const LINE_CHARS: usize = 79;

#[derive(Args)]
#[command(
    after_help = "Stop every gateway on both stores first. After an interruption, run the same command again.\n\
    No gateway starts on the target before the copy is complete. At the end source and target are\n\
    read and compared. The source is not changed."
)]
pub(crate) struct Arguments {
    /// Source, such as `sqlite:unwrapd.db` [default: the store of the configuration]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Target, such as `postgres://unwrapd@db.internal/unwrapd`; it must be empty
    #[arg(long, value_name = "URL")]
    to: String,
    /// File with the password of these databases, instead of the environment variable PGPASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The configuration file that names the store
    #[arg(long, value_name = "FILE", default_value = "unwrapd.toml")]
    config: PathBuf,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let named = |url: &str, option: &str| {
        let password_file = arguments.password_file.as_deref();
        named_store(url, password_file).map_err(|problem| usage(format!("{option}: {problem}")))
    };
    let to = named(&arguments.to, "--to")?;
    let from = match &arguments.from {
        Some(url) => named(url, "--from")?,
        None => Config::read_store_to_open(&arguments.config)?.url,
    };
    let started = Instant::now();
    let mut reporter = ProgressReporter::new();
    let copied = store::copy(&from, &to, |progress| reporter.report(progress)).await;
    reporter.end();
    let copied = copied.map_err(|error| failure(error, reporter.step.is_some()))?;
    let mut told = Map::new();
    for (table, rows) in &copied.rows {
        told.insert((*table).to_owned(), json!(rows));
    }
    told.insert("bytes".into(), json!(copied.bytes));
    told.insert("sha256".into(), json!(copied.sha256));
    told.insert("was_there".into(), json!(copied.was_there));
    arguments.output.print(Value::Object(told), |_| {
        Ok(say_all(&copied, started.elapsed())?)
    })
}

fn say_all(copied: &Copied, took: Duration) -> std::io::Result<()> {
    if copied.was_there {
        outln!("nothing was left to copy")?;
    }
    for (table, rows) in &copied.rows {
        outln!("{table:<10} {rows}")?;
    }
    outln!(
        "source and target were read and are the same: {}, SHA-256 {}; took {:.1} s",
        megabytes(copied.bytes),
        copied.sha256,
        took.as_secs_f64()
    )
}

fn failure(error: CopyError, has_begun: bool) -> Failure {
    let kind: fn(anyhow::Error) -> Failure = match error {
        CopyError::Refused(_) => Failure::Usage,
        CopyError::NotThere(_) => Failure::NotFound,
        CopyError::InUse { .. } | CopyError::Overtaken(_) => Failure::TryLater,
        _ => Failure::Failed,
    };
    let can_go_on = has_begun && matches!(error, CopyError::Store { .. });
    let error = anyhow::Error::from(error);
    kind(if can_go_on {
        error.context("the copy is incomplete; run the same command again to continue")
    } else {
        error
    })
}

/// Prints the progress on stderr.
struct ProgressReporter {
    moves: bool,
    /// The current step, its start, and the rows done at that time.
    step: Option<Step>,
    began: Instant,
    rows_then: u64,
    /// Time of the latest progress, and of the next line.
    last: Instant,
    next: Instant,
}

impl ProgressReporter {
    fn new() -> Self {
        let now = Instant::now();
        let moves = std::io::stderr().is_terminal();
        Self {
            moves,
            step: None,
            began: now,
            rows_then: 0,
            last: now,
            next: if moves { now } else { now + LINE_EVERY },
        }
    }

    fn report(&mut self, progress: Progress) {
        let now = Instant::now();
        let Progress {
            step,
            rows,
            rows_all,
            bytes,
        } = progress;
        let last = std::mem::replace(&mut self.last, now);
        if step == Step::Resuming {
            self.write(&format!(
                "continuing an earlier copy: {rows} of {rows_all} rows are copied\n"
            ));
            (self.step, self.began, self.rows_then) = (Some(Step::Copying), now, rows);
            return;
        }
        if self.step != Some(step) {
            (self.step, self.began, self.rows_then) = (Some(step), last, 0);
        }
        if now < self.next {
            return;
        }
        self.next = now + if self.moves { MOVE_EVERY } else { LINE_EVERY };
        let what = match step {
            Step::Comparing => "comparing",
            Step::Copying | Step::Resuming => "copying",
        };
        let milliseconds = (now - self.began).as_millis().max(1);
        let rate = u128::from(rows.saturating_sub(self.rows_then)) * 1000 / milliseconds;
        let percent = rows * 100 / rows_all.max(1);
        self.write(&format!(
            "{what}: {rows} of {rows_all} rows ({percent} %), {}, {rate} rows/s{}",
            megabytes(bytes),
            if self.moves { "" } else { "\n" }
        ));
    }

    /// Clears an unfinished line.
    fn end(&self) {
        if self.moves {
            self.write("");
        }
    }

    fn write(&self, line: &str) {
        // A closed stderr is no failure.
        drop(if self.moves {
            write!(std::io::stderr(), "\r{:LINE_CHARS$}\r{line}", "")
        } else {
            write!(std::io::stderr(), "{line}")
        });
    }
}
