//! Compares two stores: reads both, row by row.

use std::collections::VecDeque;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::endpoint::CopyEndpoint;
use super::endpoints::CopyEndpoints;
use super::error::CopyError;
use super::table::{Row, TABLES, Table, Value};
use crate::error::StoreError;

/// Result of a comparison.
pub(super) enum Compared {
    /// The stores are equal. The SHA-256 of all rows, in hexadecimal digits.
    Same(String),
    /// The stores differ. The first difference, without any value but the key.
    Different(String),
}

/// Reads all of both stores. Calls `tell` with numbers of rows and bytes.
pub(super) async fn compare(
    endpoints: &mut CopyEndpoints,
    mut tell: impl FnMut(usize, usize),
) -> Result<Compared, CopyError> {
    let mut digest = Sha256::new();
    for table in &TABLES {
        digest.update(table.name);
        let (mut from, mut to) = (Read::of(table), Read::of(table));
        loop {
            let (read, read_too) = tokio::join!(
                from.fill(&mut *endpoints.from.end, table),
                to.fill(&mut *endpoints.to.end, table),
            );
            read.map_err(|error| endpoints.from.problem(error))?;
            read_too.map_err(|error| endpoints.to.problem(error))?;
            let pairs = from.rows.len().min(to.rows.len());
            let mut bytes = 0;
            for (row, copy) in from.rows.iter().zip(&to.rows) {
                if let Some(difference) = difference(table, row, copy) {
                    return Ok(Compared::Different(difference));
                }
                for value in row {
                    value.digest(&mut digest);
                    bytes += value.bytes();
                }
            }
            from.rows.drain(..pairs);
            to.rows.drain(..pairs);
            tell(pairs, bytes);
            let what = match (from.state(), to.state()) {
                (State::Ended, State::Ended) => break,
                (State::Row(row), State::Ended) => {
                    format!("{} is missing in the target", key(table, row))
                }
                (State::Ended, State::Row(row)) => {
                    format!("{} exists only in the target", key(table, row))
                }
                _ => continue,
            };
            return Ok(Compared::Different(format!("`{}` {what}", table.name)));
        }
    }
    let mut digits = String::new();
    for byte in digest.finalize() {
        write!(digits, "{byte:02x}").expect("a text takes what is written");
    }
    Ok(Compared::Same(digits))
}

fn difference(table: &Table, row: &Row, copy: &Row) -> Option<String> {
    let mut values = table.columns.iter().zip(row.iter().zip(copy)).enumerate();
    let (place, (column, _)) = values.find(|(_, (_, (value, copy)))| !value.is_as_good_as(copy))?;
    let (name, ours) = (table.name, key(table, row));
    Some(if place < table.keys {
        let theirs = key(table, copy);
        format!("the source has `{name}` {ours} where the target has {theirs}")
    } else {
        format!("`{name}` {ours} differs in `{}`", column.name)
    })
}

/// The key of a row, for people.
fn key(table: &Table, row: &Row) -> String {
    let keys = row.iter().take(table.keys).map(|value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::None | Value::Bytes(_) => "?".into(),
    });
    keys.collect::<Vec<_>>().join(" ")
}

/// Rows of a table that were read, and the key after which the next ones begin.
struct Read {
    rows: VecDeque<Row>,
    after: Row,
    is_over: bool,
}

/// The next row of a store.
enum State<'r> {
    Row(&'r Row),
    /// The row is not read yet.
    Unknown,
    Ended,
}

impl Read {
    fn of(table: &Table) -> Self {
        Self {
            rows: VecDeque::new(),
            after: table.beginning(),
            is_over: false,
        }
    }

    /// Reads the next rows once all are used.
    async fn fill(
        &mut self,
        end: &mut dyn CopyEndpoint,
        table: &'static Table,
    ) -> Result<(), StoreError> {
        if self.is_over || !self.rows.is_empty() {
            return Ok(());
        }
        self.rows = end.read(table, self.after.clone()).await?.into();
        match self.rows.back() {
            Some(last) => self.after = table.key(last),
            None => self.is_over = true,
        }
        Ok(())
    }

    fn state(&self) -> State<'_> {
        match self.rows.front() {
            Some(row) => State::Row(row),
            None if self.is_over => State::Ended,
            None => State::Unknown,
        }
    }
}
