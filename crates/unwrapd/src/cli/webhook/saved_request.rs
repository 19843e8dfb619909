//! A saved request, in the forms in which people save one.

mod json;
mod lines;

use std::borrow::Cow;
use std::fmt;

use openai_webhooks::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};

use crate::diagnosis::utf_16;

/// A saved request.
#[cfg_attr(test, derive(Debug))]
pub(super) struct SavedRequest {
    pub(super) form: Form,
    pub(super) headers: Vec<(String, String)>,
    /// `None`: it is elsewhere.
    pub(super) body: Option<Vec<u8>>,
    /// Time of its arrival, in Unix seconds, if it is saved.
    pub(super) arrived_at: Option<i64>,
    /// A remark about the reading, for people.
    pub(super) note: Option<&'static str>,
}

/// The form in which a request is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Http,
    CurlVerbose,
    Json,
}

impl Form {
    /// Its stable name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::CurlVerbose => "curl_verbose",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "an HTTP request",
            Self::CurlVerbose => "the output of `curl -v`",
            Self::Json => "JSON with headers",
        })
    }
}

const NOT_A_REQUEST: &str = "this is not a saved request: it must have lines `name: value`, an \
    empty line, and the body; or be JSON with headers and body, or the output of `curl -v`";

impl SavedRequest {
    /// Reads a request from the content of a file. The error says what the file is, and what to do.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (bytes, note) = without_encoding(bytes);
        let bytes = without_empty_lines(&bytes);
        if bytes.is_empty() {
            return Err("this is empty".into());
        }
        let text = std::str::from_utf8(bytes).ok();
        let request = match text.filter(|text| text.starts_with(['{', '['])) {
            Some(text) => json::read(text)?,
            None => lines::read(bytes).ok_or(NOT_A_REQUEST)?,
        };
        Ok(Self {
            note: note.or(request.note),
            ..request
        })
    }

    pub(super) fn new(form: Form, headers: Vec<(String, String)>, body: Option<Vec<u8>>) -> Self {
        Self {
            form,
            headers,
            body: body.filter(|body| !body.is_empty()),
            arrived_at: None,
            note: None,
        }
    }

    /// The value of a header.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(header, _)| header.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }
}

fn has_signed(headers: &[(String, String)]) -> bool {
    let is_signed = |name: &str| {
        [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE]
            .iter()
            .any(|signed| signed.eq_ignore_ascii_case(name))
    };
    headers.iter().any(|(name, _)| is_signed(name))
}

/// The content as UTF-8 without a byte order mark, and a note if that changes it.
fn without_encoding(bytes: &[u8]) -> (Cow<'_, [u8]>, Option<&'static str>) {
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    if let Some(rest) = bytes.strip_prefix(MARK) {
        return (
            rest.into(),
            Some("A byte order mark before it is left out."),
        );
    }
    match utf_16(bytes) {
        Some(text) => (
            text.into_bytes().into(),
            Some("It is saved as UTF-16. The program that did so may have changed the body too."),
        ),
        None => (bytes.into(), None),
    }
}

fn without_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
        && bytes[..end].trim_ascii().is_empty()
    {
        bytes = &bytes[end + 1..];
    }
    if bytes.trim_ascii().is_empty() {
        return b"";
    }
    bytes
}

#[cfg(test)]
mod tests;
