//! Bulk runs in SQL. One process uses the file, so it carries on all runs.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{replay, replay_record};
use crate::bulk::{BULK_RUNS_MAX, BulkAction, BulkEnd, BulkStart};
use crate::error::StoreError;
use crate::operate::bulk::BulkStatements;
use crate::operate::replay_batch::ReplayBatch;
use crate::operate::replay_record::ReplayRecord;
use crate::operate::statements::ReplayPage;
use crate::replay::{ReplayStep, Token};
use crate::sqlite::SqliteStore;
use crate::sqlite::writer::job::Urgency;

#[async_trait]
impl BulkStatements for SqliteStore {
    async fn record(&self, token: &Token) -> Result<Option<ReplayRecord>, StoreError> {
        let token = token.clone();
        self.read(move |connection| replay_record::read(connection, &token))
            .await
    }

    async fn records(&self, max: usize) -> Result<Vec<ReplayRecord>, StoreError> {
        self.read(move |connection| replay_record::list(connection, max))
            .await
    }

    async fn insert(&self, start: &BulkStart, now: Timestamp) -> Result<(), StoreError> {
        let start = start.clone();
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                insert(work.connection, &start, now)
            })
            .await
    }

    async fn adopt(&self, id: i64, planned: Option<u64>, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                if !has_room(work.connection)? {
                    return Ok(());
                }
                work.connection
                    .prepare_cached(
                        "UPDATE replay SET began_at = ?, planned = ? WHERE id = ? AND began_at IS NULL AND ended_at IS NULL",
                    )?
                    .execute(params![now.as_millisecond(), planned, id])?;
                Ok(())
            })
            .await
    }

    async fn end(&self, token: &Token, end: &BulkEnd, now: Timestamp) -> Result<(), StoreError> {
        let (token, end) = (token.clone(), end.clone());
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                let (ending, reason) = end.columns();
                work.connection
                    .prepare_cached(
                        "UPDATE replay SET ended_at = ?, ending = ?, reason = ? WHERE token = ? AND ended_at IS NULL",
                    )?
                    .execute(params![now.as_millisecond(), ending, reason, token.as_str()])?;
                Ok(())
            })
            .await
    }

    async fn take(&self) -> Result<Vec<(Token, BulkAction)>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT token, action FROM replay WHERE ended_at IS NULL AND began_at IS NOT NULL ORDER BY id LIMIT ?",
                )?
                .query_map(params![BULK_RUNS_MAX], |row| {
                    Ok((replay_record::token(row, 0)?, replay_record::action(row, 1)?))
                })?
                .collect()
        })
        .await
    }

    async fn drop_page(&self, page: ReplayPage, now: Timestamp) -> Result<ReplayStep, StoreError> {
        self.writer
            .ask(Urgency::NextCommit, move |work| {
                drop_page(work.connection, &page, now)
            })
            .await
    }
}

/// Whether one more run may be in progress.
fn has_room(connection: &Connection) -> rusqlite::Result<bool> {
    let runs: usize = connection
        .prepare_cached(
            "SELECT count(*) FROM replay WHERE ended_at IS NULL AND began_at IS NOT NULL",
        )?
        .query_row((), |row| row.get(0))?;
    Ok(runs < BULK_RUNS_MAX)
}

fn insert(connection: &Connection, start: &BulkStart, now: Timestamp) -> rusqlite::Result<()> {
    let token = &start.token;
    if !has_room(connection)? || replay_record::read(connection, token)?.is_some() {
        return Ok(());
    }
    replay_record::insert(connection, token, &start.request, start.as_of)?;
    connection
        .prepare_cached("UPDATE replay SET action = ?, began_at = ?, planned = ? WHERE token = ?")?
        .execute(params![
            start.action.as_str(),
            now.as_millisecond(),
            start.planned,
            token.as_str()
        ])?;
    Ok(())
}

fn drop_page(
    connection: &Connection,
    page: &ReplayPage,
    now: Timestamp,
) -> rusqlite::Result<ReplayStep> {
    if !replay_record::is_current(connection, &page.record)? {
        return Ok(page.record.overtaken());
    }
    let dropped = replay::drop_dead(connection, &page.dead_letters(), now)?;
    let batch = ReplayBatch::of_dropped(page, dropped);
    replay_record::write(connection, &page.record, &batch, now)?;
    Ok(batch.step([].into()))
}
