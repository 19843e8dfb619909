//! The webhook secret: what OpenAI shows once when an endpoint is made, as the key of an HMAC.

mod mistaken;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::Zeroizing;

/// The environment variable that the official OpenAI SDKs read the webhook secret from.
pub const OPENAI_WEBHOOK_SECRET: &str = "OPENAI_WEBHOOK_SECRET";

/// Fewest bytes of key material accepted behind `whsec_`. The Standard Webhooks specification asks for 24 to 64 bytes.
pub const KEY_BYTES_MIN: usize = 24;

const PREFIX: &str = "whsec_";

/// Padding may be missing, as it often is after copy and paste; every other deviation would be a guess at the key.
const PADDING_MAY_MISS: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const SECRET_BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, PADDING_MAY_MISS);

/// A webhook secret, ready to be used as a key.
///
/// A text that begins with `whsec_` is standard base64 behind that prefix; any other text is the
/// key itself, as UTF-8, which is what every official OpenAI SDK does. Blanks of any alphabet, line
/// ends, a byte order mark and what else cannot be seen are dropped around it, so that a secret
/// read from a file works.
///
/// A text that is surely something else is refused, and the error names it: an API key, the id of
/// an endpoint, a line of a `.env` file, a variable that was not replaced, a placeholder. Taken for
/// a key, it would refuse every webhook and give no reason.
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
        if secret.key.len() < KEY_BYTES_MIN && mistaken::trim(text).starts_with(PREFIX) {
            return Err(SecretError::TooShort {
                bytes: secret.key.len(),
            });
        }
        Ok(secret)
    }

    /// As [`parse`](Self::parse), but a `whsec_` key may be shorter than [`KEY_BYTES_MIN`]. For
    /// tests only: such a key can be guessed.
    pub fn parse_short(text: &str) -> Result<Self, SecretError> {
        let text = mistaken::trim(text);
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if let Some(error) = mistaken::recognise(text) {
            return Err(error);
        }
        match text.strip_prefix(PREFIX) {
            Some(encoded) => Self::from_key(decode(encoded)?),
            None => Self::from_key(text),
        }
    }

    /// Reads one secret, or several that are divided by blanks, line ends or commas: for a
    /// rotation, the newest first. Each of several must begin with `whsec_`; text without it may
    /// hold blanks and commas, and is one secret.
    ///
    /// ```
    /// use openai_webhooks::{Secret, Webhooks};
    ///
    /// let text = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX, whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
    /// let webhooks: Webhooks = Secret::parse_list(text)?.into_iter().collect();
    /// # Ok::<(), openai_webhooks::SecretError>(())
    /// ```
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SecretError> {
        let trimmed = mistaken::trim(text);
        let is_separator = |letter: char| letter.is_whitespace() || letter == ',';
        let pieces = || {
            let pieces = trimmed.split(is_separator).map(mistaken::trim);
            pieces.filter(|piece| !piece.is_empty())
        };
        if trimmed.contains(is_separator) && pieces().all(|piece| piece.starts_with(PREFIX)) {
            let secrets: Vec<Self> = pieces().map(Self::parse).collect::<Result<_, _>>()?;
            if !secrets.is_empty() {
                return Ok(secrets);
            }
        }
        Self::parse(text).map(|secret| vec![secret])
    }

    /// Reads the secret in the environment variable [`OPENAI_WEBHOOK_SECRET`]. Where several stand there, see
    /// [`Webhooks::from_env`](crate::Webhooks::from_env).
    pub fn from_env() -> Result<Self, SecretError> {
        Self::parse(&env()?)
    }

    pub(crate) fn list_from_env() -> Result<Vec<Self>, SecretError> {
        Self::parse_list(&env()?)
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

impl FromStr for Secret {
    type Err = SecretError;

    /// As [`Secret::parse`].
    fn from_str(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Secret {
    type Error = SecretError;

    /// As [`Secret::parse`].
    fn try_from(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// From text, as [`Secret::parse`], for a configuration. No error shows the value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a webhook secret, as text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Secret::parse(text).map_err(E::custom)
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
                self.visit_str(&Zeroizing::new(text))
            }

            // Their usual errors would show the value.
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(not_text())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(not_text())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(not_text())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(not_text())
            }
        }

        fn not_text<E: de::Error>() -> E {
            E::custom("a webhook secret is text: put it in quotation marks")
        }

        // Asked for text, a deserializer makes the error itself, and shows the value.
        deserializer.deserialize_any(TextVisitor)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

fn env() -> Result<Zeroizing<String>, SecretError> {
    match std::env::var(OPENAI_WEBHOOK_SECRET) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(std::env::VarError::NotPresent) => Err(SecretError::NotInEnvironment),
        Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NotUnicode),
    }
}

