//! The mark in a target: the progress of a copy, and the source it comes from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::endpoints::CopyEndpoints;
use super::error::CopyError;
use super::table::{Outline, Row, TABLES};
use unwrapd_core::crash::{self, CrashPoint};

/// Remedy for a target in which a copy cannot continue.
pub(super) const EMPTY: &str = "remove the file, or drop the schema, and start again";

/// The progress of a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Name of the source, for people.
    from: String,
    /// Outline of the source when the copy began.
    outline: Outline,
    /// Index of the table whose rows come next.
    pub(super) table: usize,
    /// Key of the last row that was copied.
    pub(super) after: Row,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Content of a target.
pub(super) enum Found {
    /// The target was empty, and the copy has begun.
    Nothing(Mark),
    /// An incomplete copy of this source.
    Half(Mark),
    /// The number of rows is that of the source, so the copy may be complete.
    AsMuch,
}

impl Mark {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts make JSON")
    }
}

/// Determines the content of the target. Returns an error if it is neither empty nor a copy of this
/// source with this outline.
pub(super) async fn find(
    endpoints: &mut CopyEndpoints,
    outline: &Outline,
) -> Result<Found, CopyError> {
    let mark = endpoints.to.end.mark().await;
    if let Some(text) = mark.map_err(|error| endpoints.to.problem(error))? {
        return resume(&text, endpoints, outline).map(Found::Half);
    }
    let there = endpoints.to.outline().await?;
    if rows_of(&there) > 0 {
        return match differing(outline, &there) {
            Some(what) => Err(holds_another(endpoints, &what)),
            None => Ok(Found::AsMuch),
        };
    }
    check_ids(endpoints).await?;
    let mark = Mark {
        from: endpoints.from.name.clone(),
        outline: outline.clone(),
        table: 0,
        after: TABLES[0].beginning(),
        rows: 0,
        bytes: 0,
    };
    let begun = endpoints.to.end.begin(mark.text()).await;
    endpoints.to.is_ours(begun)?;
    crash::point(CrashPoint::CopyBegun);
    Ok(Found::Nothing(mark))
}

/// An id may arrive again after it was pruned, and some stores hold each id only once.
async fn check_ids(endpoints: &mut CopyEndpoints) -> Result<(), CopyError> {
    if endpoints.to.end.takes_repeated() {
        return Ok(());
    }
    let repeated = endpoints.from.end.repeated().await;
    let Some((id, arrived_ms)) = repeated.map_err(|error| endpoints.from.problem(error))? else {
        return Ok(());
    };
    let at = Timestamp::from_millisecond(arrived_ms).unwrap_or_default();
    let days = Timestamp::now().duration_since(at).as_hours() / 24;
    Err(CopyError::Refused(format!(
        "{} has the webhook-id {id:?} more than once, the first for {days} days, and {} stores \
         each id only once: delete the first message, when none of its deliveries waits, with \
         `unwrapd db prune --older-than {days} --config FILE`",
        endpoints.from.name, endpoints.to.name
    )))
}

pub(super) fn holds_another(endpoints: &CopyEndpoints, what: &str) -> CopyError {
    CopyError::Refused(format!(
        "{} already has a store that differs from {} ({what}): name an empty target. If it is an \
         earlier copy on which no gateway has started, {EMPTY}",
        endpoints.to.name, endpoints.from.name
    ))
}

/// Continues an earlier copy of the same source, if the source has not changed since.
fn resume(text: &str, endpoints: &CopyEndpoints, outline: &Outline) -> Result<Mark, CopyError> {
    let refused = |problem: &str| {
        let name = &endpoints.to.name;
        CopyError::Refused(format!("{name} has an incomplete copy {problem}"))
    };
    let mark: Mark = serde_json::from_str(text).map_err(|_| {
        refused(&format!(
            "by another version of unwrapd: continue with that version, or {EMPTY}"
        ))
    })?;
    let Some(what) = differing(&mark.outline, outline) else {
        return Ok(mark);
    };
    let other = &mark.from;
    Err(refused(&if *other == endpoints.from.name {
        format!("of this source, which has changed since ({what}): {EMPTY}")
    } else {
        format!("of another source ({other}): continue with that, or {EMPTY}")
    }))
}

/// The first table whose count or sums differ.
fn differing(one: &Outline, other: &Outline) -> Option<String> {
    let mut tables = TABLES.iter().zip(one.iter().zip(other));
    let (table, (one, other)) = tables.find(|(_, (one, other))| one != other)?;
    let (ours, theirs, name) = (count_of(one), count_of(other), table.name);
    Some(if ours == theirs {
        format!("`{name}` has other content")
    } else {
        format!("`{name}` has {theirs} rows instead of {ours}")
    })
}

pub(super) fn count_of(numbers: &[i64]) -> u64 {
    let count = numbers.first().copied().unwrap_or_default();
    u64::try_from(count).unwrap_or_default()
}

pub(super) fn rows_of(outline: &Outline) -> u64 {
    outline.iter().map(|numbers| count_of(numbers)).sum()
}
