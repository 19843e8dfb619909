//! A tolerant parser that reads only the type and the ids of a body.

use std::borrow::Cow;

use super::{Data, EventType};

/// The type, the id and the resource that an authentic body names.
///
/// The typed classes are strict: a body with one invalid field is no event. Routing needs only the
/// envelope, which tolerates `null` instead of text, missing fields, numbers of any size, unpaired
/// surrogates, any depth, a byte order mark and bytes that are not UTF-8. A body may even be
/// truncated, or not JSON, after its type.
///
/// The last of duplicate fields counts, as in `JSON.parse` of JavaScript and `json.loads` of
/// Python, which the official SDKs use. A value that is not text counts as missing. An unpaired
/// surrogate, and a byte that is not UTF-8, reads as U+FFFD.
///
/// ```
/// use openai_webhooks::{Envelope, EventType};
///
/// let body = br#"{"type": "realtime.call.incoming", "data": {"call_id": "rtc_1", "sip_headers": null}}"#;
/// let envelope = Envelope::read(body).expect("a type");
/// assert_eq!(envelope.event_type(), Some(EventType::RealtimeCallIncoming));
/// assert_eq!(envelope.resource_id(), Some("rtc_1"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'r> {
    kind: Cow<'r, str>,
    event_id: Option<Cow<'r, str>>,
    resource_id: Option<Cow<'r, str>>,
}

impl<'r> Envelope<'r> {
    /// Parses a body that is known to be authentic, such as a body that was verified before it was
    /// stored. For a request, use [`Verified::envelope`](crate::Verified::envelope). `None` if the
    /// body has no type.
    ///
    /// Makes one pass over the body, without recursion. Allocates only for text with escapes.
    #[must_use]
    pub fn read(payload: &'r [u8]) -> Option<Self> {
        let mut scanner = Scanner { rest: payload };
        scanner.eat_all(b"\xEF\xBB\xBF");
        scanner.skip_blanks();
        let mut kind = None;
        let mut event_id = None;
        let mut ids = Ids::default();
        scanner.object(|scanner, key| {
            if key.is("type") {
                kind = scanner.text();
            } else if key.is("id") {
                event_id = scanner.text();
            } else if key.is("data") {
                ids = Ids::read(scanner);
            } else {
                scanner.skip_value();
            }
        });
        let kind = kind?.decode();
        let event_type = kind.parse().ok();
        let resource_id = ids.of(event_type).map(Text::decode);
        Some(Self {
            kind,
            event_id: event_id.map(Text::decode),
            resource_id,
        })
    }

    /// The type as the body spells it, known or not.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The type; `None` if this version does not know it.
    #[must_use]
    pub fn event_type(&self) -> Option<EventType> {
        self.kind.parse().ok()
    }

    /// The id of the event. It is not the `webhook-id`.
    #[must_use]
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    /// The id of the resource that the event is about: `data.call_id` of a `realtime` call,
    /// `data.session_id` of a `live` event, `data.safety_identifier` of
    /// `safety_identifier.blocked`, and `data.id` of every other known type. For an unknown type,
    /// the first of `data.id` and these fields that the body has.
    #[must_use]
    pub fn resource_id(&self) -> Option<&str> {
        self.resource_id.as_deref()
    }
}

/// The fields of `data` that may name the resource. The type selects one of them, and may come
/// after `data`.
#[derive(Clone, Copy, Default)]
struct Ids<'t> {
    id: Option<Text<'t>>,
    call_id: Option<Text<'t>>,
    session_id: Option<Text<'t>>,
    safety_identifier: Option<Text<'t>>,
}

impl<'t> Ids<'t> {
    fn read(scanner: &mut Scanner<'t>) -> Self {
        let mut ids = Self::default();
        if scanner.rest.first() != Some(&b'{') {
            scanner.skip_value();
            return ids;
        }
        scanner.object(|scanner, key| {
            let names = ["id", "call_id", "session_id", "safety_identifier"];
            match names.into_iter().find(|name| key.is(name)) {
                Some(name) => *ids.named(name) = scanner.text(),
                None => scanner.skip_value(),
            }
        });
        ids
    }

    fn named(&mut self, name: &str) -> &mut Option<Text<'t>> {
        match name {
            "call_id" => &mut self.call_id,
            "session_id" => &mut self.session_id,
            "safety_identifier" => &mut self.safety_identifier,
            _ => &mut self.id,
        }
    }

    fn of(&mut self, event_type: Option<EventType>) -> Option<Text<'t>> {
        match event_type {
            Some(event_type) => *self.named(Data::resource(event_type)),
            None => self
                .id
                .or(self.call_id)
                .or(self.session_id)
                .or(self.safety_identifier),
        }
    }
}

/// A JSON string of the body, without its quotation marks.
#[derive(Clone, Copy)]
struct Text<'t> {
    raw: &'t [u8],
    has_escapes: bool,
}

impl<'t> Text<'t> {
    fn is(self, text: &str) -> bool {
        if self.has_escapes {
            self.decode() == text
        } else {
            self.raw == text.as_bytes()
        }
    }

