//! Whether the files are as the writer has left them, and what becomes of its connection if they are not.

use rusqlite::Connection;

use super::Writer;
use crate::StoreError;
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::files::store_files::{Answer, Moves, Question, Trouble};
use crate::sqlite::schema;

impl Writer {
    /// Once a second while nothing is asked for.
    pub(super) fn look_after_files(&mut self) {
        self.pulse.begin();
        if let Some(connection) = self.connection.take() {
            // A second name of the database is a matter for the next commit.
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

    /// An error if the files are not as this connection has left them. If they are lost, so is everything.
    pub(super) fn check_files(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let frames = self.checkpoints.take_frames();
        // Before SQLite is asked anything.
        self.check_index()?;
        let passes = self.checkpoints.passes();
        let are_ours = passes.have_gone_on_since(self.passes);
        let mut checked = self.check_with(connection, frames, are_ours);
        if matches!(checked, Err(Trouble::Lost(_))) {
            // Another program may have begun the log anew between the commit and the look.
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
            // It may look through the whole file.
            pulse.set_checking(true);
            let given = anothers_work(connection, data_version, question);
            pulse.set_checking(false);
            Ok(*answer.insert(given?))
        })
    }

    /// For the next commit, unless SQLite must not even close it: it would move a log into files that are not ours.
    fn keep(&mut self, connection: Connection) {
        if self.lost.is_some() {
            std::mem::forget(connection);
        } else {
            self.connection = Some(connection);
        }
    }

    /// Lets go of the connection after a failure. After a failed write nothing it remembers is to be trusted.
    pub(super) fn give_up(&mut self, connection: Connection) {
        // What failed may have failed because the files are not ours.
        let _: Result<(), _> = self.check_files(&connection);
        if self.lost.is_some() {
            std::mem::forget(connection);
        } else {
            drop(connection);
            // Another program that closes the database last may remove the log.
            self.files.forget_log();
        }
    }

    /// What the other thread could not: the last pages, while nobody writes, so that the log begins anew.
    pub(super) fn finish_checkpoint(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.checkpoints.is_nearly_done()
            && let Err(error) = self.checkpoints.finish(connection)
        {
            tracing::warn!("the log of the store was not moved into the database: {error}");
        }
        // What was moved is to be moved once more, which is done when the database is opened.
        if self.checkpoints.take_failed_sync()
            && let Some(connection) = self.connection.take()
        {
            self.give_up(connection);
        }
    }
}

/// Whether another program has written by SQLite's own means. `VACUUM` in a shell makes the file
/// shorter; whoever cuts it off does not write by these means.
fn anothers_work(
    connection: &Connection,
    data_version: &mut i64,
    question: Question,
) -> Result<Answer, StoreError> {
    // A file that cannot be read as a database any more was not written by SQLite.
    let or_not_written = |error: StoreError| match error {
        StoreError::Unusable(_) => Ok(Answer::NotWritten),
        error => Err(error),
    };
    let now = match schema::data_version(connection) {
        Ok(now) => now,
        Err(error) => return or_not_written(schema::store_error(&error)),
    };
    let is_new = now != *data_version;
    if !is_new && !question.was_unsettled {
        return Ok(Answer::NotWritten);
    }
    match schema::look_through(connection).and_then(|()| schema::tables(connection)) {
        Ok(tables) => {
            *data_version = now;
            Ok(Answer::Written { tables, is_new })
        }
        Err(error) => or_not_written(error),
    }
}

/// While no connection of ours is open, whoever closes the database last moves the log into it; but
/// that makes it no shorter, unless another program has written.
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
