//! Delivering again. Readers find what is meant, a piece at a time; the writer changes it, a step at a time, and writes down how far
//! it is in the same commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::SqliteStore;
use super::statements::{deliveries_of, timestamp};
use super::walk::{Order, newest, walk};
use super::writer::{Urgency, Work};
use crate::crash;
use crate::delivery::Lane;
use crate::store::StoreError;
use crate::store::filter::{Filter, Selection, Status};
use crate::store::replay::{
    AsOf, Choice, Counts, Dropped, Existing, Plan, Replay, ReplayStep, Replayed, Token,
};

/// Most tokens remembered; the oldest is forgotten, and would be a new one. Some 300 bytes each.
const TOKENS_MAX: i64 = 100_000;

/// What is written down of a replay.
#[derive(Clone)]
struct Record {
    id: i64,
    asked: Replay,
    begun_at: Timestamp,
    newest: i64,
    next: i64,
    counts: Counts,
    has_ended: bool,
}

/// A piece of what is meant.
struct Piece {
    messages: Vec<i64>,
    next: Option<i64>,
}

impl SqliteStore {
    pub(super) async fn plan_replay(
        &self,
        replay: &Replay,
        now: Timestamp,
    ) -> Result<Plan, StoreError> {
        // As exactly as it is written down, so that the replay does what was planned.
        let at = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let selection = replay.filter.select(at);
        let mut plan = Plan {
            as_of: AsOf {
                at,
                newest: self.read(newest).await?,
            },
            counts: Counts::default(),
            oldest: None,
            newest: None,
            destinations: BTreeMap::new(),
            unknown: self.unknown(&replay.filter.webhook_id).await?,
        };
        let mut from = Some(0);
        while let Some(first) = from {
            let (selection, replay) = (selection.clone(), replay.clone());
            (plan, from) = self
                .read(move |connection| {
                    let next = plan_piece(connection, &selection, &replay, first, &mut plan)?;
                    Ok((plan, next))
                })
                .await?;
        }
        Ok(plan)
    }

    /// Of these ids, those of no message.
    async fn unknown(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut unknown: Vec<String> = ids.to_vec();
        unknown.sort_unstable();
        unknown.dedup();
        let selection = Filter {
            webhook_id: ids.to_vec(),
            ..Filter::default()
        }
        .select(Timestamp::MIN);
        let mut from = (!ids.is_empty()).then_some(0);
        while let Some(first) = from {
            let selection = selection.clone();
            let (known, next) = self
                .read(move |connection| known_piece(connection, &selection, first))
                .await?;
            unknown.retain(|id| !known.contains(id));
            from = next;
        }
        Ok(unknown)
    }

    pub(super) async fn step_replay(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
        limit: usize,
    ) -> Result<ReplayStep, StoreError> {
        let record = self.record(replay, token, as_of, now).await?;
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
        let mut from = record.next;
        let piece = loop {
            let (selection, replay, newest) = (selection.clone(), replay.clone(), record.newest);
            let piece = self
                .read(move |connection| {
                    let is_meant = |existing: &[Existing]| replay.choose(existing).deliveries();
                    find_piece(connection, &selection, from, newest, limit, is_meant)
                })
                .await?;
            match piece.next {
                Some(next) if piece.messages.is_empty() => from = next,
                _ => break piece,
            }
        };
        let step = self
            .ask(Urgency::Now, move |work| {
                let step = make_due(work, &record, &piece, now);
                crash::point("replayed");
                step
            })
            .await;
        crash::point("replay committed");
        step?
    }

    /// What is written down under this token; if nothing is, it begins.
    async fn record(
        &self,
        replay: &Replay,
        token: &Token,
        as_of: Option<AsOf>,
        now: Timestamp,
    ) -> Result<Record, StoreError> {
        let name = token.clone();
        let known = self
            .read(move |connection| read_record(connection, &name))
            .await?;
        if let Some(record) = known {
            return Ok(record);
        }
        let (replay, token) = (replay.clone(), token.clone());
        self.ask(Urgency::Now, move |work| {
            begin(work.connection, &replay, &token, as_of, now)
        })
        .await
    }

