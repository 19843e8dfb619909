//! The three signed headers, read once from whatever a framework keeps headers in.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::error::VerificationError;
use crate::webhooks::SIGNATURE_LETTERS;

/// Name of the header with the unique id of a webhook. It stays the same when OpenAI sends the
/// webhook again, so de-duplicate on it.
pub const WEBHOOK_ID: &str = "webhook-id";
/// Name of the header with the time of this attempt to deliver, in Unix seconds.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Name of the header with one or several signatures, separated by blanks, or by commas where a
/// proxy joined header lines.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// Most bytes in a `webhook-id`. OpenAI's have 35.
pub const WEBHOOK_ID_BYTES_MAX: usize = 256;
/// Most signatures in one request. OpenAI sends one, and perhaps two while a secret is being rotated.
pub const SIGNATURES_MAX: usize = 32;

/// Anything that holds HTTP headers.
///
/// Implemented for `http::HeaderMap` (feature `http`, on by default), for maps from names to values
/// and for vectors, arrays and slices of pairs. Names count in any case; values may be text, bytes
/// or lists of either. The spellings of a CGI environment (`HTTP_WEBHOOK_ID`) and the header maps
/// of AWS Lambda (`headers` and `multiValueHeaders`) are understood.
///
/// For another type, hand the pairs over:
///
/// ```
/// use openai_webhooks::{HeadersLike, SignedHeaders};
///
/// struct MyHeaders(Vec<(String, String)>);
///
/// impl HeadersLike for MyHeaders {
///     fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
///         for (name, value) in &self.0 {
///             headers.offer(name.as_bytes(), value.as_bytes());
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a form of HTTP headers that `openai-webhooks` reads",
    label = "not readable as HTTP headers",
    note = "`http::HeaderMap` (axum, hyper, tonic) is read with the feature `http`, if it is of `http` 1",
    note = "for actix-web pass pairs: `request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect::<Vec<_>>()`",
    note = "for another type pass a map, or a slice or vector of pairs of name and value, or implement `HeadersLike`"
)]
pub trait HeadersLike {
    /// Offers every header, or at least the signed ones, to `headers`.
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>);
}

/// The signed headers of one request, as they are being collected.
#[derive(Debug, Default)]
pub struct SignedHeaders<'h> {
    id: Single<'h>,
    timestamp: Single<'h>,
    signature: Option<&'h [u8]>,
    /// Further `webhook-signature` headers; together they are one list.
    more_signatures: Vec<&'h [u8]>,
}

impl<'h> SignedHeaders<'h> {
    /// Takes the header if it is one of the three, and passes over every other.
    pub fn offer(&mut self, name: &[u8], value: &'h [u8]) {
        if name.eq_ignore_ascii_case(WEBHOOK_ID.as_bytes()) || name == b"HTTP_WEBHOOK_ID" {
            self.id.offer(value);
        } else if name.eq_ignore_ascii_case(WEBHOOK_TIMESTAMP.as_bytes())
            || name == b"HTTP_WEBHOOK_TIMESTAMP"
        {
            self.timestamp.offer(value);
        } else if name.eq_ignore_ascii_case(WEBHOOK_SIGNATURE.as_bytes())
            || name == b"HTTP_WEBHOOK_SIGNATURE"
        {
            self.offer_signature(value);
        }
    }

    fn offer_signature(&mut self, value: &'h [u8]) {
        let value = trim(value);
        if value.is_empty() || self.signature == Some(value) {
            return;
        }
        if self.signature.is_none() {
            self.signature = Some(value);
        } else if self.more_signatures.len() <= SIGNATURES_MAX {
            // One more than allowed is kept: enough to see that there are too many.
            self.more_signatures.push(value);
        }
    }

    /// Reads `source` and checks everything that can be checked without a key or a clock.
    pub(crate) fn checked(
        source: &'h (impl HeadersLike + ?Sized),
    ) -> Result<CheckedHeaders<'h>, VerificationError> {
        let mut headers = Self::default();
        source.read(&mut headers);
        let id = headers.id.single(WEBHOOK_ID)?;
        let timestamp = headers.timestamp.single(WEBHOOK_TIMESTAMP)?;
        let Some(signature) = headers.signature else {
            return Err(VerificationError::MissingHeader {
                name: WEBHOOK_SIGNATURE,
            });
        };
        Ok(CheckedHeaders {
            id: webhook_id(id)?,
            timestamp: Timestamp::read(timestamp)?,
            signature,
            more_signatures: headers.more_signatures,
        })
    }
}

pub(crate) struct CheckedHeaders<'h> {
    pub(crate) id: &'h str,
    pub(crate) timestamp: Timestamp<'h>,
    /// The first list of signatures, and the only one unless the header stands more than once.
    pub(crate) signature: &'h [u8],
    more_signatures: Vec<&'h [u8]>,
}

