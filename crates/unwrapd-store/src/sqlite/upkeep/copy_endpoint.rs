//! An SQLite store as one end of a copy.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, TransactionBehavior, params, params_from_iter};

use crate::copy::endpoint::{CopyEndpoint, RowBatch, StepResult};
use crate::copy::table::{BYTES_MAX, Kind, Outline, Row, TABLES, Table, Value};
use crate::error::StoreError;
use crate::mutex::lock;
use crate::sqlite::connection::keep_log;
use crate::sqlite::error::store_error;
use crate::sqlite::files::access::{Wish, explain};
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::files::store_files::{Answer, Moves, StoreFiles};
use crate::sqlite::marks::{APPLICATION_ID, APPLICATION_ID_COPYING};
use crate::sqlite::schema;
use crate::sqlite::writer::dedupe_block;
use unwrapd_core::crash::{self, CrashPoint};

/// Derives the internal tables of the store from its content. Missing numbers prevent a block from
/// being recognised as full.
const DERIVE: &str = "
    INSERT OR REPLACE INTO message_block
        SELECT seq >> 12, min(received_at), max(received_at) FROM message
        WHERE seq >> 12 < (SELECT max(seq) >> 12 FROM message) GROUP BY seq >> 12;
    INSERT OR IGNORE INTO message_endpoint SELECT DISTINCT endpoint FROM message;";

/// An id that was pruned and arrived again.
const REPEATED: &str = "
    SELECT webhook_id, min(received_at) FROM message GROUP BY endpoint, webhook_id HAVING count(*) > 1 LIMIT 1";

/// A store in one file, with the lock that a gateway would hold.
pub(crate) struct SqliteCopyEndpoint {
    connection: Arc<Mutex<Connection>>,
    files: StoreFiles,
}

impl SqliteCopyEndpoint {
    /// Opens the file for reading. `None` if it does not exist.
    pub(crate) fn of_source(path: &Path) -> Result<Option<Self>, StoreError> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                return Err(StoreError::Unavailable(explain(path, Wish::Read, &error)));
            }
        }
        let files = StoreFiles::take(path)?;
        let connection = schema::connect_to_read(files.path())?;
        schema::check_present(&connection)?;
        Ok(Some(Self::of(connection, files)))
    }

    /// Opens the file for writing, and creates it if it does not exist.
    pub(crate) fn of_target(path: &Path) -> Result<Self, StoreError> {
        let mut files = StoreFiles::take(path)?;
        let connection = schema::connect_to_fill(&mut files)?;
        Ok(Self::of(connection, files))
    }

    fn of(connection: Connection, files: StoreFiles) -> Self {
        Self {
            connection: Arc::new(Mutex::new(connection)),
            files,
        }
    }

    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || work(&mut lock(&connection)));
        done.await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
            .map_err(|error| store_error(&error))
    }
}

#[async_trait]
impl CopyEndpoint for SqliteCopyEndpoint {
    async fn identity(&mut self) -> Result<String, StoreError> {
        let file = std::fs::metadata(self.files.path())
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(format!("file {} {}", file.dev(), file.ino()))
    }

    async fn mark(&mut self) -> Result<Option<String>, StoreError> {
        self.on(|connection| {
            let application: i32 =
                connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
            if application != APPLICATION_ID_COPYING {
                return Ok(None);
            }
            connection.query_row("SELECT mark FROM copying", (), |row| row.get(0))
        })
        .await
    }

    async fn outline(&mut self) -> Result<Outline, StoreError> {
        self.on(|connection| {
            TABLES
                .iter()
                .map(|table| outline(connection, table))
                .collect()
        })
        .await
    }

    async fn read(&mut self, table: &'static Table, after: Row) -> Result<Vec<Row>, StoreError> {
        self.on(move |connection| read(connection, table, &after))
            .await
    }

    async fn repeated(&mut self) -> Result<Option<(String, i64)>, StoreError> {
        let found = self
            .on(|connection| {
                let mut statement = connection.prepare(REPEATED)?;
                let mut rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.next().transpose()
            })
            .await?;
        Ok(found)
    }

    fn takes_repeated(&self) -> bool {
        true
    }

