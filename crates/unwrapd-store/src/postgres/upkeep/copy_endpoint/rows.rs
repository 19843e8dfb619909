//! Reads and writes rows of a copy in SQL.

use std::borrow::Cow;

use tokio_postgres::types::{ToSql, Type};

use crate::copy::endpoint::RowBatch;
use crate::copy::table::{BYTES_MAX, Kind, Row, Table, Value};
use crate::postgres::connect::connection::{Begin, PgConnection, Work};
use crate::postgres::connect::failure::Failure;
use crate::postgres::rows::{signed, storable};
use crate::search_keys::SearchKeys;

/// Some messages with their payloads, limited by bytes.
const READ_MESSAGES: &str = "
    SELECT * FROM (
        SELECT seq, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin, bytes,
               sum(octet_length(bytes)) OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM (SELECT * FROM message WHERE seq > $1 ORDER BY seq LIMIT $2) AS message LEFT JOIN payload USING (partition, seq)
    ) AS measured WHERE before IS NULL OR before < $3 ORDER BY seq";

/// The given rows, if the mark of the copy is unchanged.
const GIVEN: &str = "
    WITH marked AS (UPDATE copying SET mark = $1 WHERE mark = $2 RETURNING 1), given AS MATERIALIZED (
        SELECT * FROM unnest({given}) AS given ({columns}) WHERE EXISTS (SELECT FROM marked)
    )";

/// Payloads go into the current partition, however old they are.
const WRITE_MESSAGES: &str = ", current AS (SELECT partition FROM current_partition), messages AS (
        INSERT INTO message (seq, partition, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin)
        SELECT seq, CASE WHEN bytes IS NOT NULL THEN partition END, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin
        FROM given, current ORDER BY seq
    ), bodies AS (
        INSERT INTO payload (partition, seq, event_key, resource_key, bytes)
        SELECT partition, seq, event_key, resource_key, bytes FROM given, current WHERE bytes IS NOT NULL ORDER BY seq
    )";

/// Deliveries are written without a lease: each may be claimed when it is due.
const WRITE_DELIVERIES: &str = ", deliveries AS (
        INSERT INTO delivery ({columns}, ready_at, claimed_attempt) SELECT {columns}, due_at, settled_attempt FROM given ORDER BY id
    )";

const WRITE: &str = ", written AS (
        INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM given
    )";

const MARKED: &str = " SELECT count(*) FROM marked";

/// Reads some rows after the key `after`.
pub(super) async fn read(
    link: &PgConnection,
    begin: &Begin,
    table: &Table,
    after: &Row,
) -> Result<Vec<Row>, Failure> {
    let (rows_max, bytes_max) = (signed(table.rows_max()), signed(BYTES_MAX));
    let mut given: Vec<(&(dyn ToSql + Sync), Type)> = after
        .iter()
        .map(|value| match value {
            Value::Number(number) => (number as &(dyn ToSql + Sync), Type::INT8),
            Value::Text(text) => (text as _, Type::TEXT),
            Value::None | Value::Bytes(_) => (&None::<i64> as _, Type::INT8),
        })
        .collect();
    given.push((&rows_max, Type::INT8));
    let rows = if table.name == "message" {
        given.push((&bytes_max, Type::INT8));
        link.once(begin, Work::Statement(READ_MESSAGES), &given)
            .await?
    } else {
        link.once(begin, Work::Statement(&select(table)), &given)
            .await?
    };
    rows.iter()
        .map(|row| {
            let columns = table.columns.iter().enumerate();
            columns
                .map(|(place, column)| value(row, place, column.kind))
                .collect()
        })
        .collect()
}

