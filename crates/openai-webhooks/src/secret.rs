//! The webhook secret: what OpenAI shows once when an endpoint is made, as the key of an HMAC.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// The environment variable that the official OpenAI SDKs read the webhook secret from.
pub const OPENAI_WEBHOOK_SECRET: &str = "OPENAI_WEBHOOK_SECRET";

/// Fewest bytes of key material accepted behind `whsec_`. The Standard Webhooks specification asks for 24 to 64 bytes.
pub const KEY_BYTES_MIN: usize = 24;

const PREFIX: &str = "whsec_";

/// Padding may be missing, as it often is after copy and paste; every other deviation would be a guess at the key.
const SECRET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A webhook secret, ready to be used as a key.
///
/// A text that begins with `whsec_` is standard base64 behind that prefix; any other text is the key itself, as UTF-8, which is
/// what every official OpenAI SDK does. Blanks and line ends around it are dropped, so that a secret read from a file works.
///
/// A `Secret` prints as `[redacted]` and its bytes are wiped when it is dropped.
///
/// ```
/// use openai_webhooks::Secret;
///
/// let secret = Secret::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX\n")?;
/// assert_eq!(format!("{secret:?}"), "Secret([redacted])");
/// # Ok::<(), openai_webhooks::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Secret {
    key: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// Reads a secret. The error says what is wrong with the text and never shows it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let secret = Self::parse_short(text)?;
        if secret.key.len() < KEY_BYTES_MIN && text.trim_ascii_start().starts_with(PREFIX) {
            return Err(SecretError::TooShort {
                bytes: secret.key.len(),
            });
        }
        Ok(secret)
    }

    /// As [`parse`](Self::parse), but a `whsec_` key may be shorter than [`KEY_BYTES_MIN`]. For tests only: such a key can be guessed.
    pub fn parse_short(text: &str) -> Result<Self, SecretError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
            return Err(SecretError::Quoted);
        }
        if text.starts_with("v1,") {
            return Err(SecretError::SignaturePrefix);
        }
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let is_prefix_in_other_case = text
                .get(..PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
            if is_prefix_in_other_case {
                return Err(SecretError::PrefixCase);
            }
            return Self::from_key(text);
        };
        Self::from_key(decode(encoded)?)
    }

    /// Reads the secret in the environment variable [`OPENAI_WEBHOOK_SECRET`].
    pub fn from_env() -> Result<Self, SecretError> {
        match std::env::var(OPENAI_WEBHOOK_SECRET) {
            Ok(text) => Self::parse(&Zeroizing::new(text)),
            Err(std::env::VarError::NotPresent) => Err(SecretError::NotInEnvironment),
            Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NotUnicode),
        }
    }

    /// A secret from key bytes, for instance 32 bytes from the operating system's random source. There must be some.
    pub fn from_key(key: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let key = Zeroizing::new(key.into());
        if key.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self { key })
    }

    /// The secret as text to hand to someone: `whsec_` and the key in base64. Mind where it goes.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", SECRET_BASE64.encode(&*self.key)))
    }

    /// How many bytes the key has.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.key.len()
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

fn decode(encoded: &str) -> Result<Vec<u8>, SecretError> {
    let digits = encoded.trim_end_matches('=');
    for letter in digits.bytes() {
        match letter {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {}
            b'-' | b'_' => return Err(SecretError::UrlAlphabet),
            b'=' => return Err(SecretError::Padding),
            letter if letter.is_ascii_whitespace() => return Err(SecretError::InnerBlank),
            _ => return Err(SecretError::InvalidCharacter),
        }
    }
    if digits.is_empty() {
        return Err(SecretError::Empty);
    }
    SECRET_BASE64.decode(encoded).map_err(|error| match error {
        base64::DecodeError::InvalidLength(_) => SecretError::CutShort,
        base64::DecodeError::InvalidLastSymbol { .. } => SecretError::SpareBits,
        _ => SecretError::Padding,
    })
}

/// What is wrong with a webhook secret. It never holds the secret or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No such environment variable.
    #[error(
        "the environment variable {OPENAI_WEBHOOK_SECRET} is not set: set it to the secret that OpenAI showed when the webhook endpoint was made"
    )]
    NotInEnvironment,
    /// The environment variable is not UTF-8.
    #[error(
        "the environment variable {OPENAI_WEBHOOK_SECRET} is not valid UTF-8: copy the secret again"
    )]
    NotUnicode,
    /// Empty, only blanks, or nothing behind `whsec_`. With such a key anyone could forge a webhook.
    #[error("the webhook secret is empty: copy the whole secret, beginning with `whsec_`")]
    Empty,
    /// Quotation marks around the secret would become part of the key.
    #[error("the webhook secret has quotation marks around it: leave them out")]
    Quoted,
    /// The text begins with `v1,`, as signatures do.
    #[error(
        "the webhook secret begins with `v1,`, which belongs to signatures: leave out everything before `whsec_`"
    )]
    SignaturePrefix,
    /// `WHSEC_` and the like.
    #[error(
        "the prefix of the webhook secret is not in lower case: it is `whsec_`; copy the secret again, its case matters"
    )]
    PrefixCase,
    /// A blank or a line end inside.
    #[error("the webhook secret has a blank or a line end inside: copy it again, in one piece")]
    InnerBlank,
    /// `-` or `_`, from the URL-safe alphabet of base64.
    #[error(
        "the webhook secret holds `-` or `_` behind `whsec_`: it must be standard base64, with `+` and `/`"
    )]
    UrlAlphabet,
    /// A letter that is in no base64 alphabet.
    #[error(
        "the webhook secret holds a character that is not base64 behind `whsec_`: copy it again"
    )]
    InvalidCharacter,
    /// `=` in the wrong place or too often.
    #[error(
        "the webhook secret has `=` in the wrong place or too often: copy it again, to its end"
    )]
    Padding,
    /// A length that no base64 text has.
    #[error("the webhook secret is cut short: copy it again, to its end")]
    CutShort,
    /// Bits behind the key that must be zero are not; a letter is wrong or missing.
    #[error(
        "the last letter of the webhook secret is impossible in base64: a letter is wrong or missing, copy it again"
    )]
    SpareBits,
    /// Fewer than [`KEY_BYTES_MIN`] bytes of key.
    #[error(
        "the webhook secret holds {bytes} bytes of key, which is too few to be safe: it needs {KEY_BYTES_MIN} or more; copy the whole secret"
    )]
    TooShort {
        /// How many bytes of key there are.
        bytes: usize,
    },
}
