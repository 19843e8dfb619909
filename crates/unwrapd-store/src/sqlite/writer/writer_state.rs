//! State of the writer in memory. Changes by a transaction are undone if it fails.

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use crate::bounds::Bounds;
use crate::capacity;
use crate::error::StoreError;
use crate::put_off::PutOff;
use crate::sqlite::connection::bytes_used;
use crate::sqlite::writer::dedupe_index::{DedupeIndex, IDS_MAX};
use crate::sqlite::writer::leases::Leases;
use unwrapd_core::clock::Clock;

pub(crate) struct WriterState {
    pub(crate) dedupe_index: DedupeIndex,
    pub(crate) leases: Leases,
    pub(crate) put_off: PutOff,
    /// Number of waiting deliveries after the last commit.
    pending: u64,
    /// Number of waiting deliveries in the current transaction.
    pending_then: u64,
    pending_max: u64,
    /// Bytes in use before the last commit, plus what the current transaction has added.
    size: u64,
    size_max: Option<u64>,
}

impl WriterState {
    /// Reads the state from the database. Ids from before `horizon` may be missing.
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
            size: bytes_used(connection)?,
            size_max: bounds.size_max,
        })
    }

    /// Writes the blocks of messages that are in no block, which a migration leaves behind.
    pub(crate) fn tidy(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.write(&transaction)?;
        transaction.commit()?;
        self.commit();
        Ok(())
    }

    /// Reads the state again after a write whose outcome is unknown.
    pub(crate) fn read_again(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.dedupe_index.read_tail(connection)?;
        self.pending = count_pending(connection)?;
        self.pending_then = self.pending;
        Ok(())
    }

    /// Returns an error with the remedy if there is no room for another message with so many
    /// deliveries.
    pub(crate) fn has_room(&self, deliveries: usize) -> Result<(), StoreError> {
        if deliveries > 0 && self.pending_then >= self.pending_max {
            return Err(capacity::is_full(self.pending_then));
        }
        if self.dedupe_index.ids() >= IDS_MAX {
            return Err(StoreError::Full(format!(
                "it has {IDS_MAX} ids, the limit; shorten `dedupe_days` in [store]"
            )));
        }
        if self.size_max.is_some_and(|max| self.size >= max) {
            return Err(StoreError::Full(
                "it has reached `size_max_mb` in [store], and its messages are waiting for \
                 delivery or being deleted; repair the destinations, or raise `size_max_mb`"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Returns an error if a replay may not make so many more deliveries wait. Replays leave half
    /// of the room to new webhooks.
    pub(crate) fn has_room_to_replay(&self, deliveries: u64) -> Result<(), StoreError> {
        if self.pending_then + deliveries > self.pending_max / 2 {
            return Err(capacity::is_full_for_replays(self.pending_then));
        }
        Ok(())
    }

    /// Counts a stored message of so many bytes with so many waiting deliveries.
    pub(crate) fn pend(&mut self, bytes: usize, deliveries: usize) {
        self.size += bytes as u64;
        self.pending_then += deliveries as u64;
    }

    /// Counts a delivery that was settled for good.
    pub(crate) fn done(&mut self) {
        self.pending_then = self.pending_then.saturating_sub(1);
    }

    /// Writes the state that belongs to the transaction.
    pub(crate) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.dedupe_index.write_blocks(connection)?;
        if self.size_max.is_some() {
            self.size = bytes_used(connection)?;
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