    pub(super) async fn step_drop(
        &self,
        filter: &Filter,
        as_of: AsOf,
        after: Option<i64>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Dropped, StoreError> {
        let mut filter = filter.clone();
        if filter.status.is_empty() {
            filter.status = vec![Status::Dead];
        }
        let selection = filter.select(as_of.at);
        let piece = self
            .read(move |connection| {
                let from = after.unwrap_or(0);
                let is_meant = |existing: &[Existing]| {
                    let dead = |existing: &&Existing| is_dead_and_wanted(&filter, existing);
                    existing.iter().filter(dead).count()
                };
                let piece =
                    find_piece(connection, &selection, from, as_of.newest, limit, is_meant)?;
                Ok((piece, filter))
            })
            .await?;
        let (Piece { messages, next }, filter) = piece;
        let deliveries = if messages.is_empty() {
            0
        } else {
            self.ask(Urgency::Now, move |work| {
                drop_dead(work.connection, &filter, &messages, as_of.at, now)
            })
            .await?
        };
        Ok(Dropped { deliveries, next })
    }
}

fn plan_piece(
    connection: &Connection,
    selection: &Selection,
    replay: &Replay,
    first: i64,
    plan: &mut Plan,
) -> rusqlite::Result<Option<i64>> {
    let within = first..=plan.as_of.newest;
    walk(
        connection,
        selection,
        within,
        Order::OldestFirst,
        |message| {
            let at = message.received_at;
            let message = Chosen {
                seq: message.seq,
                lane: Lane::of(message.event_type.as_deref()),
                deliveries: deliveries(connection, message.seq)?,
            };
            let choice = replay.choose(&message.deliveries);
            if choice == Choice::default() {
                return Ok(ControlFlow::Continue(()));
            }
            let can_be_made = message.can_be_made(connection, &choice)?;
            if plan.counts.add(&choice, message.lane, can_be_made) {
                plan.oldest = Some(plan.oldest.map_or(at, |oldest| oldest.min(at)));
                plan.newest = Some(plan.newest.map_or(at, |newest| newest.max(at)));
                let again = choice.again.iter().map(|delivery| &delivery.destination);
                for destination in again.chain(replay.to.as_ref().filter(|_| choice.is_missing)) {
                    *plan.destinations.entry(destination.clone()).or_default() += 1;
                }
            }
            Ok(ControlFlow::Continue(()))
        },
    )
}

fn known_piece(
    connection: &Connection,
    selection: &Selection,
    first: i64,
) -> rusqlite::Result<(HashSet<String>, Option<i64>)> {
    let mut known = HashSet::new();
    let mut id = connection.prepare_cached("SELECT webhook_id FROM message WHERE seq = ?")?;
    let within = first..=i64::MAX;
    let next = walk(
        connection,
        selection,
        within,
        Order::OldestFirst,
        |message| {
            known.insert(id.query_row(params![message.seq], |row| row.get(0))?);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok((known, next))
}

/// The next messages of which something is meant, until that comes to `limit` deliveries.
fn find_piece(
    connection: &Connection,
    selection: &Selection,
    first: i64,
    newest: i64,
    limit: usize,
    meant: impl Fn(&[Existing]) -> usize,
) -> rusqlite::Result<Piece> {
    let mut messages = Vec::new();
    let mut found = 0;
    let within = first..=newest;
    let next = walk(
        connection,
        selection,
        within,
        Order::OldestFirst,
        |message| {
            let deliveries = meant(&deliveries(connection, message.seq)?);
            if deliveries > 0 {
                messages.push(message.seq);
                found += deliveries;
            }
            Ok(if found >= limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )?;
    Ok(Piece { messages, next })
}

fn read_record(connection: &Connection, token: &Token) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(
            "SELECT id, asked, begun_at, newest, next, messages, deliveries, calls, waiting, gone, ended_at IS NOT NULL
             FROM replay WHERE token = ?",
        )?
        .query_row(params![token.as_str()], |row| {
            let asked: String = row.get(1)?;
            Ok(Record {
                id: row.get(0)?,
                asked: serde_json::from_str(&asked).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error))
                })?,
                begun_at: timestamp(row, 2)?,
                newest: row.get(3)?,
                next: row.get(4)?,
                counts: Counts {
                    messages: row.get(5)?,
                    deliveries: row.get(6)?,
                    calls: row.get(7)?,
                    waiting: row.get(8)?,
                    gone: row.get(9)?,
                },
                has_ended: row.get(10)?,
            })
        })
        .optional()
}

