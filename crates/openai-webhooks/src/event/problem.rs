//! Problems of an authentic body, with the field at fault.

use std::fmt;

use serde::de::IgnoredAny;

use super::envelope::{Envelope, with_whole_letters};
use super::shape::{Field, Fields, Shape, kind_of};
use super::{Data, EventType, UnwrapWebhookEvent};

/// An authentic body that this version cannot read as an event.
///
/// The caller still has the body: store it under [`webhook_id`](Self::webhook_id) and answer 200.
/// Otherwise OpenAI [retries for up to 72
/// hours](https://developers.openai.com/api/docs/guides/webhooks).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is authentic but not an event: {problem}")]
pub struct PayloadError {
    webhook_id: String,
    kind: Option<String>,
    problem: PayloadProblem,
}

impl PayloadError {
    #[cold]
    pub(crate) fn new(webhook_id: &str, payload: &[u8], problem: PayloadProblem) -> Self {
        Self {
            webhook_id: webhook_id.to_owned(),
            kind: Envelope::read(payload).map(|envelope| envelope.kind().to_owned()),
            problem,
        }
    }

    /// The `webhook-id`, as authentic as the body.
    #[must_use]
    pub fn webhook_id(&self) -> &str {
        &self.webhook_id
    }

    /// The type of the event, known or not, if it is readable; see [`Envelope`]. This error holds
    /// no other part of the body. No message shows the type, and `Debug` shows only a known one.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The problem of the body.
    #[must_use]
    pub fn problem(&self) -> &PayloadProblem {
        &self.problem
    }

    /// The path of the field at fault, such as `data.sip_headers[1].value`; `None` if the whole
    /// body is at fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.problem.field()
    }
}

impl fmt::Debug for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |kind: &str| {
            kind.parse::<EventType>()
                .map_or("[unknown]", EventType::as_str)
        };
        f.debug_struct("PayloadError")
            .field("webhook_id", &self.webhook_id)
            .field("kind", &self.kind().map(known))
            .field("problem", &self.problem)
            .finish()
    }
}

/// Reason why a body is not an event. No variant quotes the body: the path of a field consists of
/// names that this library knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadProblem {
    /// The body has no bytes, or only blanks.
    #[error("it is empty")]
    Empty,
    /// The body begins with a byte order mark.
    #[error("it begins with a byte order mark, which JSON does not allow: send UTF-8 without one")]
    ByteOrderMark,
    /// The body is not UTF-8.
    #[error("it is not UTF-8, from byte {at}")]
    NotUtf8 {
        /// Position of the first byte that is not UTF-8, from 1.
        at: usize,
    },
    /// The body is not JSON.
    #[error("it is not JSON, from line {line}, column {column}")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The byte in the line, from 1.
        column: usize,
    },
    /// The body ends before its JSON does.
    #[error("it is truncated: its JSON is incomplete after {bytes} bytes")]
    CutShort {
        /// Length of the body, in bytes.
        bytes: usize,
    },
    /// The body is JSON, but not an object.
    #[error("it is not a JSON object but {found}")]
    NotAnObject {
        /// The kind of the value.
        found: &'static str,
    },
    /// A field is missing.
    #[error("the field `{field}` is missing")]
    MissingField {
        /// Path of the field.
        field: String,
    },
    /// A field is duplicated. Two parsers may use different values.
    #[error("the field `{field}` is duplicated")]
    DuplicateField {
        /// Path of the field.
        field: String,
    },
    /// A field is of the wrong kind.
    #[error("the field `{field}` must be {expected} and is {found}")]
    WrongField {
        /// Path of the field.
        field: String,
        /// The expected kind of value.
        expected: &'static str,
        /// The kind of the value in the body.
        found: &'static str,
    },
}

impl PayloadProblem {
    /// Finds a problem in a body that is known to be authentic, such as a body that was verified
    /// before it was stored. `None` if the body is an event.
    #[must_use]
    pub fn find(payload: &[u8]) -> Option<Self> {
        UnwrapWebhookEvent::read(payload).err()
    }

    /// The path of the field at fault, such as `data.sip_headers[1].value`; `None` if the whole
    /// body is at fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::MissingField { field }
            | Self::DuplicateField { field }
            | Self::WrongField { field, .. } => Some(field),
            _ => None,
        }
    }

    /// Finds the problem of a text that serde refused. The message of serde would quote the body.
    #[cold]
    pub(super) fn of(text: &str) -> Self {
        if text.trim_ascii().is_empty() {
            return Self::Empty;
        }
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(text.as_bytes()) {
            return Self::not_json(text, &error);
        }
        let whole = with_whole_letters(text);
        let text = whole.as_deref().unwrap_or(text).trim_ascii_start();
        in_event(text).unwrap_or(Self::WrongField {
            field: "data".to_owned(),
            expected: "a value of the kind that events of this type have",
            found: "something else",
        })
    }

    fn not_json(text: &str, error: &serde_json::Error) -> Self {
        if error.is_eof() {
            return Self::CutShort { bytes: text.len() };
        }
        // `serde_json` gives the position of the byte at fault, except for a control character in a
        // text.
        let is_before_fault = error.to_string().starts_with("control character");
        match (error.line(), error.column()) {
            // The byte at fault is a line end, after which `serde_json` counts the next line.
            (line @ 2.., 0) if !is_before_fault => Self::NotJson {
                line: line - 1,
                column: text.split('\n').nth(line - 2).map_or(1, |it| it.len() + 1),
            },
            (line, column) => Self::NotJson {
                line,
                column: column + usize::from(is_before_fault),
            },
        }
    }
}

const TYPE: Field = Field::text("type");
const ID: Field = Field::text("id");
/// Fields that an event of any type must have.
const UNKNOWN: &[Field] = &[TYPE, ID];
/// Fields that an event of a known type must have.
const KNOWN: &[Field] = &[
    TYPE,
    ID,
    Field::new("created_at", Shape::Seconds),
    Field::new("data", Shape::Any),
];

fn in_event(text: &str) -> Option<PayloadProblem> {
    let Some(head) = Fields::read(KNOWN, text) else {
        let found = kind_of(text);
        return Some(PayloadProblem::NotAnObject { found });
    };
    let event_type: Option<EventType> = head
        .text(KNOWN, "type")
        .and_then(|event_type| event_type.parse().ok());
    let Some(event_type) = event_type else {
        return Shape::Object(UNKNOWN).problem(text, "");
    };
    let in_head = Shape::Object(KNOWN).problem(text, "");
    in_head.or_else(|| Data::shape(event_type).problem(head.raw(KNOWN, "data")?, "data"))
}
