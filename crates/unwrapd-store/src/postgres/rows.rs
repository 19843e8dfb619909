//! Conversions between values and columns.

use std::borrow::Cow;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::postgres::connect::failure::Failure;

/// The text as PostgreSQL can store it: without NUL. The payload is stored unchanged.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// As [`storable`], for texts that a client looks for: PostgreSQL refuses a parameter with NUL.
pub(crate) fn all_storable(texts: &[String]) -> Vec<Cow<'_, str>> {
    texts.iter().map(|text| storable(text)).collect()
}

pub(crate) fn timestamp(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    let milliseconds: i64 = row.try_get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| Failure::unavailable("a time in the database is invalid"))
}

/// As [`timestamp`], of a column that may be NULL.
pub(crate) fn optional_timestamp(row: &Row, column: usize) -> Result<Option<Timestamp>, Failure> {
    let milliseconds: Option<i64> = row.try_get(column)?;
    milliseconds.map(|_| timestamp(row, column)).transpose()
}

/// A count, or another number that is never negative.
pub(crate) fn natural<T: TryFrom<i64> + Default>(row: &Row, column: usize) -> Result<T, Failure> {
    let number: i64 = row.try_get(column)?;
    Ok(T::try_from(number).unwrap_or_default())
}

/// The first two columns of the only row; `None` if one of them is NULL.
pub(crate) fn first_and_last(rows: &[Row]) -> Result<Option<(i64, i64)>, Failure> {
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let first: Option<i64> = row.try_get(0)?;
    let last: Option<i64> = row.try_get(1)?;
    Ok(first.zip(last))
}

/// Converts a count to a parameter; one that is too large for the tables becomes the maximum.
pub(crate) fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
