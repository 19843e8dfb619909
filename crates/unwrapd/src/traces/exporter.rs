//! Posts spans to the collector, as [OTLP over
//! HTTP](https://opentelemetry.io/docs/specs/otlp/#otlphttp) prescribes.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::otlp::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, KeyValue,
    Resource, ResourceSpans, ScopeSpans, Span,
};
use super::spans::Anchor;
use super::{Noted, Traces, spans};
use crate::destinations;
use crate::observe::repeated::Repeated;
use crate::pipeline_events::{EventBus, PipelineEvent, SpanLoss};

/// Longest wait for a batch to be full.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Longest time of one request.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time for all requests of a batch: a collector may be restarted meanwhile.
const BATCH_TIME_MAX: Duration = Duration::from_secs(30);
/// Wait after the first failed request. It doubles after each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest time to export what is left when the gateway stops.
const LAST_TIME_MAX: Duration = Duration::from_secs(1);
/// Maximum number of bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Exports the queued events.
pub(crate) struct Exporter {
    traces: Traces,
    client: Client,
    resource: Resource,
    events: EventBus,
    losses: Repeated<SpanLoss>,
    /// The events that are being exported.
    batch: Vec<Noted>,
}

/// Why a request failed.
struct Failure {
    cause: String,
    /// Wait before the next request that the collector demands. `None`: another request is useless.
    retry_after: Option<Duration>,
}

impl Exporter {
    pub(super) fn new(traces: Traces, events: EventBus, gateway: &str) -> reqwest::Result<Self> {
        Ok(Self {
            traces,
            client: destinations::client().timeout(REQUEST_TIME_MAX).build()?,
            resource: Resource {
                attributes: vec![
                    KeyValue::of("service.name", "unwrapd"),
                    KeyValue::of("service.version", env!("CARGO_PKG_VERSION")),
                    KeyValue::of("service.instance.id", gateway),
                ],
            },
            events,
            losses: Repeated::default(),
            batch: Vec::new(),
        })
    }

    /// Exports until shutdown, and for at most a second after it.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let too_late = async {
            shutdown.cancelled().await;
            sleep(LAST_TIME_MAX).await;
        };
        tokio::select! {
            () = self.export_all(&shutdown) => {}
            () = too_late => {}
        }
        while !self.batch.is_empty() {
            self.lose_batch("the gateway stops");
            self.batch = self.traces.take_batch();
        }
        self.count_overflow();
        log(self.losses.take_all());
    }

    /// Returns once all events are exported after shutdown.
    async fn export_all(&mut self, shutdown: &CancellationToken) {
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                () = self.traces.0.full.notified() => {}
                () = sleep(BATCH_WAIT) => {}
                () = shutdown.cancelled() => is_last = true,
            }
            loop {
                self.batch = self.traces.take_batch();
                if self.batch.is_empty() {
                    break;
                }
                self.export_batch(shutdown).await;
                self.count_overflow();
            }
            log(self.losses.take_due());
        }
    }

    async fn export_batch(&mut self, shutdown: &CancellationToken) {
        let body = self.body();
        let until = Instant::now() + BATCH_TIME_MAX;
        let mut wait = RETRY_FIRST;
        loop {
            let Failure { cause, retry_after } = match self.post(body.clone()).await {
                Ok(rejected) => {
                    self.batch.clear();
                    self.lose(SpanLoss::Rejected, rejected, || {
                        "the collector rejected them, and its log may have the cause".into()
                    });
                    return;
                }
                Err(failure) => failure,
            };
            let pause = retry_after.map(|demanded| demanded.max(wait.mul_f64(jitter())));
            match pause {
                Some(pause) if !shutdown.is_cancelled() && Instant::now() + pause < until => {
                    tracing::debug!("cannot export spans yet: {cause}");
                    tokio::select! {
                        () = sleep(pause) => {}
                        // Then it is tried once more.
                        () = shutdown.cancelled() => {}
                    }
                    wait *= 2;
                }
                _ => {
                    self.lose_batch(&cause);
                    return;
                }
            }
        }
    }

    fn body(&self) -> Bytes {
        let anchor = Anchor::now();
        let servers = self.traces.servers();
        let spans: Vec<Span> = self
            .batch
            .iter()
            .flat_map(|noted| spans::of(noted, &servers, anchor))
            .collect();
        drop(servers);
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: "unwrapd".into(),
                        version: env!("CARGO_PKG_VERSION").into(),
                    }),
                    spans,
                }],
            }],
        };
        request.encode_to_vec().into()
    }

    /// Makes one request. Returns the number of spans that the collector rejected.
    async fn post(&self, body: Bytes) -> Result<u64, Failure> {
        let settings = &self.traces.0.settings;
        let request = self
            .client
            .post(settings.url.clone())
            .headers(settings.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let response = request.send().await.map_err(|error| Failure {
            cause: destinations::describe(&error),
            retry_after: Some(Duration::ZERO),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(rejected(response).await);
        }
        // https://opentelemetry.io/docs/specs/otlp/#failures-1
        let is_temporary = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        Err(Failure {
            cause: format!("it answers HTTP {}", status.as_u16()),
            retry_after: is_temporary.then(|| retry_after(&response)),
        })
    }

    /// Counts the spans for which the queue had no room.
    fn count_overflow(&self) {
        let lost = std::mem::take(&mut self.traces.queue().lost);
        self.lose(SpanLoss::QueueFull, lost, || {
            "the collector takes them too slowly, or not at all".into()
        });
    }

    fn lose_batch(&mut self, cause: &str) {
        let spans = self.batch.iter().map(|noted| spans::count(&noted.event));
        let spans = spans.sum();
        self.batch.clear();
        self.lose(SpanLoss::NotSent, spans, || {
            let place = self.traces.0.settings.place();
            format!("cannot send them to {place}: {cause}; check the collector and [traces]")
        });
    }

    fn lose(&self, loss: SpanLoss, spans: u64, reason: impl FnOnce() -> String) {
        if spans == 0 {
            return;
        }
        let repeats = self.losses.count(&loss);
        let level = repeats.map_or(Level::DEBUG, |_| Level::WARN);
        self.events.emit(level, || PipelineEvent::SpansLost {
            spans,
            loss,
            reason: reason(),
            repeats,
        });
    }
}

/// Logs losses that were only counted.
fn log(losses: Vec<(Option<SpanLoss>, u64)>) {
    for (loss, count) in losses {
        let loss = loss.map_or_else(String::new, |loss| format!(" ({})", loss.as_str()));
        tracing::warn!(
            count,
            "spans of traces were lost{loss}: {count} times more since the last such line"
        );
    }
}

/// From a half to one and a half, so that several gateways do not try again together.
fn jitter() -> f64 {
    0.5 + fastrand::f64()
}

/// The wait that the collector demands, in seconds, or the longest time of a batch if it is longer:
/// a time after it would overflow. A date counts as none.
fn retry_after(response: &Response) -> Duration {
    let text = response.headers().get(RETRY_AFTER);
    let seconds = text.and_then(|text| text.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or_default()).min(BATCH_TIME_MAX)
}

/// The number of rejected spans in an answer. An answer that cannot be read rejects none.
async fn rejected(mut response: Response) -> u64 {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        answer.extend_from_slice(&chunk);
        if answer.len() > ANSWER_BYTES_MAX {
            return 0;
        }
    }
    let answer = ExportTraceServiceResponse::decode(&*answer).unwrap_or_default();
    let rejected = answer.partial_success.unwrap_or_default().rejected_spans;
    u64::try_from(rejected).unwrap_or_default()
}
