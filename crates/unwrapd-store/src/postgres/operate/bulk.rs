//! Bulk runs in SQL. The record of a run names the gateway that carries it on.

use async_trait::async_trait;
use jiff::Timestamp;

use super::replay::drop_dead;
use super::replay_record;
use crate::bulk::{BULK_RUNS_MAX, BulkAction, BulkEnd, BulkStart};
use crate::error::StoreError;
use crate::operate::bulk::BulkStatements;
use crate::operate::replay_batch::ReplayBatch;
use crate::operate::replay_record::ReplayRecord;
use crate::operate::statements::ReplayPage;
use crate::postgres::PostgresStore;
use crate::postgres::connect::connection::params;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::rows::{signed, storable};
use crate::postgres::shared::Shared;
use crate::replay::{ReplayStep, TOKENS_MAX, Token};

/// Begins a run. Two gateways at the same time may exceed the bound, which is a bound of the load
/// and of nothing else.
const INSERT: &str = "
    WITH newest AS (SELECT coalesce(max(seq), 0) AS seq FROM message), forgotten AS (
        DELETE FROM replay WHERE id <= (SELECT max(id) FROM replay) - $5 AND ended_at IS NOT NULL
    ), open AS (SELECT count(*) AS runs FROM replay WHERE ended_at IS NULL AND began_at IS NOT NULL)
    INSERT INTO replay (token, request, started_at, last_message, action, began_at, planned, gateway)
    SELECT $1, $2, $3, least($4, newest.seq), $6, $7, $8, $9 FROM newest, open WHERE open.runs < $10
    ON CONFLICT (token) DO NOTHING";

const ADOPT: &str = "
    UPDATE replay SET began_at = $2, planned = $3, gateway = $4
    WHERE id = $1 AND began_at IS NULL AND ended_at IS NULL
        AND (SELECT count(*) FROM replay AS open WHERE open.ended_at IS NULL AND open.began_at IS NOT NULL) < $5";

const END: &str = "
    UPDATE replay SET ended_at = $2, ending = $3, reason = $4 WHERE token = $1 AND ended_at IS NULL";

/// Takes over the runs whose gateway is gone. A gateway that is treated as dead takes none. Of two
/// gateways at the same time, the second sees the present row only, and not who else is gone: so it
/// compares the gateway of that row.
const TAKE: &str = "
    WITH gone AS MATERIALIZED (
        SELECT id, gateway FROM replay
        WHERE ended_at IS NULL AND began_at IS NOT NULL AND gateway IS DISTINCT FROM $1
            AND NOT EXISTS (SELECT FROM gateway AS living WHERE living.id = replay.gateway)
            AND EXISTS (SELECT FROM gateway AS living WHERE living.id = $1)
    ), taken AS (
        UPDATE replay SET gateway = $1 FROM gone
        WHERE replay.id = gone.id AND replay.gateway IS NOT DISTINCT FROM gone.gateway AND ended_at IS NULL
        RETURNING replay.id, token, action
    ), ours AS (
        SELECT id, token, action FROM replay
        WHERE ended_at IS NULL AND began_at IS NOT NULL AND gateway = $1
    )
    SELECT token, action FROM (SELECT * FROM taken UNION ALL SELECT * FROM ours) AS runs
    ORDER BY id LIMIT $2";

#[async_trait]
impl BulkStatements for PostgresStore {
    async fn record(&self, token: &Token) -> Result<Option<ReplayRecord>, StoreError> {
        Ok(replay_record::read(self.pool(), token).await?)
    }

    async fn records(&self, max: usize) -> Result<Vec<ReplayRecord>, StoreError> {
        Ok(replay_record::list(self.pool(), max).await?)
    }

    async fn insert(&self, start: &BulkStart, now: Timestamp) -> Result<(), StoreError> {
        let request = replay_record::written(&start.request)?;
        let token = start.token.as_str();
        let at = start.as_of.at.as_millisecond();
        let (newest, action) = (start.as_of.newest, start.action.as_str());
        let (now, planned) = (now.as_millisecond(), start.planned.map(signed));
        let gateway = self.shared.membership.id();
        let runs_max = signed(BULK_RUNS_MAX);
        let given = params![
            token => TEXT, request => TEXT, at => INT8, newest => INT8, TOKENS_MAX => INT8, action => TEXT,
            now => INT8, planned => INT8, gateway => INT8, runs_max => INT8,
        ];
        Ok(self.pool().execute(Purpose::Looking, INSERT, given).await?)
    }

    async fn adopt(&self, id: i64, planned: Option<u64>, now: Timestamp) -> Result<(), StoreError> {
        let (now, planned) = (now.as_millisecond(), planned.map(signed));
        let gateway = self.shared.membership.id();
        let runs_max = signed(BULK_RUNS_MAX);
        let given = params![
            id => INT8, now => INT8, planned => INT8, gateway => INT8, runs_max => INT8,
        ];
        Ok(self.pool().execute(Purpose::Looking, ADOPT, given).await?)
    }

    async fn end(&self, token: &Token, end: &BulkEnd, now: Timestamp) -> Result<(), StoreError> {
        let (ending, reason) = end.columns();
        let reason = reason.map(storable);
        let (token, now, reason) = (token.as_str(), now.as_millisecond(), reason.as_deref());
        let given = params![token => TEXT, now => INT8, ending => TEXT, reason => TEXT];
        Ok(self.pool().execute(Purpose::Looking, END, given).await?)
    }

    async fn take(&self) -> Result<Vec<(Token, BulkAction)>, StoreError> {
        let gateway = self.shared.membership.id();
        let runs_max = signed(BULK_RUNS_MAX);
        let given = params![gateway => INT8, runs_max => INT8];
        let rows = self.pool().once(Purpose::Looking, TAKE, given).await?;
        let mut runs = Vec::with_capacity(rows.len());
        for row in &rows {
            let action: &str = row.try_get(1).map_err(Failure::from)?;
            runs.push((replay_record::token(row, 0)?, BulkAction::of_column(action)));
        }
        Ok(runs)
    }

    async fn drop_page(&self, page: ReplayPage, now: Timestamp) -> Result<ReplayStep, StoreError> {
        Ok(drop_page(&self.shared, &page, now).await?)
    }
}

async fn drop_page(
    shared: &Shared,
    page: &ReplayPage,
    now: Timestamp,
) -> Result<ReplayStep, Failure> {
    let transaction = shared.pool.transaction().await?;
    if !replay_record::lock(&transaction, &page.record).await? {
        transaction.commit().await?;
        return Ok(page.record.overtaken());
    }
    let dead = page.dead_letters();
    let dropped = drop_dead(&shared.pool, Some(&transaction), &dead, now).await?;
    let batch = ReplayBatch::of_dropped(page, dropped);
    replay_record::write(&transaction, &page.record, &batch, now).await?;
    transaction.commit().await?;
    Ok(batch.step([].into()))
}
