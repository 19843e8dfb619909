//! [`Webhooks`]: proves that a request came from OpenAI, and when.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{UnwrapError, VerificationError};
use crate::event::{Envelope, PayloadError, UnwrapWebhookEvent};
use crate::headers::{CheckedHeaders, HeadersLike, Signature, SignedHeaders, Timestamp};
use crate::secret::{Secret, SecretError};

/// How far `webhook-timestamp` may be from our clock, both ways, as in the official SDKs: five minutes.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

const MAC_BYTES: usize = 32;
pub(crate) const SIGNATURE_LETTERS: usize = MAC_BYTES.div_ceil(3) * 4;

/// Verifies and unwraps the webhooks of one OpenAI endpoint.
///
/// Make one when the program starts, where a bad secret is an error you see at once, and share it: cloning is cheap. From then
/// on only a request can fail.
///
/// ```
/// use openai_webhooks::{UnwrapWebhookEvent, Webhooks};
///
/// # fn handler(body: &[u8], headers: &impl openai_webhooks::HeadersLike) -> Result<(), Box<dyn std::error::Error>> {
/// let webhooks = Webhooks::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")?;
/// match webhooks.unwrap(body, headers)? {
///     UnwrapWebhookEvent::ResponseCompleted(event) => println!("{} is ready", event.data.id),
///     event => println!("{} is not ours", event.kind()),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Webhooks {
    /// Keyed once; a request clones the state instead of hashing the key again.
    keys: Arc<[Hmac<Sha256>]>,
    tolerance_seconds: u64,
}

impl Webhooks {
    /// Webhooks signed with this secret; see [`Secret`] for the forms it may have.
    pub fn new(secret: impl AsRef<str>) -> Result<Self, SecretError> {
        Secret::parse(secret.as_ref()).map(|secret| Self::from(&secret))
    }

    /// Webhooks signed with any of the secrets in the environment variable
    /// [`OPENAI_WEBHOOK_SECRET`](crate::OPENAI_WEBHOOK_SECRET): one, or during a rotation several, divided as
    /// [`Secret::parse_list`] says.
    pub fn from_env() -> Result<Self, SecretError> {
        Ok(Secret::list_from_env()?.into_iter().collect())
    }

    /// Accepts this secret too. While a secret is being rotated both the new and the old one are valid (OpenAI keeps the old
    /// one for 24 hours if asked to); name the newest first.
    #[must_use]
    pub fn and(mut self, secret: &Secret) -> Self {
        self.extend([secret]);
        self
    }

