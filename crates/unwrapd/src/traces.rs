//! Traces by OTLP: one for each webhook, with a span for each step and each attempt.
//!
//! The spans derive from the pipeline events. An observer queues events; a task of its own makes
//! spans of them, and posts the spans to a collector. Receiving and delivering never wait for it:
//! spans beyond the queue are lost and counted. `docs/guide/traces.md` describes it for people.

mod exporter;
mod otlp;
mod settings;
mod spans;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pipeline_events::{EventBus, Observer, PipelineEvent};
use exporter::Exporter;
use spans::Servers;

pub use settings::TraceSettings;

/// Most events that wait for the collector: a few megabytes, and some seconds at full load.
const QUEUE_MAX: usize = 8_192;
/// Most events whose spans share a request: some hundred kilobytes.
const BATCH_MAX: usize = 512;

/// Queues what is to be traced. Clones share the queue.
#[derive(Clone)]
pub(crate) struct Traces(Arc<Inner>);

struct Inner {
    settings: TraceSettings,
    queue: Mutex<Queue>,
    /// Notified when a batch is full.
    full: Notify,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Queue {
    noted: VecDeque<Noted>,
    /// Number of spans that found the queue full.
    lost: u64,
}

/// An event and its time.
struct Noted {
    event: PipelineEvent,
    at: Instant,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Observer for Traces {
    fn observe(&self, event: &PipelineEvent) {
        let spans = spans::count(event);
        if spans == 0 {
            return;
        }
        let noted = Noted {
            event: event.clone(),
            at: Instant::now(),
        };
        let mut queue = self.queue();
        if queue.noted.len() >= QUEUE_MAX {
            queue.lost += spans;
            return;
        }
        queue.noted.push_back(noted);
        if queue.noted.len() == BATCH_MAX {
            self.0.full.notify_one();
        }
    }
}

impl Traces {
    pub(crate) fn new(settings: TraceSettings) -> Self {
        Self(Arc::new(Inner {
            settings,
            queue: Mutex::default(),
            full: Notify::new(),
            servers: Mutex::default(),
        }))
    }

    /// Sets the URLs of the destinations that have one.
    pub(crate) fn set_servers<'u>(&self, urls: impl IntoIterator<Item = (String, &'u Url)>) {
        *self.servers() = spans::servers(urls);
    }

    /// The exporter of what is queued. `gateway` is the name of this gateway.
    pub(crate) fn exporter(&self, events: EventBus, gateway: &str) -> reqwest::Result<Exporter> {
        Exporter::new(self.clone(), events, gateway)
    }

    /// Takes the events of one request.
    fn take_batch(&self) -> Vec<Noted> {
        let mut queue = self.queue();
        let batch = queue.noted.len().min(BATCH_MAX);
        queue.noted.drain(..batch).collect()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.0
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;
    use tokio_util::sync::CancellationToken;

    use super::spans::Anchor;
    use super::*;
    use crate::pipeline_events::SpanLoss;
    use crate::trace_context::{Sampler, Trace};

    fn traces() -> Traces {
        let nowhere = "http://127.0.0.1:1".parse().unwrap();
        Traces::new(TraceSettings::new(nowhere))
    }

    fn expired() -> PipelineEvent {
        PipelineEvent::Expired {
            webhook_id: "wh_1".into(),
            event_type: "realtime.call.incoming".into(),
            destination: "app".into(),
            attempt: 1,
            repeats: None,
            trace: Some(Trace::of("production", "wh_1", Sampler::of(1.0)).attempt("app", 1)),
        }
    }

    #[test]
    fn each_event_has_as_many_spans_as_are_counted() {
        let traces = traces();
        traces.observe(&expired());
        traces.observe(&PipelineEvent::Pruned { messages: 1 });
        let batch = traces.take_batch();
        assert_eq!(batch.len(), 1);
        let spans = spans::of(&batch[0], &Servers::default(), Anchor::now());
        assert_eq!(spans.len() as u64, spans::count(&batch[0].event));
        assert!(traces.take_batch().is_empty());
    }

    #[tokio::test]
    async fn every_span_beyond_the_queue_or_without_a_collector_is_counted_as_lost() {
        let (traces, events) = (traces(), EventBus::default());
        let more = 5;
        for _ in 0..QUEUE_MAX + more {
            traces.observe(&expired());
        }
        let mut seen = events.subscribe();
        let exporter = traces.exporter(events, "gateway").unwrap();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        exporter.run(shutdown).await;
        let (mut full, mut unsent) = (0, 0);
        loop {
            match seen.try_recv() {
                Ok(PipelineEvent::SpansLost { spans, loss, .. }) => match loss {
                    SpanLoss::QueueFull => full += spans,
                    SpanLoss::NotSent => unsent += spans,
                    SpanLoss::Rejected => panic!("there is no collector"),
                },
                Ok(event) => panic!("{event:?}"),
                Err(TryRecvError::Lagged(missed)) => panic!("{missed} are missed"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        assert_eq!((full, unsent), (more as u64, QUEUE_MAX as u64));
    }
}
