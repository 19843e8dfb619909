//! The demo: one event of each type, a duplicate, a forgery; then every further webhook.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use openai_webhooks::{EventType, UnwrapWebhookEvent};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, timeout_at};

use super::super::say;
use super::super::text::plain;
use super::super::trigger::{Request, Sender};
use crate::delivery::Next;
use crate::feed::Happening;
use crate::store::Accepted;

/// Longest wait for a first attempt. After that the demo goes on with the next event.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Longest wait at the end for retries.
const LATE_WAIT_MAX: Duration = Duration::from_secs(20);

pub(super) struct Tour {
    feed: broadcast::Receiver<Happening>,
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
        feed: broadcast::Receiver<Happening>,
        sender: Sender,
        told: mpsc::Receiver<UnwrapWebhookEvent>,
    ) -> Self {
        Self {
            feed,
            sender,
            told,
            sent: HashSet::new(),
            ended: HashMap::new(),
        }
    }

    /// Whether everything was delivered.
    pub(super) async fn walk(&mut self) -> anyhow::Result<bool> {
        say!("\nOne signed sample of every event type, over HTTP, as OpenAI would send it:")?;
        let mut first = None;
        for event_type in EventType::ALL {
            let request = self.sender.sample(*event_type)?;
            let steps = self.send(&request).await?;
            say!("  {event_type:<34} {steps}")?;
            first.get_or_insert(request);
        }
        if let Some(original) = first {
            say!("\nThe first one again, since OpenAI may send a webhook twice:")?;
            say!("  {}", self.send(&original).await?)?;

            say!("\nA forgery, with one letter of the body changed:")?;
            let mut forged = original;
            forged.payload = forged.payload.replacen("evt_", "ev7_", 1);
            say!("  {}", self.send(&forged).await?)?;
        }
        self.wait_for_late().await?;
        let all = EventType::ALL.len();
        let delivered = self.delivered();
        say!("\n{delivered} of {all} event types delivered")?;
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
        // An attempt may be told of before the acceptance: the delivery starts as soon as the store has committed.
        let mut attempt = None;
        // The answer comes after these, so they are told already.
        let accepted = loop {
            let happening = self.feed.recv().await?;
            self.note(&happening);
            if webhook_id(&happening).is_some_and(|other| other != id) {
                continue;
            }
            if matches!(happening, Happening::Attempted { .. }) {
                attempt = attempt.or_else(|| Some(tell(&happening)));
                continue;
            }
            steps.push(tell(&happening));
            match happening {
                Happening::Refused { .. } => break None,
                Happening::Accepted { accepted, .. } => break Some(accepted),
                _ => {}
            }
        };
        steps.push(format!("answered {status}"));
        if accepted == Some(Accepted::New) {
            self.sent.insert(id.to_owned());
            let deadline = Instant::now() + ATTEMPT_WAIT_MAX;
            while attempt.is_none() {
                let Ok(happening) = timeout_at(deadline, self.feed.recv()).await else {
                    attempt = Some("no answer from the application yet".into());
                    break;
                };
                let happening = happening?;
                self.note(&happening);
                if webhook_id(&happening) == Some(id) {
                    attempt = Some(tell(&happening));
                }
            }
            steps.extend(attempt);
            if let Ok(event) = self.told.try_recv() {
                steps.push(format!("the application unwrapped {}", event.id()));
            }
        }
        Ok(steps.join(" → "))
    }

    /// Every step must pass through here: a retry may end while another webhook, or a copy of the same, is sent.
    fn note(&mut self, happening: &Happening) {
        if let Happening::Attempted {
            webhook_id, next, ..
        } = happening
            && !matches!(next, Next::Retry { .. })
        {
            self.ended
                .insert(webhook_id.clone(), *next == Next::Delivered);
        }
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
            say!(
                "\n{waiting} not delivered yet; they are stored and will be retried. Waiting for up to 20 s:"
            )?;
        }
        while self.waiting() > 0 {
            match timeout_at(deadline, self.feed.recv()).await {
                Ok(Ok(happening)) => {
                    self.note(&happening);
                    if let Some(id) = webhook_id(&happening) {
                        say!("  {} {}", plain(id), plain(&tell(&happening)))?;
                    }
                }
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Prints each step, without end.
    pub(super) async fn stay(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                happening = self.feed.recv() => match happening {
                    Ok(happening) => match webhook_id(&happening) {
                        Some(id) => say!("  {} {}", plain(id), plain(&tell(&happening)))?,
                        None => say!("  {}", plain(&tell(&happening)))?,
                    },
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        say!("  … and {missed} more steps, too fast to print")?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                Some(event) = self.told.recv() => {
                    let event = format!("{} {}", event.kind(), event.id());
                    say!("  the application unwrapped {}", plain(&event))?;
                }
            }
        }
    }
}

