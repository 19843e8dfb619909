//! Deletes messages that are too old or too many, in small steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::Level;

use crate::clock::Clock;
use crate::pipeline_events::{EventBus, PipelineEvent};
use crate::store::{Maintenance, Pruned};
use tokio_util::sync::CancellationToken;

/// Pause after a step that had nothing to delete. The store may fill up meanwhile.
const REST: Duration = Duration::from_secs(5);
/// Pause after a step that failed.
const RETRY: Duration = Duration::from_secs(30);

/// Runs until shutdown. Errors of the store do not end it.
pub(crate) async fn run(
    store: Arc<dyn Maintenance>,
    clock: Clock,
    events: EventBus,
    shutdown: CancellationToken,
) {
    let mut messages = 0;
    loop {
        let started = Instant::now();
        let pause = match store.prune(clock.believed()).await {
            Ok(pruned) => {
                messages += pruned.messages;
                if !pruned.is_more && messages > 0 {
                    events.emit(Level::INFO, || PipelineEvent::Pruned { messages });
                    messages = 0;
                }
                pause(pruned, started.elapsed())
            }
            Err(error) => {
                tracing::warn!("cannot delete old messages: {error}");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// The pause after a step. It is as long as the step, so a busy store gets fewer of them.
fn pause(pruned: Pruned, took: Duration) -> Duration {
    if pruned.is_more { took } else { REST }
}
