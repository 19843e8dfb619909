//! The content of a store, as rows that every kind of store can read and write.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::postgres::rows::storable;

/// Rows that are read and written at a time.
const ROWS_MAX: usize = 4096;
/// Rows at a time for a table whose rows may be large.
const LARGE_ROWS_MAX: usize = 64;
/// Bytes of payloads that are read and written at a time; the last payload may exceed it.
pub(crate) const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bits of a number that count in its outline, so that the sum over ten million rows fits in a
/// number.
pub(crate) const OUTLINE_BITS: i64 = 0x00FF_FFFF;

/// A table that every kind of store has. Internal tables of a store are derived again when a copy
/// is complete.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// Number of leading columns that form the key.
    pub(crate) keys: usize,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Text,
    Bytes,
}

/// Value of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    None,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

pub(crate) type Row = Vec<Value>;

/// The number of rows of each table, and the sum of each numeric column. Every change by a gateway
/// changes one of them.
pub(crate) type Outline = Vec<Vec<i64>>;

/// The tables, in the order in which they are copied.
pub(crate) static TABLES: [Table; 7] = [
    Table {
        name: "message",
        columns: &[
            number("seq"),
            text("endpoint"),
            text("webhook_id"),
            text("event_type"),
            number("sent_at"),
            number("received_at"),
            number("secret"),
            text("origin"),
            // There is no row if the payload was deleted.
            Column {
                name: "bytes",
                kind: Kind::Bytes,
            },
        ],
        keys: 1,
    },
    Table {
        name: "delivery",
        columns: &[
            number("id"),
            text("destination"),
            text("lane"),
            text("state"),
            number("since"),
            number("due_at"),
            number("dropped_at"),
            number("settled_attempt"),
            number("uncounted_attempts"),
        ],
        keys: 1,
    },
    Table {
        name: "attempt",
        columns: &[
            number("delivery"),
            number("number"),
            number("ended_at"),
            number("took_ms"),
            text("summary"),
            text("excerpt"),
        ],
        keys: 2,
    },
    Table {
        name: "paused",
        columns: &[text("destination"), number("paused_at")],
        keys: 1,
    },
    Table {
        name: "quarantine",
        columns: &[
            number("id"),
            text("endpoint"),
            number("received_at"),
            text("reason"),
            text("headers"),
            number("size"),
            Column {
                name: "body",
                kind: Kind::Bytes,
            },
        ],
        keys: 1,
    },
    Table {
        name: "traffic",
        columns: &[
            number("minute"),
            text("kind"),
            text("name"),
            number("count"),
        ],
        keys: 3,
    },
    Table {
        name: "replay",
        columns: &[
            number("id"),
            text("token"),
            text("action"),
            text("request"),
            number("started_at"),
            number("last_message"),
            number("next_message"),
            number("messages"),
            number("deliveries"),
            number("calls"),
            number("waiting"),
            number("gone"),
            number("began_at"),
            number("planned"),
            number("ended_at"),
            text("ending"),
            text("reason"),
        ],
        keys: 1,
    },
];

const fn number(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Number,
    }
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Text,
    }
}

fn list(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    names.join(", ")
}

impl Table {
    /// The names of the columns, as an SQL list.
    pub(crate) fn list(&self) -> String {
        list(self.columns)
    }

    /// The names of the key columns, as an SQL list.
    pub(crate) fn key_list(&self) -> String {
        list(&self.columns[..self.keys])
    }

    /// A key before every row.
    pub(crate) fn beginning(&self) -> Row {
        let keys = self.columns.iter().take(self.keys);
        keys.map(|column| match column.kind {
            Kind::Number => Value::Number(i64::MIN),
            Kind::Text | Kind::Bytes => Value::Text(String::new()),
        })
        .collect()
    }

    /// Number of rows that are read at a time.
    pub(crate) fn rows_max(&self) -> usize {
        // Messages are limited by size, so that many small ones are read together.
        if ["quarantine", "replay"].contains(&self.name) {
            LARGE_ROWS_MAX
        } else {
            ROWS_MAX
        }
    }

    pub(super) fn key(&self, row: &Row) -> Row {
        row.iter().take(self.keys).cloned().collect()
    }

    /// SQL expressions for the [`Outline`] of the table, as a list.
    pub(crate) fn outline(&self) -> String {
        let numbers = self
            .columns
            .iter()
            .filter(|column| column.kind == Kind::Number);
        let sums = numbers.map(|column| {
            let name = column.name;
            format!(", CAST(coalesce(sum({name} & {OUTLINE_BITS}), 0) AS bigint)")
        });
        format!("count(*){}", sums.collect::<String>())
    }

    /// Number of values in the outline.
    pub(crate) fn outline_len(&self) -> usize {
        let is_number = |column: &&Column| column.kind == Kind::Number;
        1 + self.columns.iter().filter(is_number).count()
    }
}

impl Value {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Number(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether the values are equal for a store that cannot hold all of a value.
    pub(super) fn is_as_good_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => {
                one == other || storable(one) == storable(other)
            }
            _ => self == other,
        }
    }

    /// Adds the value to the digest in an encoding that no other value shares.
    pub(super) fn digest(&self, into: &mut Sha256) {
        let mut add = |kind: u8, bytes: &[u8]| {
            into.update([kind]);
            into.update((bytes.len() as u64).to_be_bytes());
            into.update(bytes);
        };
        match self {
            Self::None => add(0, &[]),
            Self::Number(number) => add(1, &number.to_be_bytes()),
            Self::Text(text) => add(2, storable(text).as_bytes()),
            Self::Bytes(bytes) => add(3, bytes),
        }
    }
}
