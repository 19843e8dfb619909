//! The demo: one event of each type, a duplicate, a forgery; then every further webhook.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use openai_webhooks::{EventType, UnwrapWebhookEvent};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::ENDPOINT;
use crate::cli::format::{outln, plain};
use crate::cli::webhook::trigger::{Request, Sender};
use crate::delivery::breaker::CircuitChange;
use crate::delivery::{EXPIRED, Next};
use crate::pipeline_events::{PipelineEvent, Subscription};
use crate::store::Accepted;

/// Longest wait for a first attempt. After that the demo goes on with the next event.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait at the end for retries.
const LATE_WAIT_MAX: Duration = Duration::from_secs(20);

pub(super) struct Tour {
    events: Subscription,
    sender: Sender,
    /// Events that the built-in application has unwrapped.
    told: mpsc::Receiver<UnwrapWebhookEvent>,
    /// Ids of the webhooks that are to be delivered.
    sent: HashSet<String>,
    /// Whether a webhook was delivered, by its id, once its last attempt is over.
    ended: HashMap<String, bool>,
}

impl Tour {
    pub(super) fn new(
        events: Subscription,
        sender: Sender,
        told: mpsc::Receiver<UnwrapWebhookEvent>,
    ) -> Self {
        Self {
            events,
            sender,
            told,
            sent: HashSet::new(),
            ended: HashMap::new(),
        }
    }

    /// Whether everything was delivered.
    pub(super) async fn walk(&mut self) -> anyhow::Result<bool> {
        outln!("\nOne signed sample of every event type, over HTTP, as OpenAI would send it:")?;
        let mut first = None;
        for event_type in EventType::ALL {
            let request = self.sender.sample(*event_type)?;
            let steps = self.send(&request).await?;
            outln!("  {event_type:<34} {steps}")?;
            first.get_or_insert(request);
        }
        if let Some(original) = first {
            outln!("\nThe first one again, since OpenAI may send a webhook twice:")?;
            outln!("  {}", self.send(&original).await?)?;

            outln!("\nA forgery, with one letter of the body changed:")?;
            let mut forged = original;
            forged.payload = forged.payload.replacen("evt_", "ev7_", 1);
            outln!("  {}", self.send(&forged).await?)?;
        }
        self.wait_for_late().await?;
        let all = EventType::ALL.len();
        let delivered = self.delivered();
        outln!("\n{delivered} of {all} event types delivered")?;
        Ok(delivered == all)
    }

    /// Sends a request, and returns its steps up to the first attempt, if that comes soon.
    async fn send(&mut self, request: &Request) -> anyhow::Result<String> {
        let status = self
            .sender
            .send(request)
            .await
            .map_err(anyhow::Error::msg)?;
        self.follow(&request.headers.id, status).await
    }

    /// Follows the webhook of this id, which was answered with `status`.
    async fn follow(&mut self, id: &str, status: u16) -> anyhow::Result<String> {
        let mut steps = Vec::new();
        // The attempt may end before the acceptance is emitted, since the delivery starts as soon
        // as the store has committed.
        let mut attempt = None;
        // These are emitted before the answer, so they have arrived.
        let accepted = loop {
            let event = self.events.recv().await?;
            self.note(&event);
            if event.webhook_id().is_some_and(|other| other != id) {
                continue;
            }
            if is_end(&event) {
                attempt = attempt.or_else(|| step(&event));
                continue;
            }
            if is_stray(&event, status) {
                continue;
            }
            steps.extend(step(&event));
            match event {
                PipelineEvent::Refused { .. } => break None,
                PipelineEvent::Accepted { accepted, .. } => break Some(accepted),
                _ => {}
            }
        };
        steps.push(format!("answered {status}"));
        if accepted == Some(Accepted::New) {
            self.sent.insert(id.to_owned());
            let deadline = Instant::now() + ATTEMPT_WAIT_MAX;
            while attempt.is_none() {
                let Ok(event) = timeout_at(deadline, self.events.recv()).await else {
                    attempt = Some("no answer from the application yet".into());
                    break;
                };
                let event = event?;
                self.note(&event);
                if event.webhook_id() == Some(id) && is_end(&event) {
                    attempt = step(&event);
                }
            }
            steps.extend(attempt);
            if let Ok(event) = self.told.try_recv() {
                steps.push(format!("the application unwrapped {}", event.id()));
            }
        }
        Ok(steps.join(" → "))
    }

