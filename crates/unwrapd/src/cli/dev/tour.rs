//! The tour: one event of each type all the way, a duplicate, a forgery; then whatever comes.

use std::collections::HashSet;
use std::time::Duration;

use openai_webhooks::{EventType, UnwrapWebhookEvent};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::say;
use super::super::trigger::{Request, Sender};
use crate::delivery::Next;
use crate::feed::Happening;
use crate::gateway::Gateway;
use crate::store::Accepted;

/// Longest wait for the next step; attempts end by themselves before.
const STEP_SECONDS_MAX: u64 = 30;
/// How long the tour waits at its end for an application that did not take everything at once.
const LATE_SECONDS_MAX: u64 = 20;

pub(super) struct Tour {
    feed: broadcast::Receiver<Happening>,
    sender: Sender,
    /// What the built-in application unwraps.
    told: mpsc::Receiver<UnwrapWebhookEvent>,
    /// Ids of what is still to be delivered.
    waiting: HashSet<String>,
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
        }
    }

    /// Whether everything was delivered.
    pub(super) async fn walk(&mut self) -> anyhow::Result<bool> {
        say!("\nOne signed sample of every event type, over HTTP, as OpenAI would send it:");
        let mut first = None;
        for event_type in EventType::ALL {
            let request = self.sender.sample(*event_type)?;
            let steps = self.send(&request).await?;
            say!("  {event_type:<34} {steps}");
            first.get_or_insert(request);
        }
        if let Some(original) = first {
            say!("\nThe first one again, as OpenAI may send it twice:");
            say!("  {}", self.send(&original).await?);

            say!("\nA forged one, with one letter of the body changed on its way:");
            let mut forged = original;
            forged.payload = forged.payload.replacen("evt_", "ev7_", 1);
            say!("  {}", self.send(&forged).await?);
        }
        self.wait_for_late().await;
        let delivered = EventType::ALL.len() - self.waiting.len();
        say!(
            "\n{delivered} of {} event types delivered",
            EventType::ALL.len()
        );
        Ok(self.waiting.is_empty())
    }

    /// Sends a request and follows it as far as it goes at once.
    async fn send(&mut self, request: &Request) -> anyhow::Result<String> {
        let id = &request.headers.id;
        let (status, steps) = {
            let answer = self.sender.send(request);
            let steps = follow(&mut self.feed, id, &mut self.waiting);
            tokio::join!(
                answer,
                timeout(Duration::from_secs(STEP_SECONDS_MAX), steps)
            )
        };
        let status = status.map_err(anyhow::Error::msg)?;
        let mut steps =
            steps.map_err(|_| anyhow::anyhow!("nothing happened for {STEP_SECONDS_MAX} s"))??;
        steps.insert_answer(status);
        match steps.end {
            End::Delivered => {
                if let Ok(event) = self.told.try_recv() {
                    steps
                        .told
                        .push(format!("the application unwrapped {}", event.id()));
                }
            }
            End::Waiting => {
                self.waiting.insert(id.clone());
            }
            End::Stopped => {}
        }
        Ok(steps.told.join(" → "))
    }

    /// An application that was busy or is just starting may take the rest a little later.
    async fn wait_for_late(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(LATE_SECONDS_MAX);
        if !self.waiting.is_empty() {
            say!(
                "\n{} not delivered yet; they are kept and tried again, for 72 hours. Waiting a little:",
                self.waiting.len()
            );
        }
        while !self.waiting.is_empty() {
            match timeout_at(deadline, self.feed.recv()).await {
                Ok(Ok(happening)) => {
                    if let Some(id) = webhook_id(&happening)
                        && is_delivery(&happening)
                    {
                        self.waiting.remove(id);
                        say!("  {id} {}", tell(&happening));
                    }
                }
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
                _ => return,
            }
        }
    }

    /// Tells what happens until Ctrl-C.
    pub(super) async fn stay(&mut self) -> anyhow::Result<()> {
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                happening = self.feed.recv() => match happening {
                    Ok(happening) => {
                        let id = webhook_id(&happening).unwrap_or_default();
                        say!("  {id} {}", tell(&happening));
                    }
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        say!("  … and {missed} more steps, too fast to tell");
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                Some(event) = self.told.recv() => {
                    say!("  the application unwrapped {} {}", event.kind(), event.id());
                }
                result = &mut interrupted => return Ok(result?),
            }
        }
    }
}

struct Steps {
    told: Vec<String>,
    /// Where in `told` the answer to the sender belongs.
    answer_at: usize,
    end: End,
}

impl Steps {
    /// The answer is sent once the message is stored, and the first attempt may come before or after it arrives.
    fn insert_answer(&mut self, status: u16) {
        self.told
            .insert(self.answer_at, format!("answered {status}"));
    }
}

enum End {
    Delivered,
    Waiting,
    /// There is nothing to deliver.
    Stopped,
}

/// Follows the webhook with this id to its first attempt. Whatever else is delivered meanwhile is no longer waiting.
async fn follow(
    feed: &mut broadcast::Receiver<Happening>,
    id: &str,
    waiting: &mut HashSet<String>,
) -> anyhow::Result<Steps> {
    let mut told = Vec::new();
    let mut answer_at = 0;
    loop {
        let happening = feed.recv().await?;
        if let Some(other) = webhook_id(&happening)
            && other != id
        {
            if is_delivery(&happening) {
                waiting.remove(other);
            }
            continue;
        }
        told.push(tell(&happening));
        let end = match happening {
            Happening::Refused { .. } => Some(End::Stopped),
            Happening::Accepted { accepted, .. } => {
                answer_at = told.len();
                (accepted == Accepted::Duplicate).then_some(End::Stopped)
            }
            Happening::Attempted { next, .. } => Some(match next {
                Next::Delivered => End::Delivered,
                Next::Retry { .. } | Next::Dead => End::Waiting,
            }),
            _ => None,
        };
        if let Some(end) = end {
            return Ok(Steps {
                answer_at: if answer_at == 0 {
                    told.len()
                } else {
                    answer_at
                },
                told,
                end,
            });
        }
    }
}

fn is_delivery(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Attempted {
            next: Next::Delivered,
            ..
        }
    )
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