    /// How far `webhook-timestamp` may be from the clock, in whole seconds, both ways, the bounds included.
    /// [`DEFAULT_TOLERANCE`] unless set. What is within it can be replayed by whoever recorded it, so de-duplicate on `webhook-id`.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self {
            tolerance_seconds: tolerance.as_secs(),
            ..self
        }
    }

    /// Proves the request and gives its event.
    ///
    /// `payload` must be the exact bytes of the body, before any parsing. An [`UnwrapError::Verification`] means the request is not
    /// to be trusted; an [`UnwrapError::Payload`] is authentic but not an event this version can read.
    pub fn unwrap(
        &self,
        payload: &(impl AsRef<[u8]> + ?Sized),
        headers: &(impl HeadersLike + ?Sized),
    ) -> Result<UnwrapWebhookEvent, UnwrapError> {
        self.unwrap_at(payload, headers, unix_now())
    }

    /// As [`unwrap`](Self::unwrap), with the clock at `now`, in Unix seconds: to check a request that waited in a queue against the
    /// time it arrived, in tests, and where there is no clock.
    pub fn unwrap_at(
        &self,
        payload: &(impl AsRef<[u8]> + ?Sized),
        headers: &(impl HeadersLike + ?Sized),
        now: i64,
    ) -> Result<UnwrapWebhookEvent, UnwrapError> {
        Ok(self.verify_signature_at(payload, headers, now)?.event()?)
    }

    /// Proves the request without reading its body.
    pub fn verify_signature<'r>(
        &self,
        payload: &'r (impl AsRef<[u8]> + ?Sized),
        headers: &'r (impl HeadersLike + ?Sized),
    ) -> Result<Verified<'r>, VerificationError> {
        self.verify_signature_at(payload, headers, unix_now())
    }

    /// As [`verify_signature`](Self::verify_signature), with the clock at `now`, in Unix seconds.
    pub fn verify_signature_at<'r>(
        &self,
        payload: &'r (impl AsRef<[u8]> + ?Sized),
        headers: &'r (impl HeadersLike + ?Sized),
        now: i64,
    ) -> Result<Verified<'r>, VerificationError> {
        let payload = payload.as_ref();
        let headers = SignedHeaders::checked(headers)?;
        self.check_time(headers.timestamp.seconds, now)?;
        Ok(Verified {
            secret_index: self.matching_key(&headers, payload)?,
            webhook_id: headers.id,
            timestamp: headers.timestamp.seconds,
            payload,
        })
    }

    /// The checks that need neither the body nor a secret, with the clock at `now`, in Unix seconds: what they refuse need not be
    /// received to its end. What they let pass is not proven.
    pub fn check_headers_at(
        &self,
        headers: &(impl HeadersLike + ?Sized),
        now: i64,
    ) -> Result<(), VerificationError> {
        let headers = SignedHeaders::checked(headers)?;
        self.check_time(headers.timestamp.seconds, now)
    }

    /// A fingerprint of each secret, in their order: 16 hexadecimal digits. Two spellings of one
    /// secret have the same fingerprint. A fingerprint cannot sign.
    ///
    /// ```
    /// use openai_webhooks::Webhooks;
    ///
    /// let encoded = Webhooks::new("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")?;
    /// let raw = Webhooks::new("0123456789abcdef01234567")?;
    /// assert_eq!(encoded.fingerprints(), raw.fingerprints());
    /// # Ok::<(), openai_webhooks::SecretError>(())
    /// ```
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let fingerprint = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            // A signed text contains dots and this one has none, so it is never a signature.
            mac.update(b"fingerprint");
            let mac: [u8; MAC_BYTES] = mac.finalize().into_bytes().into();
            let beginning = u64::from_be_bytes(mac[..8].try_into().expect("8 of 32 bytes"));
            format!("{beginning:016x}")
        };
        self.keys.iter().map(fingerprint).collect()
    }

    fn check_time(&self, timestamp: i64, now: i64) -> Result<(), VerificationError> {
        let seconds = timestamp.abs_diff(now);
        let tolerance_seconds = self.tolerance_seconds;
        if seconds <= tolerance_seconds {
            Ok(())
        } else if timestamp < now {
            Err(VerificationError::TimestampTooOld {
                seconds,
                tolerance_seconds,
            })
        } else {
            Err(VerificationError::TimestampTooNew {
                seconds,
                tolerance_seconds,
            })
        }
    }

    /// One HMAC a key, however many signatures there are to compare it with; none when there is nothing to compare.
    fn matching_key(
        &self,
        headers: &CheckedHeaders<'_>,
        payload: &[u8],
    ) -> Result<usize, VerificationError> {
        if headers.has_too_many_signatures() {
            return Err(VerificationError::TooManySignatures);
        }
        let mut candidates = headers.signatures();
        // Nearly always the list is one signature, and there is nothing to take apart.
        let sole = letters_of_signature(headers.signature);
        let Some(first) = sole.or_else(|| candidates.next()) else {
            return Err(VerificationError::SignatureMismatch);
        };
        for (index, key) in self.keys.iter().enumerate() {
            let mac = mac(key, headers.id, headers.timestamp.text, payload);
            let mac = mac.finalize().into_bytes().into();
            let is_match = |letters| is_base64_of(letters, &mac);
            if is_match(first) || candidates.clone().any(is_match) {
                return Ok(index);
            }
        }
        Err(VerificationError::SignatureMismatch)
    }

    fn keyed_with(keys: impl IntoIterator<Item = Hmac<Sha256>>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
            tolerance_seconds: DEFAULT_TOLERANCE.as_secs(),
        }
    }

    fn add(&mut self, keys: impl Iterator<Item = Hmac<Sha256>>) {
        self.keys = self.keys.iter().cloned().chain(keys).collect();
    }

    pub(crate) fn keys(&self) -> &[Hmac<Sha256>] {
        &self.keys
    }
}

impl From<&Secret> for Webhooks {
    fn from(secret: &Secret) -> Self {
        Self::keyed_with([keyed(secret)])
    }
}

/// Accepts what is signed with any of the secrets, the newest first. Without a secret it refuses every request.
///
/// ```
/// use openai_webhooks::{Secret, Webhooks};
///
/// let secrets = ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA"];
/// let webhooks: Webhooks = secrets.into_iter().map(Secret::parse).collect::<Result<_, _>>()?;
/// # Ok::<(), openai_webhooks::SecretError>(())
/// ```
impl FromIterator<Secret> for Webhooks {
    fn from_iter<I: IntoIterator<Item = Secret>>(secrets: I) -> Self {
        Self::keyed_with(secrets.into_iter().map(|secret| keyed(&secret)))
    }
}

impl<'s> FromIterator<&'s Secret> for Webhooks {
    fn from_iter<I: IntoIterator<Item = &'s Secret>>(secrets: I) -> Self {
        Self::keyed_with(secrets.into_iter().map(keyed))
    }
}

/// Accepts these secrets too, behind those there are.
impl Extend<Secret> for Webhooks {
    fn extend<I: IntoIterator<Item = Secret>>(&mut self, secrets: I) {
        self.add(secrets.into_iter().map(|secret| keyed(&secret)));
    }
}

