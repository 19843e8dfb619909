//! The connection of the writer, which is opened again after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Writer;
use super::failure::Failure;
use super::files::unopened;
use crate::error::StoreError;
use crate::sqlite::connection::{look_through, read_data_version, read_tables};
use crate::sqlite::files::known_file::Trouble;
use crate::sqlite::files::store_files::Moves;
use crate::sqlite::schema;

/// Minimum rest between two complete checks of a damaged file, in multiples of the duration of a
/// check.
const CHECK_RESTS: u32 = 10;
/// Lower bound of that rest.
const CHECK_REST_MIN: Duration = Duration::from_secs(1);

/// Longest time for which a failure to open the file is answered from memory. It is as long as the
/// failed attempt took, which may have waited for a lock.
const REOPEN_REST_MAX: Duration = Duration::from_secs(1);

impl Writer {
    /// Returns the connection. A new connection first reads the result of the last write.
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

    /// Adds the first error, which is more specific than the error of opening the file.
    fn tell_both(&self, failure: Failure) -> Failure {
        match (failure, &self.failed) {
            (
                Failure::OfTheStore(StoreError::Unavailable(now)),
                Some(StoreError::Unavailable(first)),
            ) if now != *first => Failure::OfTheStore(StoreError::Unavailable(format!(
                "{first}; after that it could not be opened: {now}"
            ))),
            (failure, _) => failure,
        }
    }

    fn connect_again(&mut self) -> Result<Connection, Failure> {
        self.wait_with_damage()?;
        // Otherwise its lock would be taken for that of another program.
        let checkpoints = Arc::clone(&self.checkpoints);
        let _none_under_way = checkpoints.wait();
        // A database that disappeared must not be replaced by a new one, which would lack the ids
        // of earlier webhooks.
        if let Err(trouble) = self
            .files
            .check(Moves::UNKNOWN, |question| Ok(unopened(question)))
        {
            if let Trouble::Lost(loss) = &trouble {
                self.lost = Some(loss.clone());
            }
            return Err(Failure::OfTheStore(trouble.into()));
        }
        // All connections are opened again: one with the old log open would mistake it for the new
        // one.
        self.readers.close();
        let mut connection = schema::connect_again(&mut self.files).map_err(Failure::OfTheStore)?;
        self.check_damage(&connection)?;
        self.data_version = read_data_version(&connection)?;
        read_tables(&connection)
            .and_then(|tables| self.files.know_log(tables))
            .map_err(Failure::OfTheStore)?;
        self.state.read_again(&connection)?;
        self.checkpoints.watch(&mut connection)?;
        Ok(connection)
    }

    /// With a damaged page, messages stored today may be unreadable tomorrow, even if most of the
    /// file is still writable.
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
            let checked = look_through(connection);
            self.pulse.set_checking(false);
            self.next_check =
                Some(Instant::now() + CHECK_REST_MIN.max(started.elapsed() * CHECK_RESTS));
            checked.map_err(Failure::OfTheStore)?;
            self.failed = None;
        }
        Ok(())
    }
}
