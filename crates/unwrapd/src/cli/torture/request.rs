//! The requests of a check, and the answers to them.

use std::time::Duration;

use openai_webhooks::Envelope;
use serde::Serialize;

/// One step of a check.
pub(super) enum Step {
    Send(Request),
    /// At the same time.
    Together(Vec<Request>),
    /// Sends the request completely, and closes the connection without reading the answer.
    Abandon(Request, Close),
}

/// When a connection is closed, after the request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    AtOnce,
    /// After half the time of a usual answer, in the midst of the work.
    HalfWay,
    /// When the answer arrives, so that the work is done.
    AtTheAnswer,
}

/// A request as it is sent, forged or not.
#[derive(Clone)]
pub(super) struct Request {
    /// Its peculiarity, for the report.
    pub(super) label: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    pub(super) subject: Subject,
    pub(super) wish: Wish,
    /// Number of times that the event must be processed; `None` if the application decides.
    pub(super) effects: Option<u64>,
}

/// The answer that a request is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Accepted,
    /// A refusal is only a warning.
    RatherAccepted,
    Refused,
}

/// The ids by which an application may know an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) webhook_id: String,
    pub(super) event_id: String,
    pub(super) resource: String,
}

impl Subject {
    pub(super) fn of(webhook_id: String, body: &str) -> Self {
        let envelope = Envelope::read(body.as_bytes());
        let text = |id: Option<&str>| id.unwrap_or_default().to_owned();
        Self {
            webhook_id,
            event_id: text(envelope.as_ref().and_then(Envelope::event_id)),
            resource: text(envelope.as_ref().and_then(Envelope::resource_id)),
        }
    }
}

/// A request that was sent, and the answer to it.
pub(super) struct Sent {
    pub(super) label: String,
    pub(super) subject: Subject,
    pub(super) wish: Wish,
    pub(super) effects: Option<u64>,
    /// `None` if the connection was closed before an answer, on purpose.
    pub(super) reply: Option<Reply>,
    /// Whether no other request was under way, so that its time counts.
    pub(super) alone: bool,
}

impl Sent {
    pub(super) fn new(request: Request, reply: Option<Reply>, alone: bool) -> Self {
        Self {
            label: request.label,
            subject: request.subject,
            wish: request.wish,
            effects: request.effects,
            reply,
            alone,
        }
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(&self.reply, Some(Ok(answer)) if answer.is_success())
    }

    pub(super) fn is_as_wished(&self) -> bool {
        match self.wish {
            Wish::Accepted | Wish::RatherAccepted => self.is_accepted(),
            Wish::Refused => self
                .status()
                .is_some_and(|status| (400..500).contains(&status)),
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        let answer = self.reply.as_ref()?.as_ref().ok()?;
        Some(answer.status)
    }

    /// The answer in a few words: "500", or the reason why there is none.
    pub(super) fn said(&self) -> String {
        match &self.reply {
            None => "answer not read".into(),
            Some(Ok(answer)) => answer.status.to_string(),
            Some(Err(silence)) => silence.problem().to_owned(),
        }
    }
}

pub(super) type Reply = Result<Answer, Silence>;

/// An answer of the application. Its texts may be hostile.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) took: Duration,
    /// The time of the application's clock, in Unix seconds.
    pub(super) date: Option<i64>,
    pub(super) location: Option<String>,
    /// The beginning of the body, on one line.
    pub(super) body: String,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// No answer.
#[derive(Clone, Debug)]
pub(super) enum Silence {
    /// No connection.
    NotReached(String),
    /// The request was sent, and not answered.
    Unanswered(String),
}

impl Silence {
    pub(super) fn problem(&self) -> &str {
        let (Self::NotReached(problem) | Self::Unanswered(problem)) = self;
        problem
    }
}

/// The answer to one request, for programs.
#[derive(Serialize)]
pub(super) struct SentView<'s> {
    request: &'s str,
    webhook_id: &'s str,
    status: Option<u16>,
    took_ms: Option<u64>,
    error: Option<&'s str>,
    /// Number of times that the event was processed, if that was counted.
    effects: Option<u64>,
}

impl<'s> SentView<'s> {
    pub(super) fn new(sent: &'s Sent, effects: Option<u64>) -> Self {
        let answer = sent.reply.as_ref().and_then(|reply| reply.as_ref().ok());
        let silence = sent.reply.as_ref().and_then(|reply| reply.as_ref().err());
        Self {
            request: &sent.label,
            webhook_id: &sent.subject.webhook_id,
            status: sent.status(),
            took_ms: answer.map(|answer| milliseconds(answer.took)),
            error: silence.map(Silence::problem),
            effects,
        }
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