fn decode(encoded: &str) -> Result<Vec<u8>, SecretError> {
    let digits = encoded.trim_end_matches('=');
    if digits.contains(char::is_whitespace) {
        return Err(SecretError::InnerBlank);
    }
    for letter in digits.chars() {
        match letter {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '+' | '/' => {}
            '-' | '_' => return Err(SecretError::UrlAlphabet),
            '=' => return Err(SecretError::Padding),
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
        "the webhook secret begins with `v1,` or `webhook-signature`, which belongs to signatures: leave out everything before `whsec_`"
    )]
    SignaturePrefix,
    /// `whsec_` is not at the start: `Bearer whsec_…`, or a line of a `.env` file.
    #[error(
        "`whsec_` stands inside the text and not at its start: leave out everything before it, and what may stand behind the secret"
    )]
    PrefixInside,
    /// `whsec-` and the like, or a part of it.
    #[error(
        "the prefix of the webhook secret is misspelt or cut: it is `whsec_`; copy the whole secret again"
    )]
    PrefixSpelling,
    /// `whsec_whsec_…`
    #[error("the webhook secret begins with `whsec_` twice: leave out one of them")]
    PrefixTwice,
    /// Several secrets, where one belongs.
    #[error(
        "several webhook secrets stand here, and one belongs here: give each a place of its own"
    )]
    Several,
    /// Several lines, none of which begins with `whsec_`.
    #[error("the webhook secret has several lines: keep the one that begins with `whsec_`")]
    SeveralLines,
    /// `sk-…`
    #[error(
        "this is an API key, not a webhook secret: copy the secret that OpenAI showed when the webhook endpoint was made, it begins with `whsec_`"
    )]
    ApiKey,
    /// `whe_…`
    #[error(
        "this is the id of a webhook endpoint, not its secret: the secret begins with `whsec_`, and OpenAI shows it once, when the endpoint is made"
    )]
    EndpointId,
    /// `wh_…`, `evt_…`, `proj_…`: the id of something.
    #[error("this is an id, not a webhook secret: the secret begins with `whsec_`")]
    OtherId,
    /// A key of the asymmetric signatures of Standard Webhooks, of SSH, or in PEM.
    #[error(
        "this is a public or private key of asymmetric signatures, which OpenAI does not use: the webhook secret begins with `whsec_`"
    )]
    AsymmetricKey,
    /// `Bearer …`, `Basic …`
    #[error(
        "this is the value of an `Authorization` header, not a webhook secret: the secret begins with `whsec_`"
    )]
    Authorization,
    /// `eyJ….….…`
    #[error("this is a JSON Web Token, not a webhook secret: the secret begins with `whsec_`")]
    WebToken,
    /// `NAME=…`, `secret: …` or `{"secret": …}`
    #[error(
        "this is a line of a configuration, with a name and a value: keep the value alone, it begins with `whsec_`"
    )]
    Assignment,
    /// A path, a URL, or the name of an entry in a vault.
    #[error(
        "this says where something is kept, it is no webhook secret: read the secret from there and give that"
    )]
    Place,
    /// `${NAME}`, `$NAME`, `%NAME%`, `{{ name }}`: nothing replaced it.
    #[error(
        "this is the name of a variable that was not expanded: give its value, which begins with `whsec_`"
    )]
    NotExpanded,
    /// `undefined`, `null`, `<your secret>`, `changeme`
    #[error(
        "this is a placeholder, not a secret: put the webhook secret in its place, it begins with `whsec_`"
    )]
    Placeholder,
    /// `whsec_…abcd`, `whsec_****abcd`
    #[error(
        "a part of the webhook secret is left out or masked: OpenAI shows the whole secret once, when the endpoint is made or its secret is rotated; copy that"
    )]
    Masked,
    /// The base64 or hexadecimal form of a text that begins with `whsec_`.
    #[error(
        "this is a webhook secret that was encoded once more, as base64 or hexadecimal digits: decode it, it begins with `whsec_`"
    )]
    EncodedTwice,
    /// The secret as a tool for encrypted configurations keeps it.
    #[error(
        "this is an encrypted form of a secret: have the tool that encrypted it decrypt it; the webhook secret begins with `whsec_`"
    )]
    Encrypted,
    /// The message of a command that failed to print the secret.
    #[error(
        "this is a message of a program, not a webhook secret: run the command that should print the secret, and see why it fails"
    )]
    Message,
    /// A letter that cannot be seen stands inside.
    #[error(
        "the webhook secret holds a character that cannot be seen: copy it again, from where it was shown"
    )]
    Invisible,
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
