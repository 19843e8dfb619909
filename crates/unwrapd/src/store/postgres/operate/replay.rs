//! Delivering again. What is meant is found a piece at a time; a transaction changes it, and writes down how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::Moment;
use crate::crash::{self, CrashPoint};
use crate::store::StoreError;
use crate::store::filter::Selection;
use crate::store::postgres::Shared;
use crate::store::postgres::connect::connection::params;
use crate::store::postgres::connect::failure::Failure;
use crate::store::postgres::connect::pool::{Pool, Purpose};
use crate::store::postgres::operate::candidate::{Chosen, DELIVERIES, ToMake};
use crate::store::postgres::operate::replay_record::Record;
use crate::store::postgres::operate::scan::{Candidate, Order, behind, narrow, newest, scan_page};
use crate::store::replay::{AsOf, Counts, Plan, Replay, ReplayStep, Replayed, Token};

/// A piece of what is meant.
#[derive(Debug, Default)]
pub(crate) struct Meant {
    pub(crate) messages: Vec<i64>,
    pub(crate) next: Option<i64>,
}

pub(crate) async fn plan(
    pool: &Arc<Pool>,
    replay: &Replay,
    now: Timestamp,
) -> Result<Plan, Failure> {
    // As exactly as it is written down, so that the replay does what was planned.
    let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let selection = replay.filter.select(at);
    let mut plan = Plan {
        as_of: AsOf {
            at,
            newest: newest(pool).await?,
        },
        counts: Counts::default(),
        oldest: None,
        newest: None,
        destinations: BTreeMap::new(),
        unknown: unknown(pool, &replay.filter.webhook_id).await?,
    };
    let within = narrow(pool, &selection, 0..=plan.as_of.newest).await?;
    let mut next = Some(*within.start());
    while let Some(from) = next {
        let found = scan_page(pool, &selection, from..=*within.end(), Order::OldestFirst).await?;
        next = found.next;
        let messages = chosen(pool, &found.candidates).await?;
        for (candidate, message) in found.candidates.iter().zip(&messages) {
            count(&mut plan, replay, candidate, message);
        }
    }
    Ok(plan)
}

fn count(plan: &mut Plan, replay: &Replay, candidate: &Candidate, message: &Chosen) {
    let (choice, can_be_made) = message.choose(replay);
    if !plan.counts.add(&choice, message.lane, can_be_made) {
        return;
    }
    let at = candidate.received_at;
    plan.oldest = Some(plan.oldest.map_or(at, |oldest| oldest.min(at)));
    plan.newest = Some(plan.newest.map_or(at, |newest| newest.max(at)));
    let again = choice.again.iter().map(|delivery| &delivery.destination);
    for destination in again.chain(replay.to.as_ref().filter(|_| choice.is_missing)) {
        *plan.destinations.entry(destination.clone()).or_default() += 1;
    }
}

/// Of these ids, those of no message.
async fn unknown(pool: &Arc<Pool>, ids: &[String]) -> Result<Vec<String>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "
        SELECT DISTINCT id COLLATE \"C\" FROM unnest($1::text[]) AS given (id)
        WHERE NOT EXISTS (SELECT FROM message WHERE webhook_id = id) ORDER BY 1";
    let rows = pool
        .once(Purpose::Looking, sql, params![ids => TEXT_ARRAY])
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

pub(crate) async fn step(
    shared: &Shared,
    replay: &Replay,
    token: &Token,
    as_of: Option<AsOf>,
    now: Moment,
    limit: usize,
) -> Result<ReplayStep, Failure> {
    let pool = &shared.pool;
    let record = Record::of(pool, replay, token, as_of, now.now).await?;
    if record.asked != *replay {
        return Ok(ReplayStep::AnotherReplay);
    }
    if record.has_ended {
        return Ok(ReplayStep::Done(Replayed {
            counts: record.counts,
            due: BTreeSet::new(),
        }));
    }
    let selection = replay.filter.select(record.begun_at);
    let meant = find(
        pool,
        &selection,
        record.next..=record.newest,
        limit,
        |message| message.choose(replay).0.deliveries(),
    )
    .await?;
    let step = make_due(shared, &record, &meant, now).await;
    crash::point(CrashPoint::ReplayCommitted);
    step
}