impl<'h> CheckedHeaders<'h> {
    pub(crate) fn has_too_many_signatures(&self) -> bool {
        // Most lists need not be counted: they are too short for so many items with a letter between each.
        let is_short = self.signature.len() < 2 * SIGNATURES_MAX && self.more_signatures.is_empty();
        let mut items = self.tokens().filter(|token| token.is_item());
        !is_short && items.nth(SIGNATURES_MAX).is_some()
    }

    /// Every signature of the list that may be one of ours, in the order of arrival.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = &'h Signature> + Clone {
        self.tokens().filter_map(Token::signature)
    }

    /// The list, divided at blanks, and where a proxy joined several header lines into one, at
    /// commas (RFC 9110, section 5.3).
    fn tokens(&self) -> impl Iterator<Item = Token<'h>> + Clone {
        std::iter::once(self.signature)
            .chain(self.more_signatures.iter().copied())
            .flat_map(|list| list.split(|&letter| is_blank(letter)))
            .flat_map(|group| {
                let texts = group.split(|&letter| letter == b',');
                texts.scan([None, None], |before, text| {
                    let token = Token {
                        text,
                        before: *before,
                    };
                    *before = [before[1], Some(text)];
                    Some(token)
                })
            })
    }
}

/// The letters of a signature, without its version.
pub(crate) type Signature = [u8; SIGNATURE_LETTERS];

/// A piece of a list of signatures between commas or blanks: a version, a signature, or neither.
#[derive(Clone, Copy)]
struct Token<'h> {
    text: &'h [u8],
    /// The two tokens before it, the nearer one last, as far as only commas stand between.
    before: [Option<&'h [u8]>; 2],
}

impl<'h> Token<'h> {
    /// Whether an item of the list begins here: a version and its signature are one.
    fn is_item(self) -> bool {
        !self.text.is_empty() && !self.before[1].is_some_and(is_version)
    }

    /// A comma is both what stands behind a version and what lines are joined with, so what stands
    /// before decides: a signature belongs to `v1`, or to no scheme if nothing, or another
    /// signature, is before it. One of another scheme is passed over.
    fn signature(self) -> Option<&'h Signature> {
        let is_ours = match self.before {
            [_, None | Some(b"")] => true,
            [before, Some(b"v1")] => !before.is_some_and(is_version),
            [_, Some(before)] => is_encoded_signature(before),
        };
        self.text.try_into().ok().filter(|_| is_ours)
    }
}

/// Whether it is base64 of as many bytes as a signature has, or more.
fn is_encoded_signature(text: &[u8]) -> bool {
    let mut letters = text;
    while let [rest @ .., b'='] = letters {
        letters = rest;
    }
    let is_letter = |letter: &u8| letter.is_ascii_alphanumeric() || matches!(letter, b'+' | b'/');
    text.len() >= SIGNATURE_LETTERS && letters.iter().all(is_letter)
}

/// Whether it is the name of a scheme: `v1`, `v1a`, `v2`.
fn is_version(text: &[u8]) -> bool {
    const BYTES_MAX: usize = 8;
    match text {
        [b'v' | b'V', digit, rest @ ..] if text.len() <= BYTES_MAX => {
            digit.is_ascii_digit() && rest.iter().all(u8::is_ascii_alphanumeric)
        }
        _ => false,
    }
}

/// The timestamp twice: as a number for the clock, and as the text that was signed.
pub(crate) struct Timestamp<'h> {
    pub(crate) seconds: i64,
    pub(crate) text: &'h [u8],
}

impl<'h> Timestamp<'h> {
    /// Most digits: as many as the largest 64-bit Unix time has.
    pub(crate) const DIGITS_MAX: usize = 19;

    /// Digits only, of a number that fits 63 bits. A sign, a fraction or anything else behind the
    /// number would let someone move the border between the
    /// timestamp and the body of an authentic request and have it pass as another one.
    pub(crate) fn read(text: &'h [u8]) -> Result<Self, VerificationError> {
        if text.len() > Self::DIGITS_MAX {
            return Err(VerificationError::MalformedTimestamp);
        }
        // 19 digits always fit 64 unsigned bits.
        let mut seconds = 0_u64;
        for &letter in text {
            if !letter.is_ascii_digit() {
                return Err(VerificationError::MalformedTimestamp);
            }
            seconds = seconds * 10 + u64::from(letter - b'0');
        }
        let seconds = i64::try_from(seconds).map_err(|_| VerificationError::MalformedTimestamp)?;
        Ok(Self { seconds, text })
    }
}

/// Checks a `webhook-id`. The signed text is `id.timestamp.body`, so a dot in the id would make it ambiguous.
pub(crate) fn webhook_id(id: &[u8]) -> Result<&str, VerificationError> {
    let malformed = |reason| VerificationError::MalformedHeader {
        name: WEBHOOK_ID,
        reason,
    };
    if id.len() > WEBHOOK_ID_BYTES_MAX {
        return Err(malformed("it is longer than 256 bytes"));
    }
    // Without an early exit this looks at many letters at a time.
    let is_allowed = |letter: u8| letter.is_ascii_graphic() && letter != b'.';
    if !id
        .iter()
        .fold(true, |all, &letter| all & is_allowed(letter))
    {
        return Err(malformed(
            "it holds a dot, a blank, or a letter outside printable ASCII",
        ));
    }
    std::str::from_utf8(id).map_err(|_| malformed("it is not ASCII"))
}