fn select(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| match column.kind {
        Kind::Number => format!("{}::int8", column.name),
        Kind::Text | Kind::Bytes => column.name.to_owned(),
    });
    // In the order of bytes, as in every store.
    let keys = table.columns.iter().take(table.keys);
    let keys = keys.map(|column| match column.kind {
        Kind::Text => format!("{} COLLATE \"C\"", column.name),
        Kind::Number | Kind::Bytes => column.name.to_owned(),
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    let given = (1..=table.keys).map(|number| format!("${number}"));
    format!(
        "SELECT {columns} FROM {name} WHERE ({keys}) > ({given}) ORDER BY {keys} LIMIT ${limit}",
        columns = columns.collect::<Vec<_>>().join(", "),
        name = table.name,
        given = given.collect::<Vec<_>>().join(", "),
        limit = table.keys + 1,
    )
}

fn value(row: &tokio_postgres::Row, place: usize, kind: Kind) -> Result<Value, Failure> {
    let value = match kind {
        Kind::Number => row.try_get::<_, Option<_>>(place)?.map(Value::Number),
        Kind::Text => row.try_get::<_, Option<_>>(place)?.map(Value::Text),
        Kind::Bytes => row.try_get::<_, Option<_>>(place)?.map(Value::Bytes),
    };
    Ok(value.unwrap_or(Value::None))
}

/// Writes the rows. Returns whether the mark was as expected.
pub(super) async fn write(
    link: &PgConnection,
    begin: &Begin,
    batch: &RowBatch,
) -> Result<bool, Failure> {
    let (table, rows) = (batch.table, &*batch.rows);
    let mut columns: Vec<Column<'_>> = table
        .columns
        .iter()
        .enumerate()
        .map(|(place, column)| Column::of(rows, place, column.kind))
        .collect();
    if table.name == "message" {
        columns.extend(search_keys(rows));
    }
    let mut given: Vec<(&(dyn ToSql + Sync), Type)> =
        vec![(&batch.mark, Type::TEXT), (&batch.before, Type::TEXT)];
    given.extend(columns.iter().map(Column::given));
    let written = link
        .once(begin, Work::Statement(&insert(table)), &given)
        .await?;
    Ok(written
        .first()
        .map_or(Ok(0), |row| row.try_get::<_, i64>(0))?
        == 1)
}

fn insert(table: &Table) -> String {
    let kinds = table.columns.iter().map(|column| match column.kind {
        Kind::Number => "int8",
        Kind::Text => "text",
        Kind::Bytes => "bytea",
    });
    let (keys, key_columns): (&[&str], &str) = match table.name {
        "message" => (&["int8"; 2], ", event_key, resource_key"),
        _ => (&[], ""),
    };
    let kinds = kinds.chain(keys.iter().copied());
    let arrays = (3..)
        .zip(kinds)
        .map(|(number, kind)| format!("${number}::{kind}[]"));
    let write = match table.name {
        "message" => WRITE_MESSAGES,
        "delivery" => WRITE_DELIVERIES,
        _ => WRITE,
    };
    format!("{GIVEN}{write}{MARKED}")
        .replace(
            "given ({columns})",
            &format!("given ({{columns}}{key_columns})"),
        )
        .replace("{given}", &arrays.collect::<Vec<_>>().join(", "))
        .replace("{columns}", &table.list())
        .replace("{table}", table.name)
}

/// The search keys of these messages, whose payload is their last column.
fn search_keys(rows: &[Row]) -> [Column<'static>; 2] {
    let keys = rows.iter().map(|row| match row.last() {
        Some(Value::Bytes(payload)) => SearchKeys::of(payload),
        _ => SearchKeys::default(),
    });
    let (events, resources) = keys
        .map(SearchKeys::signed)
        .map(|(event, resource)| (Some(event.into()), Some(resource.into())))
        .unzip();
    [Column::Numbers(events), Column::Numbers(resources)]
}

/// A column of many rows, as a parameter.
enum Column<'v> {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'v, str>>>),
    Bytes(Vec<Option<&'v [u8]>>),
}

impl<'v> Column<'v> {
    fn of(rows: &'v [Row], place: usize, kind: Kind) -> Self {
        let values = rows.iter().map(|row| &row[place]);
        match kind {
            Kind::Number => Self::Numbers(
                values
                    .map(|value| match value {
                        Value::Number(number) => Some(*number),
                        _ => None,
                    })
                    .collect(),
            ),
            Kind::Text => Self::Texts(
                values
                    .map(|value| match value {
                        Value::Text(text) => Some(storable(text)),
                        _ => None,
                    })
                    .collect(),
            ),
            Kind::Bytes => Self::Bytes(
                values
                    .map(|value| match value {
                        Value::Bytes(bytes) => Some(&bytes[..]),
                        _ => None,
                    })
                    .collect(),
            ),
        }
    }

    fn given(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Numbers(numbers) => (numbers, Type::INT8_ARRAY),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
            Self::Bytes(bytes) => (bytes, Type::BYTEA_ARRAY),
        }
    }
}
