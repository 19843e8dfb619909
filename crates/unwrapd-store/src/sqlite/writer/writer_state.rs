//! State of the writer in memory. Changes during a transaction are undone if the transaction fails.

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use crate::put_off::PutOff;
use crate::sqlite::upkeep::size;
use crate::sqlite::writer::dedupe_index::{DedupeIndex, IDS_MAX};
use crate::sqlite::writer::leases::Leases;
use crate::{Bounds, StoreError, capacity};
use unwrapd_core::clock::Clock;

pub(crate) struct WriterState {
    pub(crate) dedupe_index: DedupeIndex,
    pub(crate) leases: Leases,
    pub(crate) put_off: PutOff,
    /// Deliveries neither made nor given up,
    pending: u64,
    /// as the transaction under way would have it.
    pending_then: u64,
    pending_max: u64,
    /// Bytes in use when the last transaction was to be committed, and what the one under way has added.
    size: u64,
    size_max: Option<u64>,
}

impl WriterState {
    /// Reads what there is. Ids from before `horizon` need not be known.
    pub(crate) fn read(
        connection: &Connection,
        horizon: Timestamp,
        bounds: &Bounds,
        clock: &Clock,
    ) -> rusqlite::Result<Self> {
        let pending = count_pending(connection)?;
        Ok(Self {
            dedupe_index: DedupeIndex::read(connection, horizon)?,
            leases: Leases::new(clock.clone()),
            put_off: PutOff::default(),
            pending,
            pending_then: pending,
            pending_max: bounds.undelivered_max,
            size: size::used(connection)?,
            size_max: bounds.size_max,
        })
    }

    /// Puts ids of many messages that stand in no block into blocks: after a migration nobody else has.
    pub(crate) fn tidy(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.write(&transaction)?;
        transaction.commit()?;
        self.commit();
        Ok(())
    }

    /// After a write whose fate is unknown: finds out.
    pub(crate) fn read_again(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.dedupe_index.read_tail(connection)?;
        self.pending = count_pending(connection)?;
        self.pending_then = self.pending;
        Ok(())
    }

    /// Whether one more message with so many deliveries may be kept. The error says what to do.
    pub(crate) fn has_room(&self, deliveries: usize) -> Result<(), StoreError> {
        if deliveries > 0 && self.pending_then >= self.pending_max {
            return Err(capacity::is_full(self.pending_then));
        }
        if self.dedupe_index.ids() >= IDS_MAX {
            return Err(StoreError::Full(format!(
                "it already knows {IDS_MAX} ids, the limit; shorten `dedupe_days` in [store]"
            )));
        }
        if self.size_max.is_some_and(|max| self.size >= max) {
            return Err(StoreError::Full(
                "it has the size that `size_max_mb` in [store] allows, and the rest waits for delivery or is being deleted; repair the destinations, or raise `size_max_mb`"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Whether so many deliveries more may be made again. They leave half of the room to what arrives.
    pub(crate) fn has_room_to_replay(&self, deliveries: u64) -> Result<(), StoreError> {
        if self.pending_then + deliveries > self.pending_max / 2 {
            return Err(capacity::is_full_for_replays(self.pending_then));
        }
        Ok(())
    }

    /// A message of so many bytes more is kept, and so many deliveries more wait.
    pub(crate) fn pend(&mut self, bytes: usize, deliveries: usize) {
        self.size += bytes as u64;
        self.pending_then += deliveries as u64;
    }

    /// A delivery was made or given up.
    pub(crate) fn done(&mut self) {
        self.pending_then = self.pending_then.saturating_sub(1);
    }

    /// Writes the state that belongs to the transaction.
    pub(crate) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.dedupe_index.write_blocks(connection)?;
        if self.size_max.is_some() {
            self.size = size::used(connection)?;
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self) {
        self.dedupe_index.commit();
        self.leases.commit();
        self.pending = self.pending_then;
    }

    pub(crate) fn rollback(&mut self) {
        self.dedupe_index.rollback();
        self.leases.rollback();
        self.pending_then = self.pending;
    }
}

fn count_pending(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row(
        "SELECT count(*) FROM delivery WHERE state = 'waiting'",
        (),
        |row| row.get(0),
    )
}
