//! The three signed headers, read from the header type of any framework.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::error::VerificationError;
use crate::webhooks::SIGNATURE_LETTERS;

/// Name of the header with the unique id of a webhook. A retry by OpenAI has the same id, so
/// de-duplicate on it ([Standard Webhooks][spec]).
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#webhook-metadata
pub const WEBHOOK_ID: &str = "webhook-id";
/// Name of the header with the time of the delivery attempt, in Unix seconds ([Standard
/// Webhooks][spec]).
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#webhook-metadata
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Name of the header with one or more signatures, separated by spaces ([Standard Webhooks][spec]),
/// or by commas where a proxy joined repeated headers.
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#webhook-headers-sending-metadata-to-consumers
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// Maximum length of a `webhook-id`, in bytes. Those of OpenAI have 35.
pub const WEBHOOK_ID_BYTES_MAX: usize = 256;
/// Maximum number of signatures in one request. OpenAI sends one, and possibly two during a
/// rotation.
pub const SIGNATURES_MAX: usize = 32;

/// A collection of HTTP headers.
///
/// Implemented for `http::HeaderMap` (feature `http`, on by default), for maps from names to values
/// and for vectors, arrays and slices of pairs. Names are case-insensitive; values are text, bytes
/// or lists of either. It also reads the variables of a CGI environment (`HTTP_WEBHOOK_ID`) and the
/// header maps of AWS Lambda (`headers` and `multiValueHeaders`).
///
/// For another type, offer each pair:
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
    note = "for actix-web pass pairs: \
        `request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()))\
        .collect::<Vec<_>>()`",
    note = "for another type pass a map, or a slice or vector of pairs of name and value, or implement `HeadersLike`"
)]
pub trait HeadersLike {
    /// Calls [`SignedHeaders::offer`] for every header, or at least for the signed ones.
    fn read<'h>(&'h self, headers: &mut SignedHeaders<'h>);
}

/// The signed headers of one request, while they are collected.
#[derive(Debug, Default)]
pub struct SignedHeaders<'h> {
    id: Single<'h>,
    timestamp: Single<'h>,
    signature: Option<&'h [u8]>,
    /// Further `webhook-signature` headers. All of them form one list.
    more_signatures: Vec<&'h [u8]>,
}

impl<'h> SignedHeaders<'h> {
    /// Stores the header if it is one of the three signed headers, and ignores it otherwise.
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
            // The limit plus one is enough to detect too many.
            self.more_signatures.push(value);
        }
    }

    /// Reads `source` and makes the checks that need neither a key nor a clock.
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
    /// The first list of signatures; the only one unless the header is repeated.
    pub(crate) signature: &'h [u8],
    more_signatures: Vec<&'h [u8]>,
}

impl<'h> CheckedHeaders<'h> {
    pub(crate) fn has_too_many_signatures(&self) -> bool {
        // Fast path: a short list cannot hold too many items, since each needs a letter and a
        // separator.
        let is_short = self.signature.len() < 2 * SIGNATURES_MAX && self.more_signatures.is_empty();
        let mut items = self.tokens().filter(|token| token.is_item());
        !is_short && items.nth(SIGNATURES_MAX).is_some()
    }

    /// The signatures of the list that can be of scheme `v1`, in their order.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = &'h Signature> + Clone {
        self.tokens().filter_map(Token::signature)
    }

    /// Splits the list at blanks, and at commas, because a proxy may join repeated headers ([RFC
    /// 9110, section 5.3](https://www.rfc-editor.org/rfc/rfc9110#section-5.3)).
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

/// The base64 letters of a signature, without its version.
pub(crate) type Signature = [u8; SIGNATURE_LETTERS];

/// A part of the list between commas or blanks: a version, a signature, or neither.
#[derive(Clone, Copy)]
struct Token<'h> {
    text: &'h [u8],
    /// The two tokens before this one, the nearer one last, as long as only commas separate them.
    before: [Option<&'h [u8]>; 2],
}

