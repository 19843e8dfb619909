//! Has the store forget what is old or too much, a little at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::Level;

use crate::clock::Clock;
use crate::pipeline_events::{EventBus, PipelineEvent};
use crate::store::{Maintenance, Pruned};
use tokio_util::sync::CancellationToken;

/// How long a store that had nothing to forget is left alone: it may fill up meanwhile.
const REST: Duration = Duration::from_secs(5);
/// How long after a step that failed the next one is tried.
const RETRY: Duration = Duration::from_secs(30);

/// Goes on until shutdown. A failing store does not end it.
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

/// As long again as the step took: the busier the store is, the less it is asked.
fn pause(pruned: Pruned, took: Duration) -> Duration {
    if pruned.is_more { took } else { REST }
}
