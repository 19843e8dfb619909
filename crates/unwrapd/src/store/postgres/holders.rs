//! Which gateways are alive, by the clock of the server. Leases of one that is not are given to the others before they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::failure::Failure;
use super::link::{Begin, Link, given};
use super::pool::{For, Pool};
use crate::store::StoreError;

/// How often a gateway says that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// How long after it last did it is taken for dead: five beats, so that a slow commit or a short freeze is none.
const SILENCE_MAX_MS: i64 = 10_000;
/// Who comes late itself judges nobody: it may be the database that was away, and then all are silent.
const LATE_MS: i64 = 5000;

/// Says so, and gives whether it is the first time or late.
const BEAT: &str = "
    WITH before AS (SELECT beat_at FROM holder WHERE id = $1)
    INSERT INTO holder (id, beat_at) VALUES ($1, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET beat_at = EXCLUDED.beat_at
    RETURNING (SELECT coalesce(beat_at < clock_timestamp() - $2 * interval '1 ms', true) FROM before)";

/// Frees what those hold that are silent. Whoever was only frozen may still settle, unless someone else claims before.
const BURY: &str = "
    WITH dead AS (
        DELETE FROM holder WHERE beat_at < clock_timestamp() - $1 * interval '1 ms' RETURNING id
    ), freed AS (
        UPDATE delivery SET ready_at = due_at, holder = NULL
        WHERE holder = ANY (ARRAY (SELECT id FROM dead)) AND state = 'waiting' RETURNING 1
    )
    SELECT (SELECT count(*) FROM dead), (SELECT count(*) FROM freed)";

/// Frees what one holds.
const LEAVE: &str = "
    WITH gone AS (DELETE FROM holder WHERE id = $1)
    UPDATE delivery SET ready_at = due_at, holder = NULL WHERE holder = $1 AND state = 'waiting'";

/// Late, so that who begins judges nobody.
const ENTER: &str = "
    INSERT INTO holder (id, beat_at) VALUES ($1, clock_timestamp() - $2 * interval '1 ms')";

const LIVING: &str =
    "SELECT count(*) FROM holder WHERE beat_at > clock_timestamp() - $1 * interval '1 ms'";

/// One begins.
pub(super) async fn enter(link: &Link, begin: &Begin, holder: i64) -> Result<(), Failure> {
    let given = given![holder => INT8, LATE_MS => INT8];
    link.query(begin, ENTER, given).await.map(drop)
}

/// An error if any is alive.
pub(super) async fn check_none(link: &Link, begin: &Begin, schema: &str) -> Result<(), Failure> {
    let rows = link
        .query(begin, LIVING, given![SILENCE_MAX_MS => INT8])
        .await?;
    match rows.first() {
        Some(row) if row.try_get::<_, i64>(0)? == 0 => Ok(()),
        _ => Err(Failure::OfTheStore(StoreError::InUse(schema.to_owned()))),
    }
}

/// Goes on until the store is closed.
pub(super) async fn beat(shared: Arc<Shared>, mut closing: watch::Receiver<()>) {
    let mut beats = interval(BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            _ = closing.changed() => return,
        }
        if let Err(failure) = beat_once(&shared.pool, shared.holder).await {
            tracing::debug!("nobody knows which gateways are alive: {failure:?}");
        }
    }
}

async fn beat_once(pool: &Arc<Pool>, holder: i64) -> Result<(), Failure> {
    let rows = pool
        .once(For::Telling, BEAT, given![holder => INT8, LATE_MS => INT8])
        .await?;
    // No row before: the first time.
    let is_late = match rows.first() {
        Some(row) => row.try_get::<_, Option<bool>>(0)?.unwrap_or(true),
        None => true,
    };
    if is_late {
        return Ok(());
    }
    let rows = pool
        .once(For::Claiming, BURY, given![SILENCE_MAX_MS => INT8])
        .await?;
    if let Some(row) = rows.first() {
        let (dead, freed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if dead > 0 {
            tracing::warn!(
                "{dead} gateways on this database have been silent for {} s; {freed} deliveries they were making are made by others",
                SILENCE_MAX_MS / 1000
            );
        }
    }
    Ok(())
}

/// Gives back what is still held, as nothing will be made any more.
pub(super) async fn leave(pool: &Arc<Pool>, holder: i64) -> Result<(), Failure> {
    pool.once(For::Claiming, LEAVE, given![holder => INT8])
        .await
        .map(drop)
}
