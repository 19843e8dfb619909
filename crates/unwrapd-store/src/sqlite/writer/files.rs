//! Checks that the files are as the writer left them, and decides about its connection otherwise.

use rusqlite::Connection;

use super::Writer;
use crate::error::StoreError;
use crate::sqlite::connection::{look_through, read_data_version, read_tables};
use crate::sqlite::error::store_error;
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::files::known_file::Trouble;
use crate::sqlite::files::store_files::{Answer, Moves, Question};

impl Writer {
    /// Checks the files once a second while idle.
    pub(super) fn look_after_files(&mut self) {
        self.pulse.begin();
        if let Some(connection) = self.connection.take() {
            // A second name of the database is left to the next commit.
            let _: Result<(), _> = self.check_files(&connection);
            self.keep(connection);
            self.finish_checkpoint();
        } else if let Err(Trouble::Lost(loss)) = self
            .files
            .check(Moves::UNKNOWN, |question| Ok(unopened(question)))
        {
            self.lost = Some(loss);
        }
    }

    /// Returns an error if the files are not as this connection has left them. If they are lost,
    /// the writer must end.
    pub(super) fn check_files(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let frames = self.checkpoints.take_frames();
        // Checked before SQLite uses the index.
        self.check_index()?;
        let passes = self.checkpoints.passes();
        let are_ours = passes.have_gone_on_since(self.passes);
        let mut checked = self.check_with(connection, frames, are_ours);
        if matches!(checked, Err(Trouble::Lost(_))) {
            // Another program may have restarted the log between the commit and the check.
            checked = self.check_with(connection, None, are_ours);
        }
        if checked.is_ok() {
            self.passes = passes;
        }
        if let Err(Trouble::Lost(loss)) = &checked {
            self.lost = Some(loss.clone());
        }
        checked.map_err(StoreError::from)
    }

    pub(super) fn check_index(&mut self) -> Result<(), StoreError> {
        let checked = self.files.check_index();
        if let Err(Trouble::Lost(loss)) = &checked {
            self.lost = Some(loss.clone());
        }
        checked.map_err(StoreError::from)
    }

    fn check_with(
        &mut self,
        connection: &Connection,
        frames: Option<u32>,
        are_ours: bool,
    ) -> Result<(), Trouble> {
        let frames = frames.or_else(|| {
            let counts = checkpoint::run(connection, Mode::Count).ok()?;
            Some(counts.frames)
        });
        let moves = Moves { frames, are_ours };
        let data_version = &mut self.data_version;
        let pulse = &self.pulse;
        let mut answer: Option<Answer> = None;
        self.files.check(moves, |question| {
            if let Some(answer) = answer {
                return Ok(answer);
            }
            // The answer may need a check of the whole file.
            pulse.set_checking(true);
            let given = anothers_work(connection, data_version, question);
            pulse.set_checking(false);
            Ok(*answer.insert(given?))
        })
    }

    /// Keeps the connection for the next commit. If the files are lost, leaks it: closing it would
    /// move the log into files that are not ours.
    fn keep(&mut self, connection: Connection) {
        if self.lost.is_some() {
            std::mem::forget(connection);
        } else {
            self.connection = Some(connection);
        }
    }

    /// Drops the connection after a failure, because after a failed write its cached state is
    /// unreliable.
    pub(super) fn give_up(&mut self, connection: Connection) {
        // The cause may be that the files are no longer ours.
        let _: Result<(), _> = self.check_files(&connection);
        if self.lost.is_some() {
            std::mem::forget(connection);
        } else {
            drop(connection);
            // Another program that closes the database last may remove the log.
            self.files.forget_log();
        }
    }

    /// Moves the last pages, which the checkpoint thread could not, while no commit runs, so that
    /// the log restarts.
    pub(super) fn finish_checkpoint(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.checkpoints.is_nearly_done()
            && let Err(error) = self.checkpoints.finish(connection)
        {
            tracing::warn!("the log of the store was not moved into the database: {error}");
        }
        // Pages whose sync failed must be moved again, which happens when the database is opened.
        if self.checkpoints.take_failed_sync()
            && let Some(connection) = self.connection.take()
        {
            self.give_up(connection);
        }
    }
}

/// Whether another program has written through SQLite. `VACUUM` in a shell shortens the file
/// through SQLite; truncating it does not go through SQLite.
fn anothers_work(
    connection: &Connection,
    data_version: &mut i64,
    question: Question,
) -> Result<Answer, StoreError> {
    // A file that is no longer readable as a database was not written by SQLite.
    let or_not_written = |error: StoreError| match error {
        StoreError::Unusable(_) => Ok(Answer::NotWritten),
        error => Err(error),
    };
    let now = match read_data_version(connection) {
        Ok(now) => now,
        Err(error) => return or_not_written(store_error(&error)),
    };
    let is_new = now != *data_version;
    if !is_new && !question.was_unsettled {
        return Ok(Answer::NotWritten);
    }
    match look_through(connection).and_then(|()| read_tables(connection)) {
        Ok(tables) => {
            *data_version = now;
            Ok(Answer::Written { tables, is_new })
        }
        Err(error) => or_not_written(error),
    }
}

/// The answer while no connection of ours is open. Another program that closes the database last
/// moves the log into it, which does not shorten it, unless that program has written.
pub(super) fn unopened(question: Question) -> Answer {
    if question.is_shorter && !question.was_unsettled {
        Answer::NotWritten
    } else {
        Answer::Written {
            tables: 0,
            is_new: false,
        }
    }
}