/// A header that may stand once, or several times with the same value.
#[derive(Debug, Default)]
struct Single<'h> {
    value: Option<&'h [u8]>,
    has_other_value: bool,
}

impl<'h> Single<'h> {
    fn offer(&mut self, value: &'h [u8]) {
        let value = trim(value);
        match self.value {
            None => self.value = Some(value),
            Some(first) => self.has_other_value |= first != value,
        }
    }

    fn single(&self, name: &'static str) -> Result<&'h [u8], VerificationError> {
        if self.has_other_value {
            return Err(VerificationError::ConflictingHeader { name });
        }
        self.value
            .filter(|value| !value.is_empty())
            .ok_or(VerificationError::MissingHeader { name })
    }
}

/// Blanks and tabs around a header's value are not part of it (RFC 9110, section 5.5).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

fn is_blank(letter: u8) -> bool {
    letter == b' ' || letter == b'\t'
}

/// The value of a header, or its values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value of a header that `openai-webhooks` reads",
    label = "not readable as the value of a header",
    note = "text, bytes, `http::HeaderValue` (feature `http`, and of `http` 1), and options and vectors of them are read",
    note = "the header values of another framework, or of another version of `http`, usually have `as_bytes`: `headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect::<Vec<_>>()`"
)]
pub trait HeaderValueLike {
    /// Calls `each` with every value.
    fn each<'h>(&'h self, each: &mut dyn FnMut(&'h [u8]));
}

macro_rules! single_value {
    ($($type:ty: $as_bytes:ident),+ $(,)?) => {$(
        impl HeaderValueLike for $type {
            fn each<'h>(&'h self, each: &mut dyn FnMut(&'h [u8])) {
                each(self.$as_bytes());
            }
        }
    )+};
}

single_value!(str: as_bytes, String: as_bytes, Cow<'_, str>: as_bytes, Box<str>: as_bytes, [u8]: as_ref, Vec<u8>: as_ref);
#[cfg(feature = "http")]
single_value!(http::HeaderValue: as_bytes);

impl<const LENGTH: usize> HeaderValueLike for [u8; LENGTH] {
    fn each<'h>(&'h self, each: &mut dyn FnMut(&'h [u8])) {
        each(self);
    }
}

/// Maps made of JSON may hold a name without a value.
impl<V: HeaderValueLike> HeaderValueLike for Option<V> {
    fn each<'h>(&'h self, each: &mut dyn FnMut(&'h [u8])) {
        if let Some(value) = self {
            value.each(each);
        }
    }
}

impl<V: HeaderValueLike> HeaderValueLike for Vec<V> {
    fn each<'h>(&'h self, each: &mut dyn FnMut(&'h [u8])) {
        for value in self {
            value.each(each);
        }
    }
}

impl<V: HeaderValueLike + ?Sized> HeaderValueLike for &V {
    fn each<'h>(&'h self, each: &mut dyn FnMut(&'h [u8])) {
        (**self).each(each);
    }
}

impl<H: HeadersLike + ?Sized> HeadersLike for &H {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        (**self).read(headers);
    }
}

impl<N: AsRef<[u8]>, V: HeaderValueLike> HeadersLike for [(N, V)] {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        for (name, value) in self {
            value.each(&mut |value| headers.offer(name.as_ref(), value));
        }
    }
}

impl<N: AsRef<[u8]>, V: HeaderValueLike, const LENGTH: usize> HeadersLike for [(N, V); LENGTH] {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        self.as_slice().read(headers);
    }
}

impl<N: AsRef<[u8]>, V: HeaderValueLike> HeadersLike for Vec<(N, V)> {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        self.as_slice().read(headers);
    }
}

impl<N: AsRef<[u8]>, V: HeaderValueLike, S> HeadersLike for HashMap<N, V, S> {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        for (name, value) in self {
            value.each(&mut |value| headers.offer(name.as_ref(), value));
        }
    }
}

impl<N: AsRef<[u8]>, V: HeaderValueLike> HeadersLike for BTreeMap<N, V> {
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        for (name, value) in self {
            value.each(&mut |value| headers.offer(name.as_ref(), value));
        }
    }
}

#[cfg(feature = "http")]
impl HeadersLike for http::HeaderMap {
    /// Looks at every header: for the few dozen a request has that is cheaper than hashing three names.
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>) {
        for (name, value) in self {
            // A `HeaderName` is in lower case.
            match name.as_str() {
                WEBHOOK_ID => headers.id.offer(value.as_bytes()),
                WEBHOOK_TIMESTAMP => headers.timestamp.offer(value.as_bytes()),
                WEBHOOK_SIGNATURE => headers.offer_signature(value.as_bytes()),
                _ => {}
            }
        }
    }
}
