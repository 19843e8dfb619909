//! [`Webhooks`] verifies that a request comes from OpenAI and is recent.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{UnwrapError, VerificationError};
use crate::event::{Envelope, PayloadError, UnwrapWebhookEvent};
use crate::headers::{CheckedHeaders, HeadersLike, Signature, SignedHeaders, Timestamp};
use crate::secret::{Secret, SecretError};

/// Largest accepted difference between `webhook-timestamp` and the clock, in both directions: five
/// minutes, as in the official SDKs ([Python], [Node]).
///
/// The Standard Webhooks specification asks for a tolerance as a defence against
/// [replay attacks][spec].
///
/// [Python]: https://github.com/openai/openai-python
/// [Node]: https://github.com/openai/openai-node
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#verifying-webhook-authenticity
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

const MAC_BYTES: usize = 32;
pub(crate) const SIGNATURE_LETTERS: usize = MAC_BYTES.div_ceil(3) * 4;

/// Verifies and unwraps the webhooks of one OpenAI endpoint.
///
/// Create one value when the program starts, where a bad secret is reported at once, and clone it:
/// a clone is cheap. After that, only a request can fail.
///
/// The signature is the symmetric scheme `v1` of the [Standard Webhooks specification][spec], as
/// [OpenAI's guide](https://developers.openai.com/api/docs/guides/webhooks) describes.
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
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
    /// Initialised with the key once. A request clones this state instead of hashing the key again.
    keys: Arc<[Hmac<Sha256>]>,
    tolerance_seconds: u64,
}

impl Webhooks {
    /// Accepts webhooks signed with `secret`. [`Secret`] lists the accepted forms.
    ///
    /// # Errors
    ///
    /// Returns a [`SecretError`] if the text cannot be a webhook secret.
    pub fn new(secret: impl AsRef<str>) -> Result<Self, SecretError> {
        Secret::parse(secret.as_ref()).map(|secret| Self::from(&secret))
    }

    /// Accepts webhooks signed with any secret in the environment variable
    /// [`OPENAI_WEBHOOK_SECRET`](crate::OPENAI_WEBHOOK_SECRET). During a rotation the variable
    /// holds several secrets, separated as [`Secret::parse_list`] says.
    ///
    /// # Errors
    ///
    /// Returns a [`SecretError`] if the variable is not set, or holds text that is not a secret.
    pub fn from_env() -> Result<Self, SecretError> {
        Ok(Secret::list_from_env()?.into_iter().collect())
    }

    /// Accepts `secret` too. Add the newest secret first.
    ///
    /// During a rotation the new and the old secret are both valid: OpenAI can keep the old one
    /// active for 24 hours ([guide](https://developers.openai.com/api/docs/guides/webhooks)).
    #[must_use]
    pub fn and(mut self, secret: &Secret) -> Self {
        self.extend([secret]);
        self
    }

    /// Sets the largest accepted difference between `webhook-timestamp` and the clock, in both
    /// directions, bounds included. The default is [`DEFAULT_TOLERANCE`]; a fraction of a second is
    /// dropped.
    ///
    /// A recorded request can be replayed within this time, so de-duplicate on `webhook-id`.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self {
            tolerance_seconds: tolerance.as_secs(),
            ..self
        }
    }

    /// Verifies the request and parses its event.
    ///
    /// `payload` must be the exact bytes of the body, before any parsing
    /// ([reason](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme)).
    ///
    /// # Errors
    ///
    /// [`UnwrapError::Verification`]: the request is not authentic, or too old or too new.
    /// [`UnwrapError::Payload`]: the request is authentic, but this version cannot read its event.
    pub fn unwrap(
        &self,
        payload: &(impl AsRef<[u8]> + ?Sized),
        headers: &(impl HeadersLike + ?Sized),
    ) -> Result<UnwrapWebhookEvent, UnwrapError> {
        self.unwrap_at(payload, headers, unix_now())
    }

    /// Does the same as [`unwrap`](Self::unwrap), with the clock at `now`, in Unix seconds. Use it
    /// in tests, without a clock, and for a request that waited in a queue: pass the time it
    /// arrived.
    pub fn unwrap_at(
        &self,
        payload: &(impl AsRef<[u8]> + ?Sized),
        headers: &(impl HeadersLike + ?Sized),
        now: i64,
    ) -> Result<UnwrapWebhookEvent, UnwrapError> {
        Ok(self.verify_signature_at(payload, headers, now)?.event()?)
    }

    /// Verifies the request without parsing its body.
    ///
    /// # Errors
    ///
    /// Returns a [`VerificationError`] if the request is not authentic, or too old or too new.
    pub fn verify_signature<'r>(
        &self,
        payload: &'r (impl AsRef<[u8]> + ?Sized),
        headers: &'r (impl HeadersLike + ?Sized),
    ) -> Result<Verified<'r>, VerificationError> {
        self.verify_signature_at(payload, headers, unix_now())
    }

    /// Does the same as [`verify_signature`](Self::verify_signature), with the clock at `now`, in
    /// Unix seconds.
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

    /// Makes the checks that need neither the body nor a secret, with the clock at `now`, in Unix
    /// seconds. A server can refuse a request by them before it receives the body.
    ///
    /// A request that passes is not verified yet.
    ///
    /// # Errors
    ///
    /// Returns a [`VerificationError`] if a signed header is missing or malformed, or if the time
    /// is outside the tolerance.
    pub fn check_headers_at(
        &self,
        headers: &(impl HeadersLike + ?Sized),
        now: i64,
    ) -> Result<(), VerificationError> {
        let headers = SignedHeaders::checked(headers)?;
        self.check_time(headers.timestamp.seconds, now)
    }

    /// Returns a fingerprint of each secret, in their order: 16 hexadecimal digits. Two spellings
    /// of one secret have the same fingerprint. A fingerprint cannot sign.
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
            // A signed text contains dots and this text has none, so its HMAC is never a signature.
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

    /// Returns the index of the key that made one of the signatures. Computes one HMAC for each
    /// key, and none if the list has no well-formed signature.
    fn matching_key(
        &self,
        headers: &CheckedHeaders<'_>,
        payload: &[u8],
    ) -> Result<usize, VerificationError> {
        if headers.has_too_many_signatures() {
            return Err(VerificationError::TooManySignatures);
        }
        let mut candidates = headers.signatures();
        // Fast path: the header is nearly always one signature, and needs no splitting.
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

/// Accepts webhooks signed with any of the secrets; give the newest first. Without a secret, every
/// request is refused.
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

/// Adds these secrets after the present ones.
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

/// A verified request from OpenAI. Only [`Webhooks`] can create one.
#[derive(Clone, Copy)]
pub struct Verified<'r> {
    webhook_id: &'r str,
    timestamp: i64,
    payload: &'r [u8],
    secret_index: usize,
}