/// Settles what takes part, unless someone else has meanwhile.
fn begin(
    connection: &Connection,
    replay: &Replay,
    token: &Token,
    as_of: Option<AsOf>,
    now: Timestamp,
) -> rusqlite::Result<Record> {
    if let Some(record) = read_record(connection, token)? {
        return Ok(record);
    }
    let newest = newest(connection)?;
    let as_of = as_of.map_or(AsOf { at: now, newest }, |as_of| AsOf {
        newest: as_of.newest.min(newest),
        ..as_of
    });
    let asked = serde_json::to_string(replay)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    connection.execute(
        "DELETE FROM replay WHERE id <= (SELECT max(id) FROM replay) - ? AND ended_at IS NOT NULL",
        params![TOKENS_MAX],
    )?;
    connection.execute(
        "INSERT INTO replay (token, asked, begun_at, newest, next) VALUES (?, ?, ?, ?, 0)",
        params![
            token.as_str(),
            asked,
            as_of.at.as_millisecond(),
            as_of.newest
        ],
    )?;
    read_record(connection, token)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Makes a piece due and writes down that it is done; or, if someone else has come further meanwhile, changes nothing.
fn make_due(
    work: &mut Work<'_>,
    record: &Record,
    piece: &Piece,
    now: Timestamp,
) -> rusqlite::Result<Result<ReplayStep, StoreError>> {
    let connection = work.connection;
    let mut counts = record.counts;
    let mut due = BTreeSet::new();
    let is_current = connection
        .prepare_cached("SELECT 1 FROM replay WHERE id = ? AND next = ? AND ended_at IS NULL")?
        .exists(params![record.id, record.next])?;
    if !is_current {
        return Ok(Ok(ReplayStep::More(Replayed { counts, due })));
    }
    let mut next = piece.next;
    for &seq in &piece.messages {
        let message = Chosen::read(connection, seq)?;
        let choice = record.asked.choose(&message.deliveries);
        let before = counts;
        if counts.add(
            &choice,
            message.lane,
            message.can_be_made(connection, &choice)?,
        ) {
            let deliveries = counts.deliveries - before.deliveries;
            if let Err(full) = work.memory.has_room_to_replay(deliveries) {
                if due.is_empty() {
                    return Ok(Err(full));
                }
                counts = before;
                next = Some(seq);
                break;
            }
            work.memory
                .pend(0, usize::try_from(deliveries).unwrap_or(usize::MAX));
            message.make_due(
                connection,
                &choice,
                record.asked.to.as_deref(),
                now,
                &mut due,
            )?;
        }
    }
    connection
        .prepare_cached(
            "UPDATE replay SET next = ?, messages = ?, deliveries = ?, calls = ?, waiting = ?, gone = ?, ended_at = ? WHERE id = ?",
        )?
        .execute(params![
            next.unwrap_or(record.newest + 1),
            counts.messages,
            counts.deliveries,
            counts.calls,
            counts.waiting,
            counts.gone,
            next.is_none().then(|| now.as_millisecond()),
            record.id,
        ])?;
    let replayed = Replayed { counts, due };
    Ok(Ok(match next {
        Some(_) => ReplayStep::More(replayed),
        None => ReplayStep::Done(replayed),
    }))
}

/// A message and its deliveries, as far as a replay wants to know.
struct Chosen {
    seq: i64,
    lane: Lane,
    deliveries: Vec<Existing>,
}

impl Chosen {
    fn read(connection: &Connection, seq: i64) -> rusqlite::Result<Self> {
        let lane = connection
            .prepare_cached("SELECT event_type FROM message WHERE seq = ?")?
            .query_row(params![seq], |row| {
                Ok(Lane::of(row.get_ref(0)?.as_str_or_null()?))
            })?;
        Ok(Self {
            seq,
            lane,
            deliveries: deliveries(connection, seq)?,
        })
    }

    /// Whether there is a body to deliver, and room for one delivery more where one is missing.
    fn can_be_made(&self, connection: &Connection, choice: &Choice<'_>) -> rusqlite::Result<bool> {
        if choice.is_missing && self.free_id().is_none() {
            return Ok(false);
        }
        connection
            .prepare_cached("SELECT 1 FROM body WHERE seq = ?")?
            .exists(params![self.seq])
    }

    fn free_id(&self) -> Option<i64> {
        let ids = deliveries_of(self.seq);
        let mut taken = self.deliveries.iter().map(|delivery| delivery.id);
        ids.into_iter().find(|id| taken.next() != Some(*id))
    }

    fn make_due(
        &self,
        connection: &Connection,
        choice: &Choice<'_>,
        to: Option<&str>,
        now: Timestamp,
        due: &mut BTreeSet<(String, Lane)>,
    ) -> rusqlite::Result<()> {
        let now = now.as_millisecond();
        for delivery in &choice.again {
            connection
                .prepare_cached(
                    "UPDATE delivery SET state = 'waiting', since = ?1, due_at = ?1, earlier = attempt, dropped_at = NULL WHERE id = ?2",
                )?
                .execute(params![now, delivery.id])?;
            due.insert((delivery.destination.clone(), delivery.lane));
        }
        if choice.is_missing
            && let (Some(to), Some(id)) = (to, self.free_id())
        {
            connection
                .prepare_cached(
                    "INSERT INTO delivery (id, message, destination, lane, since, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                )?
                .execute(params![id, self.seq, to, self.lane.as_str(), now])?;
            due.insert((to.to_owned(), self.lane));
        }
        Ok(())
    }
}

/// The deliveries of a message, in the order of their ids.
fn deliveries(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Existing>> {
    let ids = deliveries_of(seq);
    connection
        .prepare_cached(
            "SELECT id, destination, lane, state, dropped_at IS NOT NULL FROM delivery WHERE id BETWEEN ? AND ? ORDER BY id",
        )?
        .query_map(params![ids.start(), ids.end()], |row| {
            Ok(Existing {
                id: row.get(0)?,
                destination: row.get(1)?,
                lane: lane(row.get_ref(2)?.as_str()?),
                status: status(row.get_ref(3)?.as_str()?, row.get(4)?),
            })
        })?
        .collect()
}

/// The schema lets only these be.
pub(super) fn lane(text: &str) -> Lane {
    Lane::ALL
        .into_iter()
        .find(|lane| lane.as_str() == text)
        .unwrap_or(Lane::Standard)
}

pub(super) fn status(state: &str, is_dropped: bool) -> Status {
    match state {
        "delivered" => Status::Delivered,
        "dead" if is_dropped => Status::Dropped,
        "dead" => Status::Dead,
        _ => Status::Waiting,
    }
}

fn is_dead_and_wanted(filter: &Filter, delivery: &Existing) -> bool {
    delivery.status == Status::Dead && filter.wants(&delivery.destination, delivery.status)
}

fn drop_dead(
    connection: &Connection,
    filter: &Filter,
    messages: &[i64],
    dead_at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let mut dropped = 0;
    for &seq in messages {
        for delivery in deliveries(connection, seq)? {
            if is_dead_and_wanted(filter, &delivery) {
                dropped += connection
                    .prepare_cached(
                        "UPDATE delivery SET dropped_at = ? WHERE id = ? AND due_at <= ?",
                    )?
                    .execute(params![
                        now.as_millisecond(),
                        delivery.id,
                        dead_at.as_millisecond()
                    ])? as u64;
            }
        }
    }
    Ok(dropped)
}
