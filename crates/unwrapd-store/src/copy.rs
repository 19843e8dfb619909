//! Copies all content of one store into another, of any kind. No gateway may run on either store.
//!
//! The target holds a mark with the progress, which changes in the commit that adds rows. So an
//! interrupted copy continues when the same command is run again. A gateway does not start on a
//! target with a mark. The mark is removed after both stores were read and found equal.

mod compare;
pub(super) mod endpoint;
mod endpoints;
mod error;
mod mark;
pub(super) mod table;

use super::settings::StoreUrl;
use compare::{Compared, compare};
use endpoint::RowBatch;
use endpoints::{CopyEndpoints, open};
use mark::{EMPTY, Found, Mark, count_of, find, holds_another, rows_of};
use table::{Outline, TABLES, Value};
use unwrapd_core::crash::{self, CrashPoint};

pub use error::CopyError;

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
            let batch = RowBatch {
                table,
                rows,
                before,
                mark: mark.text(),
            };
            let (written, read) = tokio::join!(
                endpoints.to.end.write(batch),
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