impl<'r> Verified<'r> {
    /// Parses the event in the body.
    ///
    /// # Errors
    ///
    /// Returns a [`PayloadError`], with the `webhook-id`, if the body is not an event that this
    /// version can read.
    #[inline] // Without it the event is moved once more.
    pub fn event(&self) -> Result<UnwrapWebhookEvent, PayloadError> {
        UnwrapWebhookEvent::read(self.payload)
            .map_err(|problem| PayloadError::new(self.webhook_id, self.payload, problem))
    }

    /// Reads the type and the resource, and tolerates problems elsewhere in the body. `None` if the
    /// body has no type.
    #[must_use]
    pub fn envelope(&self) -> Option<Envelope<'r>> {
        Envelope::read(self.payload)
    }

    /// The value of `webhook-id`. Every copy of a webhook has the same ([OpenAI's
    /// guide](https://developers.openai.com/api/docs/guides/webhooks)). It is not the id of the
    /// event.
    #[must_use]
    pub fn webhook_id(&self) -> &'r str {
        self.webhook_id
    }

    /// Time of this delivery attempt by OpenAI, in Unix seconds.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The exact bytes of the body, which were signed.
    #[must_use]
    pub fn payload(&self) -> &'r [u8] {
        self.payload
    }

    /// Index of the secret that matched, from 0, in the order given. It shows when an old secret is
    /// no longer in use.
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

/// The HMAC-SHA256 over `id.timestamp.payload`: the [signature scheme][spec] of Standard Webhooks.
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
pub(crate) fn mac(key: &Hmac<Sha256>, id: &str, timestamp: &[u8], payload: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(id.as_bytes());
    // One update with id and timestamp joined by dots is faster than three short updates.
    let mut dotted = [b'.'; 2 + Timestamp::DIGITS_MAX];
    let dotted = &mut dotted[..2 + timestamp.len()];
    dotted[1..=timestamp.len()].copy_from_slice(timestamp);
    mac.update(dotted);
    mac.update(payload);
    mac
}

/// Strips `v1,` from `item` if it is there. `None` if the rest does not have the length of a
/// signature.
fn letters_of_signature(item: &[u8]) -> Option<&Signature> {
    item.strip_prefix(b"v1,").unwrap_or(item).try_into().ok()
}

/// Compares `letters` with the base64 of `mac`, exactly, in a time that does not depend on `mac`.
///
/// A signature is public, so its letters may index a table. Each group is compared as it is
/// decoded: a general decoder takes longer than a block of SHA-256.
fn is_base64_of(letters: &Signature, mac: &[u8; MAC_BYTES]) -> bool {
    let (groups, _) = letters.as_chunks();
    let (groups_of_bytes, _) = mac.as_chunks();
    let mut difference = 0;
    for (&letters, &[x, y, z]) in groups.iter().zip(groups_of_bytes) {
        difference |= base64_bits(letters) ^ u32::from_be_bytes([0, x, y, z]);
    }
    // The last group has one byte and one letter less, which count as zero.
    let ([.., x, y, z, padding], [.., last_but_one, last]) = (*letters, *mac);
    difference |= base64_bits([x, y, z, b'A']) ^ u32::from_be_bytes([0, last_but_one, last, 0]);
    difference |= u32::from(padding ^ b'=');
    difference == 0
}

/// The 24 bits of four base64 letters. A higher bit is set if any of them is not a base64 letter.
fn base64_bits(letters: [u8; 4]) -> u32 {
    let [a, b, c, d] = letters.map(|letter| u32::from(BASE64_VALUES[usize::from(letter)]));
    a << 18 | b << 12 | c << 6 | d | ((a | b | c | d) & u32::from(NO_BASE64)) << 24
}

/// Entry of [`BASE64_VALUES`] for a byte outside the alphabet. Letters have six bits.
const NO_BASE64: u8 = 1 << 6;

/// The six bits of each base64 letter.
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

/// Unix time in whole seconds. A clock before 1970 gives 0.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
