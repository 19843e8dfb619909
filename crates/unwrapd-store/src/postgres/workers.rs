//! The tasks of a store: they commit the queues, notify, listen, and send heartbeats.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// The tasks. If one ends, also by a panic, the store has ended.
#[derive(Debug)]
pub(crate) struct Workers {
    tasks: JoinSet<()>,
    has_ended: Arc<watch::Sender<bool>>,
}

/// Held by every task.
struct Alive(Arc<watch::Sender<bool>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Workers {
    /// Returns a group without tasks, and whether any of its tasks has ended.
    pub(crate) fn new() -> (Self, watch::Receiver<bool>) {
        let (has_ended, ended) = watch::channel(false);
        let workers = Self {
            tasks: JoinSet::new(),
            has_ended: Arc::new(has_ended),
        };
        (workers, ended)
    }

    /// Begins a task.
    pub(crate) fn begin(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let alive = Alive(Arc::clone(&self.has_ended));
        self.tasks.spawn(async move {
            work.await;
            drop(alive);
        });
    }

    /// Waits until all tasks have ended.
    pub(crate) async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if ended.is_err() {
                tracing::error!("a part of the store panicked; please report this bug");
            }
        }
    }
}
