//! The tour: one event of each type all the way, a duplicate, a forgery; then whatever comes.

use std::collections::HashSet;
use std::time::Duration;

use openai_webhooks::{EventType, UnwrapWebhookEvent};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::say;
use super::super::text::plain;
use super::super::trigger::{Request, Sender};
use crate::delivery::Next;
use crate::feed::Happening;
use crate::gateway::Gateway;
use crate::store::Accepted;

/// Longest wait for a first attempt; a slow application gets the rest of the tour meanwhile.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the tour waits at its end for an application that did not take everything at once.
const LATE_WAIT_MAX: Duration = Duration::from_secs(20);

pub(super) struct Tour {
    feed: broadcast::Receiver<Happening>,
    sender: Sender,
    /// What the built-in application unwraps.
    told: mpsc::Receiver<UnwrapWebhookEvent>,
    /// Ids of what is still to be delivered.
    waiting: HashSet<String>,
    delivered: usize,
}

impl Tour {
    pub(super) fn new(
        gateway: &Gateway,
        sender: Sender,
        told: mpsc::Receiver<UnwrapWebhookEvent>,
    ) -> Self {
        Self {
            feed: gateway.feed().listen(),
            sender,
            told,
            waiting: HashSet::new(),
            delivered: 0,
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
            say!("\nThe first one again, as OpenAI may send it twice:")?;
            say!("  {}", self.send(&original).await?)?;

            say!("\nA forged one, with one letter of the body changed on its way:")?;
            let mut forged = original;
            forged.payload = forged.payload.replacen("evt_", "ev7_", 1);
            say!("  {}", self.send(&forged).await?)?;
        }
        self.wait_for_late().await?;
        let all = EventType::ALL.len();
        say!("\n{} of {all} event types delivered", self.delivered)?;
        Ok(self.delivered == all)
    }

    /// Sends a request and follows it to its first attempt, if that comes soon. Gives the steps it took.
    async fn send(&mut self, request: &Request) -> anyhow::Result<String> {
        let status = self
            .sender
            .send(request)
            .await
            .map_err(anyhow::Error::msg)?;
        let mut steps = Vec::new();
        // The answer comes after these, so they are told already.
        let accepted = loop {
            let happening = self.feed.recv().await?;
            if self.is_of_another(&happening, &request.headers.id)
                || matches!(happening, Happening::Attempted { .. })
            {
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
            self.waiting.insert(request.headers.id.clone());
            let attempt = self.first_attempt(&request.headers.id);
            match timeout(ATTEMPT_WAIT_MAX, attempt).await {
                Ok(attempt) => steps.push(attempt?),
                Err(_) => steps.push("no answer from the application yet".into()),
            }
            if let Ok(event) = self.told.try_recv() {
                steps.push(format!("the application unwrapped {}", event.id()));
            }
        }
        Ok(steps.join(" → "))
    }

    async fn first_attempt(&mut self, id: &str) -> anyhow::Result<String> {
        loop {
            let happening = self.feed.recv().await?;
            if self.is_of_another(&happening, id) {
                continue;
            }
            self.note(&happening);
            return Ok(tell(&happening));
        }
    }

    /// Whether it is about another webhook: then what matters of it is noted.
    fn is_of_another(&mut self, happening: &Happening, id: &str) -> bool {
        let is_of_another = webhook_id(happening).is_some_and(|other| other != id);
        if is_of_another {
            self.note(happening);
        }
        is_of_another
    }

    fn note(&mut self, happening: &Happening) {
        if let Happening::Attempted {
            webhook_id, next, ..
        } = happening
            && !matches!(next, Next::Retry { .. })
            && self.waiting.remove(webhook_id)
            && *next == Next::Delivered
        {
            self.delivered += 1;
        }
    }

    /// An application that was busy or is just starting may take the rest a little later.
    async fn wait_for_late(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LATE_WAIT_MAX;
        if !self.waiting.is_empty() {
            say!(
                "\n{} not delivered yet; they are kept and tried again. Waiting a little:",
                self.waiting.len()
            )?;
        }
        while !self.waiting.is_empty() {
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

    /// Tells what happens, for ever.
    pub(super) async fn stay(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                happening = self.feed.recv() => match happening {
                    Ok(happening) => match webhook_id(&happening) {
                        Some(id) => say!("  {} {}", plain(id), plain(&tell(&happening)))?,
                        None => say!("  {}", plain(&tell(&happening)))?,
                    },
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        say!("  … and {missed} more steps, too fast to tell")?;
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
        } => "a duplicate, already stored: swallowed".into(),
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
        } => format!("attempt {attempt} failed ({answer}), kept for another"),
        Happening::Attempted { answer, .. } => format!("given up: {answer}"),
    }
}
