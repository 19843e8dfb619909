//! Heartbeats: the live gateways, by the clock of the server. Deliveries leased by a dead gateway
//! are freed before their leases end.
//!
//! Each heartbeat lists the peers with which this gateway divides limits. A joining gateway gets no
//! share until every peer lists it. A peer is removed from the list only when it is gone, or so
//! long silent that it has stopped by itself. So every gateway with a share is listed by all others
//! with a share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::error::StoreError;
use crate::postgres::connect::connection::{Begin, PgConnection, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::fleet::gateway_row::Reply;
use crate::postgres::fleet::membership::{ClockNews, Moment};
use crate::postgres::shared::Shared;

/// Interval between heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// Minimum interval between two heartbeats, when there are changes to announce.
const HEARTBEAT_GAP: Duration = Duration::from_millis(20);
/// Silence after which a gateway is declared dead, in milliseconds: five heartbeats, so that a slow
/// commit or a short freeze does not count.
const SILENCE_MAX_MS: i64 = 10_000;
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MAX_MS.unsigned_abs());
/// Delay of a heartbeat, in milliseconds, after which a gateway declares no other dead until they
/// had time for their own heartbeats. The database may have been unreachable, or its clock may have
/// jumped, and then all are silent.
const LATE_MS: i64 = 5000;

/// Sends a heartbeat, and returns the state of all others, or one row of NULLs. Only a joining
/// gateway creates its row: a missing row means that this gateway was declared dead.
const HEARTBEAT: &str = "
    WITH joined AS (
        INSERT INTO gateway (id, heartbeat_at, peers, name, exclusive_address, configuration)
        SELECT $1, clock_timestamp(), $2, $3, $4, $5 WHERE $6
        ON CONFLICT (id) DO UPDATE
        SET heartbeat_at = EXCLUDED.heartbeat_at, peers = EXCLUDED.peers, name = EXCLUDED.name,
            exclusive_address = EXCLUDED.exclusive_address, configuration = EXCLUDED.configuration
        RETURNING 1
    ), beaten AS (
        UPDATE gateway SET heartbeat_at = clock_timestamp(), peers = $2, name = $3, exclusive_address = $4, configuration = $5
        WHERE id = $1 AND NOT $6 RETURNING 1
    )
    SELECT EXISTS (SELECT FROM joined) OR EXISTS (SELECT FROM beaten),
           id, name, configuration, peers, (extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::int8,
           (extract(epoch FROM clock_timestamp()) * 1000)::int8
    FROM (SELECT) AS one LEFT JOIN gateway ON peers IS NOT NULL";

/// Frees the deliveries of gateways that are silent or unknown; a gateway is unknown if it claims
/// while it is declared dead. A frozen gateway may still settle, unless another claim comes first.
/// A heartbeat in the future was sent before the clock was set back; a live gateway would have sent
/// another. The delete sees the current rows, so a gateway whose heartbeat arrives meanwhile keeps
/// its deliveries.
const REAP: &str = "
    WITH dead AS (
        DELETE FROM gateway WHERE abs(extract(epoch FROM clock_timestamp() - heartbeat_at)) * 1000 > $1 RETURNING id, name
    ), freed AS (
        UPDATE delivery SET ready_at = due_at, gateway = NULL
        WHERE gateway IS NOT NULL AND state = 'waiting' AND (
            gateway = ANY (ARRAY (SELECT id FROM dead)) OR NOT EXISTS (SELECT FROM gateway AS living WHERE living.id = delivery.gateway)
        ) RETURNING 1
    )
    SELECT (SELECT array_agg(name) FROM dead WHERE name <> ''), (SELECT count(*) FROM freed)";

/// Frees the deliveries of an earlier owner of the exclusive address.
const TAKE_OVER: &str = "
    WITH gone AS (DELETE FROM gateway WHERE exclusive_address = $1 AND id <> $2 RETURNING id)
    UPDATE delivery SET ready_at = due_at, gateway = NULL
    WHERE gateway = ANY (ARRAY (SELECT id FROM gone)) AND state = 'waiting'";

/// Frees the deliveries of one gateway.
const DEREGISTER: &str = "
    WITH gone AS (DELETE FROM gateway WHERE id = $1)
    UPDATE delivery SET ready_at = due_at, gateway = NULL WHERE gateway = $1 AND state = 'waiting'";

/// Registers the gateway. The others do not list it before its first heartbeat.
const REGISTER: &str = "
    INSERT INTO gateway (id, heartbeat_at, name, configuration) VALUES ($1, clock_timestamp() - $2 * interval '1 ms', '', '')";

const LIVING: &str = "SELECT count(*) FROM gateway WHERE abs(extract(epoch FROM clock_timestamp() - heartbeat_at)) * 1000 <= $1";

/// Registers a gateway that starts.
pub(crate) async fn register(
    link: &PgConnection,
    begin: &Begin,
    holder: i64,
) -> Result<(), Failure> {
    let given = params![holder => INT8, LATE_MS => INT8];
    link.query(begin, REGISTER, given).await.map(drop)
}

/// Returns an error if a gateway is alive.
pub(crate) async fn check_none(
    link: &PgConnection,
    begin: &Begin,
    schema: &str,
) -> Result<(), Failure> {
    let rows = link
        .query(begin, LIVING, params![SILENCE_MAX_MS => INT8])
        .await?;
    match rows.first() {
        Some(row) if row.try_get::<_, i64>(0)? == 0 => Ok(()),
        _ => Err(Failure::OfTheStore(StoreError::InUse(schema.to_owned()))),
    }
}

/// Sends heartbeats until the store is closed.
pub(crate) async fn beat(shared: Arc<Shared>, mut closing: watch::Receiver<()>) {
    let mut beats = interval(HEARTBEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = shared.notifications.are_called() => {}
            _ = closing.changed() => return,
        }
        if let Err(failure) = beat_now(&shared).await {
            tracing::debug!("cannot send a heartbeat: {failure:?}");
        }
        tokio::select! {
            () = sleep(HEARTBEAT_GAP) => {}
            _ = closing.changed() => return,
        }
    }
}