    async fn begin(&mut self, mark: String) -> Result<StepResult, StoreError> {
        self.on(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch("CREATE TABLE copying (mark TEXT NOT NULL) STRICT")?;
            transaction.execute("INSERT INTO copying (mark) VALUES (?)", params![mark])?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID_COPYING)?;
            transaction.commit()?;
            Ok(StepResult::Done)
        })
        .await
    }

    async fn write(&mut self, batch: RowBatch) -> Result<StepResult, StoreError> {
        self.files.check(Moves::UNKNOWN, |_| Ok(written()))?;
        self.on(move |connection| write(connection, &batch)).await
    }

    async fn finish(&mut self, mark: String) -> Result<StepResult, StoreError> {
        self.files.check(Moves::UNKNOWN, |_| Ok(written()))?;
        self.on(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            dedupe_block::write_all(&transaction)?;
            transaction.execute_batch(DERIVE)?;
            if transaction.execute("DELETE FROM copying WHERE mark = ?", [mark])? != 1 {
                return Ok(StepResult::Overtaken);
            }
            transaction.execute_batch("DROP TABLE copying")?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.commit()?;
            // Pages that readers keep in the log are in both files, and are moved when the store is
            // opened.
            let moved = checkpoint::run(connection, Mode::Truncate)?;
            keep_log(connection, moved.is_busy)?;
            Ok(StepResult::Done)
        })
        .await
    }

    /// Always succeeds: this process holds the lock.
    async fn check_unused(&mut self) -> Result<(), StoreError> {
        Ok(self.files.check(Moves::UNKNOWN, |_| Ok(written()))?)
    }
}

/// The answer after a write. Changes by other SQLite programs during a copy are not detected.
fn written() -> Answer {
    Answer::Written {
        tables: 0,
        is_new: false,
    }
}

/// SQL source of the rows of a table.
fn place(table: &Table) -> &'static str {
    match table.name {
        "message" => "message LEFT JOIN payload USING (seq)",
        name => name,
    }
}

fn outline(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<i64>> {
    let sql = format!("SELECT {} FROM {}", table.outline(), table.name);
    connection.query_row(&sql, (), |row| {
        (0..table.outline_len())
            .map(|column| row.get(column))
            .collect()
    })
}

fn read(connection: &Connection, table: &Table, after: &Row) -> rusqlite::Result<Vec<Row>> {
    let sql = format!(
        "SELECT {columns} FROM {place} WHERE ({keys}) > ({given}) ORDER BY {keys} LIMIT {limit}",
        columns = table.list(),
        place = place(table),
        keys = table.key_list(),
        limit = table.rows_max(),
        given = vec!["?"; table.keys].join(", "),
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(after.iter().map(Given)))?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.next()? {
        let values = table.columns.iter().enumerate().map(|(place, column)| {
            Ok(match column.kind {
                Kind::Number => row.get::<_, Option<_>>(place)?.map(Value::Number),
                Kind::Text => row.get::<_, Option<_>>(place)?.map(Value::Text),
                Kind::Bytes => row.get::<_, Option<_>>(place)?.map(Value::Bytes),
            }
            .unwrap_or(Value::None))
        });
        let row: Row = values.collect::<rusqlite::Result<_>>()?;
        bytes += row.iter().map(Value::bytes).sum::<usize>();
        rows.push(row);
        if bytes >= BYTES_MAX {
            break;
        }
    }
    Ok(rows)
}

fn write(connection: &mut Connection, batch: &RowBatch) -> rusqlite::Result<StepResult> {
    let table = batch.table;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut insert = transaction.prepare_cached(&insert(table))?;
    let columns = insert.parameter_count();
    for row in &batch.rows {
        insert.execute(params_from_iter(row.iter().take(columns).map(Given)))?;
    }
    drop(insert);
    if table.name == "message" {
        let mut insert =
            transaction.prepare_cached("INSERT INTO payload (seq, bytes) VALUES (?, ?)")?;
        for row in &batch.rows {
            if let [seq, .., payload @ Value::Bytes(_)] = &row[..] {
                insert.execute([Given(seq), Given(payload)])?;
            }
        }
    }
    let was_there = transaction
        .prepare_cached("UPDATE copying SET mark = ? WHERE mark = ?")?
        .execute([&batch.mark, &batch.before])?;
    if was_there != 1 {
        return Ok(StepResult::Overtaken);
    }
    crash::point(CrashPoint::Copying);
    transaction.commit()?;
    Ok(StepResult::Done)
}

fn insert(table: &Table) -> String {
    let (columns, values) = match table.name {
        // The payload is in another table.
        "message" => (
            "seq, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin"
                .to_owned(),
            "?, ?, ?, ?, ?, ?, ?, ?".to_owned(),
        ),
        "delivery" => (
            format!("{}, message", table.list()),
            "?, ?, ?, ?, ?, ?, ?, ?, ?, ?1 / 256".to_owned(),
        ),
        _ => (table.list(), vec!["?"; table.columns.len()].join(", ")),
    };
    format!("INSERT INTO {} ({columns}) VALUES ({values})", table.name)
}

/// A value, as a parameter for SQLite.
struct Given<'v>(&'v Value);

impl ToSql for Given<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::None => ValueRef::Null,
            Value::Number(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