impl<'h> Token<'h> {
    /// Whether an item of the list begins here. A version and its signature are one item.
    fn is_item(self) -> bool {
        !self.text.is_empty() && !self.before[1].is_some_and(is_version)
    }

    /// The signature, if it can be of scheme `v1`. A comma separates a version from its signature
    /// and also joined headers, so the preceding tokens decide. The version must be `v1`, or
    /// absent: nothing or another signature precedes.
    fn signature(self) -> Option<&'h Signature> {
        let is_ours = match self.before {
            [_, None | Some(b"")] => true,
            [before, Some(b"v1")] => !before.is_some_and(is_version),
            [_, Some(before)] => is_encoded_signature(before),
        };
        self.text.try_into().ok().filter(|_| is_ours)
    }
}

/// Whether `text` is base64 with at least the length of a signature.
fn is_encoded_signature(text: &[u8]) -> bool {
    let mut letters = text;
    while let [rest @ .., b'='] = letters {
        letters = rest;
    }
    let is_letter = |letter: &u8| letter.is_ascii_alphanumeric() || matches!(letter, b'+' | b'/');
    text.len() >= SIGNATURE_LETTERS && letters.iter().all(is_letter)
}

/// Whether `text` is the name of a scheme: `v1`, `v1a`, `v2`.
fn is_version(text: &[u8]) -> bool {
    const BYTES_MAX: usize = 8;
    match text {
        [b'v' | b'V', digit, rest @ ..] if text.len() <= BYTES_MAX => {
            digit.is_ascii_digit() && rest.iter().all(u8::is_ascii_alphanumeric)
        }
        _ => false,
    }
}

/// A timestamp as a number for the clock, and as the text that was signed.
pub(crate) struct Timestamp<'h> {
    pub(crate) seconds: i64,
    pub(crate) text: &'h [u8],
}

impl<'h> Timestamp<'h> {
    /// Maximum number of digits: that of the largest 64-bit Unix time.
    pub(crate) const DIGITS_MAX: usize = 19;

    /// Accepts only digits of a number that fits in 63 bits. With a sign, a fraction or other text
    /// after the number, an attacker could shift the border between timestamp and body in an
    /// authentic request and pass it off as another one ([Standard Webhooks][spec]).
    ///
    /// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
    pub(crate) fn read(text: &'h [u8]) -> Result<Self, VerificationError> {
        if text.len() > Self::DIGITS_MAX {
            return Err(VerificationError::MalformedTimestamp);
        }
        // 19 digits always fit in 64 unsigned bits.
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

/// Checks a `webhook-id`. The signed text is `id.timestamp.body`, so a dot in the id would make it
/// ambiguous ([Standard Webhooks][spec]).
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
pub(crate) fn webhook_id(id: &[u8]) -> Result<&str, VerificationError> {
    let malformed = |reason| VerificationError::MalformedHeader {
        name: WEBHOOK_ID,
        reason,
    };
    if id.len() > WEBHOOK_ID_BYTES_MAX {
        return Err(malformed("it is longer than 256 bytes"));
    }
    // Without an early exit the compiler vectorises this loop.
    let is_allowed = |letter: u8| letter.is_ascii_graphic() && letter != b'.';
    if !id
        .iter()
        .fold(true, |all, &letter| all & is_allowed(letter))
    {
        return Err(malformed(
            "it contains a dot, a blank, or a character outside printable ASCII",
        ));
    }
    std::str::from_utf8(id).map_err(|_| malformed("it is not ASCII"))
}

/// A header that may be present once, or several times with the same value.
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

/// Removes blanks and tabs around a value ([RFC 9110, section
/// 5.5](https://www.rfc-editor.org/rfc/rfc9110#section-5.5)).
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
    note = "the header values of another framework, or of another version of `http`, usually have \
        `as_bytes`: `headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))\
        .collect::<Vec<_>>()`"
)]
pub trait HeaderValueLike {
    /// Calls `each` with each value.
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

/// Maps made from JSON may hold a name without a value.
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
    /// Compares every header. A request has a few dozen, for which that is cheaper than hashing
    /// three names.
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
