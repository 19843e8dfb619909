//! A PostgreSQL store as one end of a copy.

mod rows;

use std::time::Duration;

use async_trait::async_trait;

use crate::copy::endpoint::{CopyEndpoint, RowBatch, StepResult};
use crate::copy::table::{Outline, Row, TABLES, Table};
use crate::error::StoreError;
use crate::postgres::connect::address::PostgresAddress;
use crate::postgres::connect::connection::{Begin, PgConnection, Work, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::hosts::Hosts;
use crate::postgres::fleet::heartbeat;
use crate::postgres::migration;

/// Maximum duration of a statement that reads or writes some rows.
const SOME_TIME: Duration = Duration::from_secs(60);
/// Maximum duration of a statement that scans all rows.
const ALL_TIME: Duration = Duration::from_secs(3600);

/// Identity of server, database and schema, without a privilege that some roles lack.
const IDENTITY: &str = "
    SELECT concat_ws(' ', 'database', extract(epoch FROM pg_postmaster_start_time()), oid, current_schema())
    FROM pg_database WHERE datname = current_database()";

/// Marks the messages without deliveries, and sets the sequences to unused numbers.
const COUNT_ON: &str = "
    UPDATE message SET is_unrouted = true WHERE partition IS NOT NULL AND NOT EXISTS (
        SELECT FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 OFFSET 0);
    SELECT setval('message_seq', max(seq)) FROM message HAVING max(seq) > 0;
    SELECT setval(pg_get_serial_sequence('quarantine', 'id'), max(id)) FROM quarantine HAVING max(id) > 0;
    SELECT setval(pg_get_serial_sequence('replay', 'id'), max(id)) FROM replay HAVING max(id) > 0;
    ANALYZE message, payload, delivery, attempt";

/// A store in a schema, with its own connection.
pub(crate) struct PostgresCopyEndpoint {
    link: PgConnection,
    schema: String,
    /// Settings for some rows, which are found through an index whatever the statistics say.
    some: Begin,
    /// Settings for scans of all rows.
    all: Begin,
}

impl PostgresCopyEndpoint {
    /// Opens the schema for reading. `None`: there is no store in it.
    pub(crate) async fn of_source(address: &PostgresAddress) -> Result<Option<Self>, StoreError> {
        let mut end = Self::connect(address).await?;
        if !migration::check_present(&end.link, &end.all, &end.schema).await? {
            return Ok(None);
        }
        migration::check_whole(&end.link, &end.all, &end.schema).await?;
        end.check_unused().await?;
        Ok(Some(end))
    }

    /// Opens the schema for writing, and creates the schema and the tables if they do not exist.
    pub(crate) async fn of_target(address: &PostgresAddress) -> Result<Self, StoreError> {
        let mut end = Self::connect(address).await?;
        if !migration::check_present(&end.link, &end.all, &end.schema).await? {
            migration::run(&end.link, address, None).await?;
        }
        end.check_unused().await?;
        Ok(end)
    }

    async fn connect(address: &PostgresAddress) -> Result<Self, StoreError> {
        let connected = Hosts::new(address)?.connect(None).await?;
        let synchronous_commit = &connected.does.synchronous_commit;
        let schema = address.schema().to_owned();
        Ok(Self {
            some: Begin::new(&schema, synchronous_commit, SOME_TIME).by_index(),
            all: Begin::new(&schema, synchronous_commit, ALL_TIME),
            link: connected.link,
            schema,
        })
    }

    /// While no gateway runs or starts, changes the mark with the statement `change`, then executes
    /// `more` if that succeeded.
    async fn alone(&self, change: &str, mark: &str, more: &str) -> Result<StepResult, Failure> {
        self.link.begin(&self.all).await?;
        migration::lock(&self.link, &self.all, &self.schema).await?;
        heartbeat::check_none(&self.link, &self.all, &self.schema).await?;
        let given = params![mark => TEXT];
        let changed = self.link.query(&self.all, change, given).await?;
        if !changed.is_empty() {
            self.link.batch(ALL_TIME, more).await?;
        }
        self.link.commit(&self.all).await?;
        Ok(turn(!changed.is_empty()))
    }
}

#[async_trait]
impl CopyEndpoint for PostgresCopyEndpoint {
    async fn identity(&mut self) -> Result<String, StoreError> {
        let rows = self
            .link
            .once(&self.all, Work::Statement(IDENTITY), &[])
            .await?;
        text(&rows)?.ok_or_else(|| StoreError::Unavailable("the database has no name".into()))
    }

    async fn mark(&mut self) -> Result<Option<String>, StoreError> {
        let sql = "SELECT mark FROM copying";
        Ok(text(
            &self.link.once(&self.all, Work::Statement(sql), &[]).await?,
        )?)
    }

    async fn outline(&mut self) -> Result<Outline, StoreError> {
        let mut outline = Vec::new();
        for table in &TABLES {
            let sql = format!("SELECT {} FROM {}", table.outline(), table.name);
            let rows = self
                .link
                .once(&self.all, Work::Statement(&sql), &[])
                .await?;
            let mut numbers = Vec::new();
            for row in &rows {
                for column in 0..table.outline_len() {
                    numbers.push(row.try_get(column).map_err(Failure::from)?);
                }
            }
            outline.push(numbers);
        }
        Ok(outline)
    }

    async fn read(&mut self, table: &'static Table, after: Row) -> Result<Vec<Row>, StoreError> {
        Ok(rows::read(&self.link, &self.some, table, &after).await?)
    }

    /// Always `None`: a unique index excludes it.
    async fn repeated(&mut self) -> Result<Option<(String, i64)>, StoreError> {
        Ok(None)
    }

    fn takes_repeated(&self) -> bool {
        false
    }

    async fn begin(&mut self, mark: String) -> Result<StepResult, StoreError> {
        // A gateway may have run since the check.
        let is_empty = TABLES
            .iter()
            .map(|table| format!("NOT EXISTS (SELECT FROM {})", table.name));
        let sql = format!(
            "INSERT INTO copying (mark) SELECT $1 WHERE {} ON CONFLICT DO NOTHING RETURNING 1",
            is_empty.collect::<Vec<_>>().join(" AND ")
        );
        Ok(self.alone(&sql, &mark, "").await?)
    }

    async fn write(&mut self, batch: RowBatch) -> Result<StepResult, StoreError> {
        let written = rows::write(&self.link, &self.some, &batch).await?;
        Ok(turn(written))
    }

    async fn finish(&mut self, mark: String) -> Result<StepResult, StoreError> {
        let sql = "DELETE FROM copying WHERE mark = $1 RETURNING 1";
        Ok(self.alone(sql, &mark, COUNT_ON).await?)
    }

    async fn check_unused(&mut self) -> Result<(), StoreError> {
        self.link.begin(&self.all).await?;
        heartbeat::check_none(&self.link, &self.all, &self.schema).await?;
        Ok(self.link.commit(&self.all).await?)
    }
}

fn turn(is_ours: bool) -> StepResult {
    if is_ours {
        StepResult::Done
    } else {
        StepResult::Overtaken
    }
}

fn text(rows: &[tokio_postgres::Row]) -> Result<Option<String>, Failure> {
    rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
}