/// The next messages of which something is meant, until that comes to `limit` deliveries.
pub(crate) async fn find(
    pool: &Arc<Pool>,
    selection: &Selection,
    within: RangeInclusive<i64>,
    limit: usize,
    meant: impl Fn(&Chosen) -> usize,
) -> Result<Meant, Failure> {
    let within = narrow(pool, selection, within).await?;
    let mut messages = Vec::new();
    let mut deliveries = 0;
    let mut next = Some(*within.start());
    while let Some(from) = next {
        let found = scan_page(pool, selection, from..=*within.end(), Order::OldestFirst).await?;
        next = found.next;
        for message in &chosen(pool, &found.candidates).await? {
            let count = meant(message);
            if count > 0 {
                messages.push(message.seq);
                deliveries += count;
            }
            if deliveries >= limit {
                let next = behind(message.seq, &within, Order::OldestFirst);
                return Ok(Meant { messages, next });
            }
        }
    }
    Ok(Meant {
        messages,
        next: None,
    })
}

async fn chosen(pool: &Arc<Pool>, candidates: &[Candidate]) -> Result<Vec<Chosen>, Failure> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let seqs: Vec<i64> = candidates.iter().map(|candidate| candidate.seq).collect();
    let given = params![seqs => INT8_ARRAY];
    let rows = pool.once(Purpose::Looking, DELIVERIES, given).await?;
    Chosen::all(candidates, &rows)
}

/// Makes a piece due and writes down that it is done; or, if someone else has come further meanwhile, changes nothing.
async fn make_due(
    shared: &Shared,
    record: &Record,
    meant: &Meant,
    now: Moment,
) -> Result<ReplayStep, Failure> {
    let transaction = shared
        .pool
        .take(Purpose::Looking)
        .await?
        .transaction()
        .await?;
    let mut counts = record.counts;
    let mut made = ToMake::default();
    if !record.lock(&transaction).await? {
        transaction.commit().await?;
        return Ok(ReplayStep::More(Replayed {
            counts,
            due: BTreeSet::new(),
        }));
    }
    let mut next = meant.next;
    let mut reserved = Vec::new();
    let to = record.asked.to.as_deref();
    for message in Chosen::lock(&transaction, &meant.messages).await? {
        let (choice, can_be_made) = message.choose(&record.asked);
        let before = counts;
        if counts.add(&choice, message.lane, can_be_made) {
            let deliveries = counts.deliveries - before.deliveries;
            match shared.capacity.reserve_to_replay(deliveries) {
                Ok(reservation) => reserved.push(reservation),
                Err(full) if made.due.is_empty() => return Err(Failure::OfAChange(full)),
                Err(StoreError::Full(_)) => {
                    counts = before;
                    next = Some(message.seq);
                    break;
                }
                Err(error) => return Err(Failure::OfTheStore(error)),
            }
            made.add(&message, &choice, to);
        }
        made.hurry(&choice);
    }
    made.make(&transaction, to, now).await?;
    record.write(&transaction, next, &counts, now.stamp).await?;
    crash::point(CrashPoint::Replayed);
    transaction.commit().await?;
    for reservation in reserved {
        reservation.keep();
    }
    for (destination, lane) in &made.due {
        shared.claim_floors.forget(destination, *lane);
        shared.notifications.notify_all([destination], *lane);
    }
    let replayed = Replayed {
        counts,
        due: made.due,
    };
    Ok(match next {
        Some(_) => ReplayStep::More(replayed),
        None => ReplayStep::Done(replayed),
    })
}