impl<'s> Extend<&'s Secret> for Webhooks {
    fn extend<I: IntoIterator<Item = &'s Secret>>(&mut self, secrets: I) {
        self.add(secrets.into_iter().map(keyed));
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks")
            .field("secrets", &format_args!("{} [redacted]", self.keys.len()))
            .field("tolerance_seconds", &self.tolerance_seconds)
            .finish()
    }
}

/// A request that is proven to come from OpenAI. Only [`Webhooks`] can make one.
#[derive(Clone, Copy)]
pub struct Verified<'r> {
    webhook_id: &'r str,
    timestamp: i64,
    payload: &'r [u8],
    secret_index: usize,
}

impl<'r> Verified<'r> {
    /// The event in the body. The error still carries the `webhook-id`.
    #[inline] // Or it is moved once more.
    pub fn event(&self) -> Result<UnwrapWebhookEvent, PayloadError> {
        UnwrapWebhookEvent::read(self.payload)
            .map_err(|problem| PayloadError::new(self.webhook_id, self.payload, problem))
    }

    /// The type and the resource that the body names, however odd the rest of it. `None` where it names no type.
    #[must_use]
    pub fn envelope(&self) -> Option<Envelope<'r>> {
        Envelope::read(self.payload)
    }

    /// The value of `webhook-id`: the same for every copy of this webhook. It is not the id of the event.
    #[must_use]
    pub fn webhook_id(&self) -> &'r str {
        self.webhook_id
    }

    /// When OpenAI made this attempt to deliver, in Unix seconds.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The exact bytes that were signed.
    #[must_use]
    pub fn payload(&self) -> &'r [u8] {
        self.payload
    }

    /// Which secret matched, counted from 0 in the order they were given: tells when an old one is no longer in use.
    #[must_use]
    pub fn secret_index(&self) -> usize {
        self.secret_index
    }
}

impl fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("webhook_id", &self.webhook_id)
            .field("timestamp", &self.timestamp)
            .field("payload_bytes", &self.payload.len())
            .field("secret_index", &self.secret_index)
            .finish()
    }
}

fn keyed(secret: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.key()).expect("HMAC takes a key of any length")
}

/// The HMAC over `id.timestamp.payload` (Standard Webhooks, "Signature scheme").
pub(crate) fn mac(key: &Hmac<Sha256>, id: &str, timestamp: &[u8], payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(id.as_bytes());
    // One short update instead of three.
    let mut dotted = [b'.'; 2 + Timestamp::DIGITS_MAX];
    let dotted = &mut dotted[..2 + timestamp.len()];
    dotted[1..=timestamp.len()].copy_from_slice(timestamp);
    mac.update(dotted);
    mac.update(payload);
    mac
}

/// Its letters, if `item` has the form of a signature, with or without `v1,`.
fn letters_of_signature(item: &[u8]) -> Option<&Signature> {
    item.strip_prefix(b"v1,").unwrap_or(item).try_into().ok()
}

/// Whether `letters` are the base64 of `mac`, to the last bit, in a time that does not tell how much of it is right.
///
/// A signature is public, so its letters may choose where a table is read. What they stand for is compared as it is found: to
/// decode them first, with a decoder for texts of any length, takes longer than a block of
/// SHA-256.
fn is_base64_of(letters: &Signature, mac: &[u8; MAC_BYTES]) -> bool {
    let (groups, _) = letters.as_chunks();
    let (groups_of_bytes, _) = mac.as_chunks();
    let mut difference = 0;
    for (&letters, &[x, y, z]) in groups.iter().zip(groups_of_bytes) {
        difference |= base64_bits(letters) ^ u32::from_be_bytes([0, x, y, z]);
    }
    // The last group is one byte and one letter short: they would be zero.
    let ([.., x, y, z, padding], [.., last_but_one, last]) = (*letters, *mac);
    difference |= base64_bits([x, y, z, b'A']) ^ u32::from_be_bytes([0, last_but_one, last, 0]);
    difference |= u32::from(padding ^ b'=');
    difference == 0
}

/// The 24 bits that four letters stand for, and further ones if they are not all letters of base64.
fn base64_bits(letters: [u8; 4]) -> u32 {
    let [a, b, c, d] = letters.map(|letter| u32::from(BASE64_VALUES[usize::from(letter)]));
    a << 18 | b << 12 | c << 6 | d | ((a | b | c | d) & u32::from(NO_BASE64)) << 24
}

/// In [`BASE64_VALUES`] for what is not a letter of base64. The letters have six bits.
const NO_BASE64: u8 = 1 << 6;

/// The six bits that each letter of base64 stands for.
static BASE64_VALUES: [u8; 256] = {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [NO_BASE64; 256];
    let mut value = 0;
    while value < NO_BASE64 {
        values[letters[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Unix time in whole seconds. A clock before 1970 reads as 1970.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
