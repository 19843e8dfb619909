//! The connection of the writer, which is opened anew after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Writer;
use super::failure::Failure;
use super::files::unopened;
use crate::StoreError;
use crate::sqlite::files::store_files::{Moves, Trouble};
use crate::sqlite::schema;

/// A damaged file is looked through again after so many times as long as that takes,
const CHECK_RESTS: u32 = 10;
/// and not before that.
const CHECK_REST_MIN: Duration = Duration::from_secs(1);

/// Longest time for which everyone is told at once that the file could not be opened, where it took
/// as long to find that out: it waits for a lock.
const REOPEN_REST_MAX: Duration = Duration::from_secs(1);

impl Writer {
    /// The connection. A new one first reads what became of the last write.
    pub(super) fn connect(&mut self) -> Result<Connection, Failure> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        if let Some((until, error)) = &self.rest
            && Instant::now() < *until
        {
            return Err(Failure::OfTheStore(error.clone()));
        }
        let started = Instant::now();
        let connected = self.connect_again();
        connected.map_err(|failure| {
            let failure = self.tell_both(failure);
            self.rest_after(failure, started.elapsed())
        })
    }

    fn rest_after(&mut self, failure: Failure, took: Duration) -> Failure {
        let error = failure.into_error();
        self.rest = Some((Instant::now() + took.min(REOPEN_REST_MAX), error.clone()));
        Failure::OfTheStore(error)
    }

    /// Adds the first error, which says more than that the file cannot be opened since.
    fn tell_both(&self, failure: Failure) -> Failure {
        match (failure, &self.failed) {
            (
                Failure::OfTheStore(StoreError::Unavailable(now)),
                Some(StoreError::Unavailable(first)),
            ) if now != *first => Failure::OfTheStore(StoreError::Unavailable(format!(
                "{first}; since then it cannot be opened: {now}"
            ))),
            (failure, _) => failure,
        }
    }

    fn connect_again(&mut self) -> Result<Connection, Failure> {
        self.wait_with_damage()?;
        // Or its lock would be taken for someone else's.
        let checkpoints = Arc::clone(&self.checkpoints);
        let _none_under_way = checkpoints.wait();
        // Not a new database in the place of one that is gone: it would have forgotten what it has seen.
        if let Err(trouble) = self
            .files
            .check(Moves::UNKNOWN, |question| Ok(unopened(question)))
        {
            if let Trouble::Lost(loss) = &trouble {
                self.lost = Some(loss.clone());
            }
            return Err(Failure::OfTheStore(trouble.into()));
        }
        // All are opened anew: who has the old log open would mistake it for the new one.
        self.readers.close();
        let mut connection = schema::connect_again(&mut self.files).map_err(Failure::OfTheStore)?;
        self.check_damage(&connection)?;
        self.data_version = schema::data_version(&connection)?;
        schema::tables(&connection)
            .and_then(|tables| self.files.know_log(tables))
            .map_err(Failure::OfTheStore)?;
        self.state.read_again(&connection)?;
        self.checkpoints.watch(&mut connection)?;
        Ok(connection)
    }

    /// Where one page is damaged, what is kept today may not be found tomorrow, even if most of the
    /// file can still be written.
    fn wait_with_damage(&self) -> Result<(), Failure> {
        match (&self.failed, self.next_check) {
            (Some(damage @ StoreError::Unusable(_)), Some(next)) if Instant::now() < next => {
                Err(Failure::OfTheStore(damage.clone()))
            }
            _ => Ok(()),
        }
    }

    fn check_damage(&mut self, connection: &Connection) -> Result<(), Failure> {
        if matches!(self.failed, Some(StoreError::Unusable(_))) {
            let started = Instant::now();
            self.pulse.set_checking(true);
            let checked = schema::look_through(connection);
            self.pulse.set_checking(false);
            self.next_check =
                Some(Instant::now() + CHECK_REST_MIN.max(started.elapsed() * CHECK_RESTS));
            checked.map_err(Failure::OfTheStore)?;
            self.failed = None;
        }
        Ok(())
    }
}
