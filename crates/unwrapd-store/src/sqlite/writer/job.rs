//! What the writer is asked to do, and how it answers.

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::StoreError;
use crate::sqlite::writer::writer_state::WriterState;

/// What a job works with.
pub(crate) struct Work<'w> {
    /// In the writer's transaction, unless the job only looks.
    pub(crate) connection: &'w Connection,
    /// What it remembers counts once the transaction is committed.
    pub(crate) state: &'w mut WriterState,
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Nothing: it changes nothing on the disk, and is answered at once.
    ReadOnly,
    /// The next commit.
    NextCommit,
    /// A commit, and it may be a later one: nobody waits for its answer.
    Deferred,
}

/// Something to do that waits for the writer.
pub(crate) trait Job: Send {
    fn urgency(&self) -> Urgency;

    /// Whether someone still waits for the answer.
    fn is_awaited(&self) -> bool;

    /// Does it. It may be asked to again, in another transaction, if the first came to nothing.
    fn run(&mut self, work: &mut Work<'_>) -> rusqlite::Result<()>;

    /// Tells who asked, once the fate of the whole transaction is known.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// The change that `make` makes, and who waits for its result.
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
        // Who asked may have gone away meanwhile; the change stands all the same.
        drop(answer.send(result));
    }
}