/// Sends a heartbeat, reads the state of the others, and announces a changed list of peers at once.
pub(crate) async fn beat_now(shared: &Shared) -> Result<(), Failure> {
    let membership = &shared.membership;
    let _one_at_a_time = membership.one_at_a_time().await;
    loop {
        let begun_at = Moment::now(&shared.clock);
        let heartbeat = membership.heartbeat();
        let (name, place) = (
            &heartbeat.identity.name,
            &heartbeat.identity.exclusive_address,
        );
        let given = params![
            heartbeat.id => INT8, heartbeat.sees => INT8_ARRAY, name => TEXT, place => TEXT, heartbeat.parts => TEXT,
            heartbeat.joins => BOOL,
        ];
        let rows = shared.pool.once(Purpose::Telling, HEARTBEAT, given).await?;
        let reply = Reply::of(&rows, heartbeat.id)?;
        if !reply.is_counted {
            tracing::warn!(
                "this gateway sent no heartbeat for so long that the others treat it as dead: they \
                 take over its deliveries, and it joins again"
            );
            membership.begin_anew();
            // Frees claims made while it was dead without having noticed.
            deregister(shared, heartbeat.id).await?;
            continue;
        }
        let is_late = heartbeat.joins
            || reply
                .silent_ms
                .is_none_or(|silent_ms| !(0..=LATE_MS).contains(&silent_ms));
        let changes = membership.reply(begun_at, &heartbeat, reply, is_late);
        say_clock(changes.clock);
        if changes.are_seen {
            shared.notifications.gateways_changed();
        }
        if heartbeat.is_news {
            shared.notifications.notify_gateways();
        }
        if membership.may_judge(SILENCE_MAX) {
            reap(shared).await?;
        }
        if !changes.are_to_be_said {
            return Ok(());
        }
    }
}

fn say_clock(clock: ClockNews) {
    match clock {
        ClockNews::AsBefore => {}
        ClockNews::Wrong { ahead_ms } => tracing::warn!(
            "the clock of this machine is {} ms {} that of the database, which this gateway uses: set both by NTP",
            ahead_ms.unsigned_abs(),
            if ahead_ms > 0 { "ahead of" } else { "behind" }
        ),
        ClockNews::RightAgain => {
            tracing::info!("the clock of this machine agrees with that of the database again");
        }
    }
}

async fn reap(shared: &Shared) -> Result<(), Failure> {
    let rows = shared
        .pool
        .once(Purpose::Claiming, REAP, params![SILENCE_MAX_MS => INT8])
        .await?;
    if let Some(row) = rows.first() {
        let (dead, freed): (Option<Vec<String>>, i64) = (row.try_get(0)?, row.try_get(1)?);
        if freed > 0 {
            shared.claim_floors.forget_all();
        }
        if let Some(names) = dead {
            tracing::warn!(
                "no heartbeat for {} s from {}: treated as dead; other gateways take over the deliveries that it was attempting ({freed})",
                SILENCE_MAX_MS / 1000,
                names.join(", ")
            );
        }
    }
    Ok(())
}

/// Frees the deliveries of the gateway that had this address before.
pub(crate) async fn take_over(shared: &Shared, place: &str) -> Result<(), Failure> {
    let id = shared.membership.id();
    let given = params![place => TEXT, id => INT8];
    let pool = &shared.pool;
    let freed = pool.execute(Purpose::Claiming, TAKE_OVER, given).await;
    shared.claim_floors.forget_all();
    freed
}

/// Releases all deliveries, because this gateway makes no more attempts.
pub(crate) async fn deregister(shared: &Shared, holder: i64) -> Result<(), Failure> {
    let given = params![holder => INT8];
    let pool = &shared.pool;
    let left = pool.execute(Purpose::Claiming, DEREGISTER, given).await;
    shared.claim_floors.forget_all();
    left
}
