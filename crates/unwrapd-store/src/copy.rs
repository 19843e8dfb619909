//! Copies all content of one store into another, of any kind. No gateway may run on either store.
//!
//! The target holds a mark with the progress, which changes in the commit that adds rows. So an
//! interrupted copy continues when the same command is run again. A gateway does not start on a
//! target with a mark. The mark is removed after both stores were read and found equal.

mod compare;
mod endpoints;
mod mark;
mod table;

use async_trait::async_trait;

use super::error::StoreError;
use super::settings::StoreUrl;
use compare::{Compared, compare};
use endpoints::{CopyEndpoints, open};
use mark::{EMPTY, Found, Mark, count_of, find, holds_another, rows_of};
use unwrapd_core::crash::{self, CrashPoint};

pub(super) use table::{BYTES_MAX, Kind, Outline, Row, TABLES, Table, Value};

/// One end of a copy: a store, as rows, on which no gateway runs. Each kind of store implements
/// this once.
#[async_trait]
pub(super) trait CopyEndpoint: Send {
    /// Returns the same text for two ends that are the same store, by whatever path.
    async fn identity(&mut self) -> Result<String, StoreError>;

    /// The mark of an unfinished copy into it. `None` if there is none.
    async fn mark(&mut self) -> Result<Option<String>, StoreError>;

    /// Outline of the content: counts and sums.
    async fn outline(&mut self) -> Result<Outline, StoreError>;

    /// Reads some rows after the key `after`, in the order of their keys. Empty at the end.
    async fn read(&mut self, table: &'static Table, after: Row) -> Result<Vec<Row>, StoreError>;

    /// An id that occurs more than once, and the arrival time of its first message, in milliseconds
    /// since 1970.
    async fn repeated(&mut self) -> Result<Option<(String, i64)>, StoreError>;

    /// Whether an id may occur more than once.
    fn takes_repeated(&self) -> bool;

    /// Begins a copy into it, unless one has begun.
    async fn begin(&mut self, mark: String) -> Result<StepResult, StoreError>;

    /// Writes rows and the new mark in one commit. Writes neither if the mark differs from the
    /// expected one.
    async fn write(
        &mut self,
        table: &'static Table,
        rows: Vec<Row>,
        before: String,
        mark: String,
    ) -> Result<StepResult, StoreError>;

    /// Derives the internal tables of this kind of store, and removes the mark, after which
    /// gateways may start. Does neither if the mark differs.
    async fn finish(&mut self, mark: String) -> Result<StepResult, StoreError>;

    /// Returns an error if a gateway runs on it.
    async fn check_unused(&mut self) -> Result<(), StoreError>;
}

/// Result of a step of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepResult {
    /// The step was made.
    Done,
    /// Another copy into the same target has changed the mark.
    Overtaken,
}

/// The current step of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The copy continues an earlier one.
    Resuming,
    /// The copy moves rows.
    Copying,
    /// The copy reads source and target and compares them.
    Comparing,
}

/// Progress of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The current step.
    pub step: Step,
    /// Rows that are done.
    pub rows: u64,
    /// All rows.
    pub rows_all: u64,
    /// Bytes in the rows that are done.
    pub bytes: u64,
}

/// Result of a copy: the content of both stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Each table and its number of rows.
    pub rows: Vec<(&'static str, u64)>,
    /// Bytes in all rows.
    pub bytes: u64,
    /// The SHA-256 of all rows in order, in hexadecimal digits.
    pub sha256: String,
    /// Whether the target had the complete copy before.
    pub was_there: bool,
}

/// Reason why a copy was not completed, with the remedy. The rows copied so far stay, and the same
/// copy continues from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source does not exist.
    #[error("{0} does not exist")]
    NotThere(String),
    /// A gateway runs on one of the stores.
    #[error(
        "{place} is in use: stop every gateway on it, or wait until another copy has ended{}",
        if *.is_remembered { "; a gateway that was killed counts as running for 12 s" } else { "" }
    )]
    InUse {
        /// Name of the store.
        place: String,
        /// Whether a gateway that was killed counts as running for a while.
        is_remembered: bool,
    },
    /// Another copy works on the target, or did until now.
    #[error(
        "{0} was changed during the copy, perhaps by another copy: wait until that has ended, then run this command again to compare the stores"
    )]
    Overtaken(String),
    /// The copy was refused because it would do harm.
    #[error("{0}")]
    Refused(String),
    /// The two stores differ after the copy.
    #[error("{0}")]
    Different(String),
    /// One of the stores cannot be read or written.
    #[error("{place}: {error}")]
    Store {
        /// Name of the store.
        place: String,
        /// The error of the store.
        error: StoreError,
    },
}