    /// Records the end of a delivery. Call it for every event, because a retry may end while
    /// another webhook, or a copy of the same, is sent.
    fn note(&mut self, event: &PipelineEvent) {
        let (webhook_id, is_delivered) = match event {
            PipelineEvent::AttemptEnded {
                webhook_id, next, ..
            } if !matches!(next, Next::Retry { .. }) => (webhook_id, *next == Next::Delivered),
            PipelineEvent::Expired { webhook_id, .. } => (webhook_id, false),
            _ => return,
        };
        self.ended.insert(webhook_id.clone(), is_delivered);
    }

    fn delivered(&self) -> usize {
        let delivered = |id: &&String| self.ended.get(*id) == Some(&true);
        self.sent.iter().filter(delivered).count()
    }

    fn waiting(&self) -> usize {
        let ended = |id: &&String| !self.ended.contains_key(*id);
        self.sent.iter().filter(ended).count()
    }

    /// Waits for retries: the application may have been busy, or just starting.
    async fn wait_for_late(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LATE_WAIT_MAX;
        let waiting = self.waiting();
        if waiting > 0 {
            outln!(
                "\n{waiting} not delivered yet; they are stored and will be retried. Waiting for up to 20 s:"
            )?;
        }
        while self.waiting() > 0 {
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Ok(event)) => {
                    self.note(&event);
                    print(&event)?;
                }
                Ok(Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Prints each step, without end.
    pub(super) async fn stay(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => print(&event)?,
                    Err(RecvError::Lagged(missed)) => {
                        outln!("  … and {missed} more steps, too fast to print")?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                Some(event) = self.told.recv() => {
                    let event = format!("{} {}", event.kind(), event.id());
                    outln!("  the application unwrapped {}", plain(&event))?;
                }
            }
        }
    }
}

/// Whether the event ends an attempt.
fn is_end(event: &PipelineEvent) -> bool {
    matches!(
        event,
        PipelineEvent::AttemptEnded { .. } | PipelineEvent::Expired { .. }
    )
}

/// Whether the event is the refusal of another request than that of the demo, which was answered
/// with `status`: a browser requests `/favicon.ico`, for instance.
fn is_stray(event: &PipelineEvent, status: u16) -> bool {
    match event {
        PipelineEvent::Refused {
            endpoint,
            status: refused,
            ..
        } => endpoint.as_deref() != Some(ENDPOINT) || *refused != status,
        _ => false,
    }
}

/// Prints a line about the event, if it is a step.
fn print(event: &PipelineEvent) -> anyhow::Result<()> {
    let Some(step) = step(event) else {
        return Ok(());
    };
    match event.webhook_id() {
        Some(id) => outln!("  {} {}", plain(id), plain(&step))?,
        None => outln!("  {}", plain(&step))?,
    }
    Ok(())
}

/// The event in words; `None` for one that the demo does not show.
fn step(event: &PipelineEvent) -> Option<String> {
    Some(match event {
        PipelineEvent::Received { bytes, .. } => format!("received {bytes} B"),
        PipelineEvent::Refused { reason, .. } => format!("refused: {reason}"),
        PipelineEvent::Verified { .. } => "verified".into(),
        PipelineEvent::Accepted { accepted, .. } => match accepted {
            Accepted::New => "stored".into(),
            Accepted::Duplicate => "a duplicate, already stored: not delivered again".into(),
        },
        PipelineEvent::AttemptEnded {
            answer,
            next: Next::Delivered,
            ..
        } => format!("delivered, {answer}"),
        PipelineEvent::AttemptEnded {
            answer,
            next: Next::Retry { .. },
            attempt,
            ..
        } => format!("attempt {attempt} failed ({answer}), will be retried"),
        PipelineEvent::AttemptEnded { answer, .. } => format!("given up: {answer}"),
        PipelineEvent::Expired { .. } => format!("given up: {EXPIRED}"),
        PipelineEvent::CircuitChanged { change, .. } => match change {
            CircuitChange::Opens => "the application is down: its deliveries wait".into(),
            CircuitChange::Closes => "the application is up again".into(),
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use openai_webhooks::{Secret, Webhooks};
    use tracing::Level;

    use super::*;
    use crate::delivery::Lane;
    use crate::pipeline_events::EventBus;

    fn tour(events: &EventBus) -> Tour {
        let webhooks =
            Webhooks::from(&Secret::from_key("a key of thirty-two bytes, at least").unwrap());
        let url = "http://127.0.0.1:1/".parse().unwrap();
        let (_, told) = mpsc::channel(1);
        Tour::new(
            events.subscribe(),
            Sender::new(webhooks, url).unwrap(),
            told,
        )
    }

    fn accepted(id: &str, accepted: Accepted) -> PipelineEvent {
        PipelineEvent::Accepted {
            endpoint: ENDPOINT.into(),
            webhook_id: id.into(),
            event_type: "batch.completed".into(),
            accepted,
            destinations: Vec::new(),
            duration: None,
            trace: None,
        }
    }

    fn attempted(id: &str, next: Next) -> PipelineEvent {
        PipelineEvent::AttemptEnded {
            webhook_id: id.into(),
            event_type: "batch.completed".into(),
            destination: "app".into(),
            lane: Lane::Standard,
            attempt: 1,
            answer: "HTTP 200".into(),
            status: Some(200),
            duration: Duration::ZERO,
            age: Duration::ZERO,
            next,
            retry_in: None,
            repeats: None,
            trace: None,
        }
    }

    fn refused(endpoint: Option<&str>, status: u16) -> PipelineEvent {
        PipelineEvent::Refused {
            endpoint: endpoint.map(str::to_owned),
            status,
            kind: "refused a request",
            code: "test",
            request: None,
            reason: format!("HTTP {status}"),
            remedy: None,
            duration: None,
            repeats: None,
        }
    }

    fn retry() -> Next {
        Next::Retry {
            due_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn an_attempt_reported_before_the_acceptance_counts() {
        let events = EventBus::default();
        let mut tour = tour(&events);
        events.emit(Level::TRACE, || attempted("wh_1", Next::Delivered));
        events.emit(Level::TRACE, || accepted("wh_1", Accepted::New));
        let steps = tour.follow("wh_1", 200).await.unwrap();
        assert_eq!(steps, "stored → answered 200 → delivered, HTTP 200");
        assert_eq!((tour.waiting(), tour.delivered()), (0, 1));
    }

    #[tokio::test]
    async fn a_retry_that_ends_while_a_copy_is_sent_counts() {
        let events = EventBus::default();
        let mut tour = tour(&events);
        events.emit(Level::TRACE, || accepted("wh_1", Accepted::New));
        events.emit(Level::TRACE, || attempted("wh_1", retry()));
        tour.follow("wh_1", 200).await.unwrap();
        assert_eq!((tour.waiting(), tour.delivered()), (1, 0));

        events.emit(Level::TRACE, || attempted("wh_1", Next::Delivered));
        events.emit(Level::TRACE, || accepted("wh_1", Accepted::Duplicate));
        tour.follow("wh_1", 200).await.unwrap();
        assert_eq!((tour.waiting(), tour.delivered()), (0, 1));
    }

    #[tokio::test]
    async fn a_request_of_a_browser_ends_no_step_of_the_demo() {
        let events = EventBus::default();
        let mut tour = tour(&events);
        let strays = [
            refused(None, 404),
            refused(None, 405),
            refused(Some("other"), 401),
            refused(Some(ENDPOINT), 400),
        ];
        for stray in strays.clone() {
            events.emit(Level::TRACE, || stray);
        }
        events.emit(Level::TRACE, || accepted("wh_1", Accepted::New));
        events.emit(Level::TRACE, || attempted("wh_1", Next::Delivered));
        let steps = tour.follow("wh_1", 200).await.unwrap();
        assert_eq!(steps, "stored → answered 200 → delivered, HTTP 200");

        for stray in strays {
            events.emit(Level::TRACE, || stray);
        }
        events.emit(Level::TRACE, || refused(Some(ENDPOINT), 401));
        let steps = tour.follow("wh_2", 401).await.unwrap();
        assert_eq!(steps, "refused: HTTP 401 → answered 401");
    }
}
