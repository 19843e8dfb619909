//! Jobs for the writer, and their answers.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::sqlite::writer::writer_state::WriterState;

/// The state that a job works with.
pub(crate) struct Work<'w> {
    /// In the writer's transaction, unless the job only reads.
    pub(crate) connection: &'w Connection,
    /// State in memory, whose changes take effect when the transaction is committed.
    pub(crate) state: &'w mut WriterState,
}

/// When a job is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// At once, because it changes nothing on the disk.
    ReadOnly,
    /// After the next commit.
    NextCommit,
    /// After a commit, possibly a later one: its caller can wait.
    Deferred,
}

/// A job that waits for the writer.
pub(crate) trait Job: Send {
    fn urgency(&self) -> Urgency;

    /// Whether the caller still waits for the answer.
    fn is_awaited(&self) -> bool;

    /// Runs the job. If its transaction fails, it may run again in another one.
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()>;

    /// Answers the caller, once the outcome of the transaction is known.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// A change made by `make`, and the caller that waits for its result.
pub(crate) struct Change<T, F> {
    pub(crate) urgency: Urgency,
    pub(crate) make: F,
    pub(crate) value: Option<T>,
    pub(crate) answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: Fn(&mut Work<'_>) -> rusqlite::Result<T> + Send,
{
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.make)(work)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, answer, .. } = *self;
        let result = outcome.and_then(|()| value.ok_or_else(StoreError::closed));
        // The caller may have given up; the change is made anyway.
        drop(answer.send(result));
    }
}