fn webhook_id(happening: &Happening) -> Option<&str> {
    match happening {
        Happening::Received { .. } | Happening::Refused { .. } => None,
        Happening::Verified { webhook_id, .. }
        | Happening::Accepted { webhook_id, .. }
        | Happening::Attempted { webhook_id, .. } => Some(webhook_id),
    }
}

fn tell(happening: &Happening) -> String {
    match happening {
        Happening::Received { bytes, .. } => format!("received {bytes} B"),
        Happening::Refused { error, .. } => format!("refused: {error}"),
        Happening::Verified { .. } => "verified".into(),
        Happening::Accepted {
            accepted: Accepted::New,
            ..
        } => "stored".into(),
        Happening::Accepted {
            accepted: Accepted::Duplicate,
            ..
        } => "a duplicate, already stored: not delivered again".into(),
        Happening::Attempted {
            answer,
            next: Next::Delivered,
            ..
        } => format!("delivered, {answer}"),
        Happening::Attempted {
            answer,
            next: Next::Retry { .. },
            attempt,
            ..
        } => format!("attempt {attempt} failed ({answer}), will be retried"),
        Happening::Attempted { answer, .. } => format!("given up: {answer}"),
    }
}

#[cfg(test)]
mod tests {
    use openai_webhooks::{Secret, Webhooks};

    use super::*;
    use crate::feed::Feed;

    fn tour(feed: &Feed) -> Tour {
        let webhooks =
            Webhooks::from(&Secret::from_key("a key of thirty-two bytes, at least").unwrap());
        let url = "http://127.0.0.1:1/".parse().unwrap();
        let (_, told) = mpsc::channel(1);
        Tour::new(feed.listen(), Sender::new(webhooks, url).unwrap(), told)
    }

    fn accepted(id: &str, accepted: Accepted) -> Happening {
        Happening::Accepted {
            webhook_id: id.into(),
            accepted,
            destinations: Vec::new(),
        }
    }

    fn attempted(id: &str, next: Next) -> Happening {
        Happening::Attempted {
            webhook_id: id.into(),
            destination: "app".into(),
            attempt: 1,
            answer: "HTTP 200".into(),
            next,
        }
    }

    fn retry() -> Next {
        Next::Retry {
            due_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn an_attempt_that_is_told_before_the_acceptance_counts() {
        let feed = Feed::default();
        let mut tour = tour(&feed);
        feed.tell(|| attempted("wh_1", Next::Delivered));
        feed.tell(|| accepted("wh_1", Accepted::New));
        let steps = tour.follow("wh_1", 200).await.unwrap();
        assert_eq!(steps, "stored → answered 200 → delivered, HTTP 200");
        assert_eq!((tour.waiting(), tour.delivered()), (0, 1));
    }

    #[tokio::test]
    async fn a_retry_that_ends_while_a_copy_is_sent_counts() {
        let feed = Feed::default();
        let mut tour = tour(&feed);
        feed.tell(|| accepted("wh_1", Accepted::New));
        feed.tell(|| attempted("wh_1", retry()));
        tour.follow("wh_1", 200).await.unwrap();
        assert_eq!((tour.waiting(), tour.delivered()), (1, 0));

        feed.tell(|| attempted("wh_1", Next::Delivered));
        feed.tell(|| accepted("wh_1", Accepted::Duplicate));
        tour.follow("wh_1", 200).await.unwrap();
        assert_eq!((tour.waiting(), tour.delivered()), (0, 1));
    }
}