    fn decode(self) -> Cow<'t, str> {
        if self.has_escapes {
            let unescaped = unescape(self.raw);
            Cow::Owned(String::from_utf8_lossy(&unescaped).into_owned())
        } else {
            String::from_utf8_lossy(self.raw)
        }
    }
}

/// Scans the body once. Invalid JSON ends the enclosing object; the fields before it still count.
struct Scanner<'t> {
    rest: &'t [u8],
}

impl<'t> Scanner<'t> {
    /// Calls `each` for every field, with the scanner before the value; `each` must consume the
    /// value.
    fn object(&mut self, mut each: impl FnMut(&mut Self, Text<'t>)) {
        if !self.eat(b'{') {
            return;
        }
        loop {
            self.skip_blanks();
            match self.rest.first() {
                Some(b',') => self.pass(1),
                Some(b'"') => {
                    let Some(key) = self.string() else { return };
                    self.skip_blanks();
                    if !self.eat(b':') {
                        return;
                    }
                    self.skip_blanks();
                    each(self, key);
                }
                _ => break,
            }
        }
        self.eat(b'}');
    }

    /// The value, if it is a string. Consumes any value.
    fn text(&mut self) -> Option<Text<'t>> {
        if self.rest.first() == Some(&b'"') {
            return self.string();
        }
        self.skip_value();
        None
    }

    /// Consumes a value of any depth. Counts open brackets instead of recursing, so the stack
    /// cannot overflow.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        loop {
            let is_end = |&byte: &u8| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']' | b',');
            let next = self.rest.iter().position(is_end);
            self.pass(next.unwrap_or(self.rest.len()));
            match self.rest.first() {
                Some(b'"') => {
                    self.string();
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.pass(1);
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.pass(1);
                }
                Some(b',') if depth > 0 => {
                    self.pass(1);
                    continue;
                }
                _ => return,
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A string, up to its closing quotation mark; `None` if the body ends before that.
    fn string(&mut self) -> Option<Text<'t>> {
        let text = self.rest.strip_prefix(b"\"")?;
        let mut end = 0;
        let mut has_escapes = false;
        loop {
            let is_mark = |&byte: &u8| byte == b'"' || byte == b'\\';
            let Some(at) = text.get(end..)?.iter().position(is_mark) else {
                self.rest = &[];
                return None;
            };
            end += at;
            if text[end] == b'"' {
                self.rest = &text[end + 1..];
                let raw = &text[..end];
                return Some(Text { raw, has_escapes });
            }
            has_escapes = true;
            end += 2;
            if end > text.len() {
                self.rest = &[];
                return None;
            }
        }
    }

    fn skip_blanks(&mut self) {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let length = self.rest.iter().take_while(|byte| is_blank(byte)).count();
        self.pass(length);
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.eat_all(&[byte])
    }

    fn eat_all(&mut self, bytes: &[u8]) -> bool {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn pass(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }
}

/// Decodes escapes. For an invalid escape, keeps the character after the backslash.
fn unescape(mut raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    while let Some(at) = raw.iter().position(|&byte| byte == b'\\') {
        text.extend_from_slice(&raw[..at]);
        raw = &raw[at..];
        if let Some((letter, rest)) = unicode_escape(raw) {
            text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            raw = rest;
            continue;
        }
        let Some(&letter) = raw.get(1) else { break };
        text.push(match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            other => other,
        });
        raw = &raw[2..];
    }
    text.extend_from_slice(raw);
    text
}

/// Decodes a `\uXXXX`, or a surrogate pair of them, at the start. Returns the character and the
/// rest of the text. An unpaired surrogate gives U+FFFD.
fn unicode_escape(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = code_unit(text)?;
    if (0xD800..0xDC00).contains(&first)
        && let Some((second, rest)) = code_unit(rest)
        && let Some(Ok(letter)) = char::decode_utf16([first, second]).next()
    {
        return Some((letter, rest));
    }
    let letter = char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((letter, rest))
}

fn code_unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"\\u")?.split_at_checked(4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

/// Replaces each escape of an unpaired surrogate by that of U+FFFD, which has the same length.
/// `None` if there is none.
#[cold]
pub(super) fn with_whole_letters(text: &str) -> Option<String> {
    const REPLACEMENT: &[u8] = b"\\ufffd";
    let mut bytes = text.as_bytes();
    let mut whole: Vec<u8> = Vec::new();
    let mut is_changed = false;
    while let Some(at) = bytes.iter().position(|&byte| byte == b'\\') {
        whole.extend_from_slice(&bytes[..at]);
        bytes = &bytes[at..];
        let is_half = code_unit(bytes).is_some_and(|(unit, _)| (0xD800..0xE000).contains(&unit));
        let length = match unicode_escape(bytes) {
            Some((char::REPLACEMENT_CHARACTER, _)) if is_half => {
                whole.extend_from_slice(REPLACEMENT);
                bytes = &bytes[REPLACEMENT.len()..];
                is_changed = true;
                continue;
            }
            Some((_, rest)) => bytes.len() - rest.len(),
            None => bytes.len().min(2),
        };
        whole.extend_from_slice(&bytes[..length]);
        bytes = &bytes[length..];
    }
    if !is_changed {
        return None;
    }
    whole.extend_from_slice(bytes);
    String::from_utf8(whole).ok()
}
