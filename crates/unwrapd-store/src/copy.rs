//! Moves everything that one store knows into another, of whatever kind. No gateway may run on either.
//!
//! How far it is stands in the target, and changes in the commit that brings the rows: whatever
//! ends a copy, the same asked for again goes on from there. As long as that mark is there no
//! gateway begins on the target. It goes when both were read and are the same.

mod compare;
mod endpoints;
mod mark;
mod table;

use async_trait::async_trait;

use super::{StoreError, StoreUrl};
use compare::{Compared, compare};
use endpoints::{CopyEndpoints, open};
use mark::{EMPTY, Found, Mark, count_of, find, holds_another, rows_of};
use unwrapd_core::crash::{self, CrashPoint};

pub(super) use table::{BYTES_MAX, Kind, Outline, Row, TABLES, Table, Value};

/// One end of a copy: a store that no gateway runs on, as rows. Each kind of store has one reader
/// and one writer of them.
#[async_trait]
pub(super) trait CopyEndpoint: Send {
    /// The same for two ends that are the same store, by whatever way.
    async fn identity(&mut self) -> Result<String, StoreError>;

    /// How far a copy into it is; `None`: none is under way.
    async fn mark(&mut self) -> Result<Option<String>, StoreError>;

    /// Outline of the content: counts and sums.
    async fn outline(&mut self) -> Result<Outline, StoreError>;

    /// Some rows behind the one with this key, in the order of their keys; none: there are no more.
    async fn read(&mut self, table: &'static Table, after: Row) -> Result<Vec<Row>, StoreError>;

    /// An id that is there more than once, and when the first of them arrived, in milliseconds since 1970.
    async fn repeated(&mut self) -> Result<Option<(String, i64)>, StoreError>;

    /// Whether an id can be there more than once.
    fn takes_repeated(&self) -> bool;

    /// Begins a copy into it, unless one has begun.
    async fn begin(&mut self, mark: String) -> Result<StepResult, StoreError>;

    /// Writes rows, and that it is as far now, in one commit. It does neither if it was not as far before.
    async fn write(
        &mut self,
        table: &'static Table,
        rows: Vec<Row>,
        before: String,
        mark: String,
    ) -> Result<StepResult, StoreError>;

    /// Makes what else a store of its kind has, and takes the mark away: gateways may run on it. It
    /// does neither if it was not as far.
    async fn finish(&mut self, mark: String) -> Result<StepResult, StoreError>;

    /// An error if a gateway runs on it.
    async fn check_unused(&mut self) -> Result<(), StoreError>;
}

/// Whether a copy could do what it was about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepResult {
    /// The copy has done its step.
    Done,
    /// Another copy into the same target has come before.
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

/// How far it is with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The current step.
    pub step: Step,
    /// Rows that are done.
    pub rows: u64,
    /// All that there are.
    pub rows_all: u64,
    /// Bytes in those that are done.
    pub bytes: u64,
}

/// The content of both stores after a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Each table, and how many rows it has.
    pub rows: Vec<(&'static str, u64)>,
    /// Bytes in all of them.
    pub bytes: u64,
    /// The SHA-256 of all of them in order, in hexadecimal digits.
    pub sha256: String,
    /// Whether there was nothing to do: it was copied before.
    pub was_there: bool,
}

/// Why it is not copied, and what to do. What was copied up to now is kept, and the same copy goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is no source.
    #[error("{0} does not exist")]
    NotThere(String),
    /// A gateway runs on one of them.
    #[error(
        "{place} is in use: stop every gateway on it, or wait until another copy has ended{}",
        if *.is_remembered { "; a gateway that was killed counts as running for 12 s" } else { "" }
    )]
    InUse {
        /// Which.
        place: String,
        /// Whether one that was killed counts for a while.
        is_remembered: bool,
    },
    /// Another copy is at work on the target, or was until now.
    #[error(
        "{0} was changed meanwhile, perhaps by another copy: wait until that has ended, then run this command again, which compares"
    )]
    Overtaken(String),
    /// The copy would do harm.
    #[error("{0}")]
    Refused(String),
    /// The two are not the same in the end.
    #[error("{0}")]
    Different(String),
    /// One of them cannot be read or written.
    #[error("{place}: {error}")]
    Store {
        /// Which.
        place: String,
        /// Why.
        error: StoreError,
    },
}

/// Copies all of `from` into `to`, which is made if it is not there, and compares the two.
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
    // A gateway may have been there and gone meanwhile.
    if endpoints.from.outline().await? != outline {
        return Err(CopyError::Different(match mark {
            Some(_) => changed("while it was compared"),
            None => "the source was changed while it was compared: stop every program that writes to it, and run this command again".into(),
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

/// Reads and writes at the same time, and gives how far it is then.
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
    // Where another has ended it, gateways may be at work there.
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
            "the copy differs from its source ({what}), and no gateway starts on it: please report this; {EMPTY}"
        )
    } else {
        changed(&format!("while it was copied ({what})"))
    })
}

fn changed(when: &str) -> String {
    format!("the source was changed {when}: stop every program that writes to it; {EMPTY}")
}
