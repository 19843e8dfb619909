//! One end of a copy.

use async_trait::async_trait;

use super::table::{Outline, Row, Table};
use crate::error::StoreError;

/// One end of a copy: a store, as rows, on which no gateway runs. Each kind of store implements
/// this once.
#[async_trait]
pub(crate) trait CopyEndpoint: Send {
    /// Returns the same text for two ends that are the same store, by whatever path.
    async fn identity(&mut self) -> Result<String, StoreError>;

    /// The mark of an unfinished copy into it. `None` if there is none.
    async fn mark(&mut self) -> Result<Option<String>, StoreError>;

    /// Outline of the content: counts and sums.
    async fn outline(&mut self) -> Result<Outline, StoreError>;

    /// Reads some rows after the key `after`, in the order of their keys. Empty at the end.
    async fn read(&mut self, table: &'static Table, after: Row) -> Result<Vec<Row>, StoreError>;

    /// An id that occurs more than once, and the arrival time of its first message, in milliseconds
    /// since 1970.
    async fn repeated(&mut self) -> Result<Option<(String, i64)>, StoreError>;

    /// Whether an id may occur more than once.
    fn takes_repeated(&self) -> bool;

    /// Begins a copy into it, unless one has begun.
    async fn begin(&mut self, mark: String) -> Result<StepResult, StoreError>;

    /// Writes rows and the new mark in one commit. Writes neither if the mark differs from the
    /// expected one.
    async fn write(&mut self, batch: RowBatch) -> Result<StepResult, StoreError>;

    /// Derives the internal tables of this kind of store, and removes the mark, after which
    /// gateways may start. Does neither if the mark differs.
    async fn finish(&mut self, mark: String) -> Result<StepResult, StoreError>;

    /// Returns an error if a gateway runs on it.
    async fn check_unused(&mut self) -> Result<(), StoreError>;
}

/// Rows to write, and the mark with the progress.
#[derive(Debug)]
pub(crate) struct RowBatch {
    pub(crate) table: &'static Table,
    pub(crate) rows: Vec<Row>,
    /// The mark before the rows are written.
    pub(crate) before: String,
    /// The mark once they are.
    pub(crate) mark: String,
}

/// Result of a step of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepResult {
    /// The step was made.
    Done,
    /// Another copy into the same target has changed the mark.
    Overtaken,
}
