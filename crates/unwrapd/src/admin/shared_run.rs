//! A task whose result several requests share.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::store::StoreError;

/// A task, running or finished. It continues if a client that waits for it disconnects.
#[derive(Clone, Debug)]
pub(super) struct SharedRun<T> {
    began_at: Instant,
    /// Closed without a value if the task ended without a result.
    end: watch::Receiver<Option<End<T>>>,
}

/// The end of a task.
#[derive(Clone, Debug)]
pub(super) struct End<T> {
    pub(super) result: Result<T, StoreError>,
    pub(super) at: Instant,
}

impl<T: Clone + Send + Sync + 'static> SharedRun<T> {
    /// Begins the task.
    pub(super) fn begin(
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Self {
        let (sender, end) = watch::channel(None);
        tokio::spawn(async move {
            let result = work.await;
            let at = Instant::now();
            sender.send_replace(Some(End { result, at }));
        });
        Self {
            began_at: Instant::now(),
            end,
        }
    }

    /// The time at which it began.
    pub(super) fn began_at(&self) -> Instant {
        self.began_at
    }

    /// Whether it has begun and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.end.borrow().is_none() && self.end.has_changed().is_ok()
    }

    /// Its end; `None`: it is under way, or has ended without a result.
    pub(super) fn end(&self) -> Option<End<T>> {
        self.end.borrow().clone()
    }

    /// Waits for its result.
    pub(super) async fn result(&mut self) -> Result<T, StoreError> {
        match self.end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(end)) => end.result.clone(),
            _ => Err(StoreError::Unavailable(
                "a task of the store ended without a result".into(),
            )),
        }
    }

    /// Waits for its result until it has run for `longest`; `None`: it has none by then.
    pub(super) async fn result_within(
        &mut self,
        longest: Duration,
    ) -> Option<Result<T, StoreError>> {
        timeout_at(self.began_at + longest, self.result())
            .await
            .ok()
    }
}