/// Copies all of `from` into `to`, creates `to` if it does not exist, and compares the two.
pub async fn copy(
    from: &StoreUrl,
    to: &StoreUrl,
    mut tell: impl FnMut(Progress),
) -> Result<Copied, CopyError> {
    let mut endpoints = open(from, to).await?;
    let outline = endpoints.from.outline().await?;
    let mut progress = Progress {
        step: Step::Copying,
        rows: 0,
        rows_all: rows_of(&outline),
        bytes: 0,
    };
    let found = find(&mut endpoints, &outline).await?;
    let was_there = matches!(found, Found::AsMuch);
    if let Found::Half(mark) = &found {
        progress.step = Step::Resuming;
        progress.rows = mark.rows;
        progress.bytes = mark.bytes;
        tell(progress);
        progress.step = Step::Copying;
    }
    let mark = match found {
        Found::Nothing(mark) | Found::Half(mark) => {
            Some(move_all(&mut endpoints, mark, &mut progress, &mut tell).await?)
        }
        Found::AsMuch => None,
    };

    let mut progress = Progress {
        step: Step::Comparing,
        rows: 0,
        bytes: 0,
        ..progress
    };
    let compared = compare(&mut endpoints, |rows, bytes| {
        progress.rows += rows as u64;
        progress.bytes += bytes as u64;
        tell(progress);
    })
    .await?;
    let digest = match compared {
        Compared::Same(digest) => digest,
        Compared::Different(what) => {
            return Err(match &mark {
                Some(mark) => different(&mut endpoints, mark, &outline, &what).await,
                None => holds_another(&endpoints, &what),
            });
        }
    };
    crash::point(CrashPoint::CopyCompared);
    let unused = endpoints.from.end.check_unused().await;
    unused.map_err(|error| endpoints.from.problem(error))?;
    // A gateway may have run in the meantime.
    if endpoints.from.outline().await? != outline {
        return Err(CopyError::Different(match mark {
            Some(_) => changed("during the comparison"),
            None => "the source was changed during the comparison: stop every program that writes to it, and run this command again".into(),
        }));
    }
    if let Some(mark) = mark {
        let finished = endpoints.to.end.finish(mark.text()).await;
        endpoints.to.is_ours(finished)?;
        crash::point(CrashPoint::CopyWhole);
    }
    let counts = outline.iter().map(|numbers| count_of(numbers));
    Ok(Copied {
        rows: TABLES.iter().map(|table| table.name).zip(counts).collect(),
        bytes: progress.bytes,
        sha256: digest,
        was_there,
    })
}

/// Reads and writes concurrently. Returns the mark after the last row.
async fn move_all(
    endpoints: &mut CopyEndpoints,
    mut mark: Mark,
    progress: &mut Progress,
    tell: &mut impl FnMut(Progress),
) -> Result<Mark, CopyError> {
    for (place, table) in TABLES.iter().enumerate().skip(mark.table) {
        let after = if place == mark.table {
            mark.after.clone()
        } else {
            table.beginning()
        };
        let read = endpoints.from.end.read(table, after).await;
        let mut rows = read.map_err(|error| endpoints.from.problem(error))?;
        while let Some(last) = rows.last() {
            let before = mark.text();
            mark.table = place;
            mark.after = table.key(last);
            mark.rows += rows.len() as u64;
            mark.bytes += rows.iter().flatten().map(Value::bytes).sum::<usize>() as u64;
            let (written, read) = tokio::join!(
                endpoints.to.end.write(table, rows, before, mark.text()),
                endpoints.from.end.read(table, mark.after.clone()),
            );
            endpoints.to.is_ours(written)?;
            crash::point(CrashPoint::Copied);
            rows = read.map_err(|error| endpoints.from.problem(error))?;
            progress.rows = mark.rows;
            progress.bytes = mark.bytes;
            tell(*progress);
        }
    }
    Ok(mark)
}

/// The error for a difference, which depends on its cause.
async fn different(
    endpoints: &mut CopyEndpoints,
    ours: &Mark,
    before: &Outline,
    what: &str,
) -> CopyError {
    // If another copy has finished, gateways may run on the target.
    match endpoints.to.end.mark().await {
        Ok(mark) if mark.as_deref() == Some(ours.text().as_str()) => {}
        Ok(_) => return CopyError::Overtaken(endpoints.to.name.clone()),
        Err(error) => return endpoints.to.problem(error),
    }
    let now = match endpoints.from.outline().await {
        Ok(now) => now,
        Err(error) => return error,
    };
    CopyError::Different(if now == *before {
        format!(
            "the copy differs from its source ({what}), and no gateway can start on it: please report this bug; {EMPTY}"
        )
    } else {
        changed(&format!("during the copy ({what})"))
    })
}

fn changed(when: &str) -> String {
    format!("the source was changed {when}: stop every program that writes to it; {EMPTY}")
}
