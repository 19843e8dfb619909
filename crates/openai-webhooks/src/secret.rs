//! The webhook secret, which is the key of an HMAC. OpenAI shows it once, when an endpoint is
//! created ([guide](https://developers.openai.com/api/docs/guides/webhooks)).

mod mistaken;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::Zeroizing;

/// Name of the environment variable from which the official OpenAI SDKs read the webhook secret.
pub const OPENAI_WEBHOOK_SECRET: &str = "OPENAI_WEBHOOK_SECRET";

/// Minimum length of a key after `whsec_`, in bytes. Standard Webhooks asks for [24 to 64
/// bytes][spec].
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
pub const KEY_BYTES_MIN: usize = 24;

const PREFIX: &str = "whsec_";

/// Padding may be missing: it is often lost in copy and paste. For any other deviation the key
/// would be a guess.
const PADDING_MAY_MISS: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const SECRET_BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, PADDING_MAY_MISS);

/// A webhook secret, usable as a key.
///
/// Text that begins with `whsec_` is the prefix and standard base64 ([Standard Webhooks][spec]).
/// Any other text is the key itself, as UTF-8, as in every official OpenAI SDK. White space, line
/// ends, a byte order mark and invisible characters around the secret are dropped, so that a secret
/// can be read from a file.
///
/// Text that is certainly something else is refused, and the error names it: an API key, the id of
/// an endpoint, a line of a `.env` file, a variable that was not expanded, a placeholder. Used as a
/// key, such text would refuse every webhook without an explanation.
///
/// A `Secret` prints as `[redacted]`. Its bytes are wiped when it is dropped.
///
/// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
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
    /// Parses a secret.
    ///
    /// # Errors
    ///
    /// Returns a [`SecretError`] that names the problem and never shows the text.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let secret = Self::parse_short(text)?;
        if secret.key.len() < KEY_BYTES_MIN && mistaken::trim(text).starts_with(PREFIX) {
            return Err(SecretError::TooShort {
                bytes: secret.key.len(),
            });
        }
        Ok(secret)
    }

    /// Does the same as [`parse`](Self::parse), and also accepts a `whsec_` key shorter than
    /// [`KEY_BYTES_MIN`]. Use it in tests only: a short key can be guessed.
    ///
    /// # Errors
    ///
    /// Returns a [`SecretError`] that names the problem and never shows the text.
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

    /// Parses one or more secrets, separated by blanks, line ends or commas; during a rotation, the
    /// newest first. If there are several, each must begin with `whsec_`. Text without that prefix
    /// may contain blanks and commas, and is one secret.
    ///
    /// ```
    /// use openai_webhooks::{Secret, Webhooks};
    ///
    /// let text = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX, whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA";
    /// let webhooks: Webhooks = Secret::parse_list(text)?.into_iter().collect();
    /// # Ok::<(), openai_webhooks::SecretError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns a [`SecretError`] for the first text that is not a secret.
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

    /// Parses the secret in the environment variable [`OPENAI_WEBHOOK_SECRET`]. If the variable
    /// holds several, use [`Webhooks::from_env`](crate::Webhooks::from_env).
    ///
    /// # Errors
    ///
    /// Returns a [`SecretError`] if the variable is not set, or holds text that is not a secret.
    pub fn from_env() -> Result<Self, SecretError> {
        Self::parse(&env()?)
    }

    pub(crate) fn list_from_env() -> Result<Vec<Self>, SecretError> {
        Self::parse_list(&env()?)
    }

    /// Makes a secret from key bytes, for instance from 32 random bytes of the operating system.
    ///
    /// # Errors
    ///
    /// Returns [`SecretError::Empty`] if `key` is empty.
    pub fn from_key(key: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let key = Zeroizing::new(key.into());
        if key.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self { key })
    }

    /// The secret as text: `whsec_` and the key in base64. The caller must keep it out of logs.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", SECRET_BASE64.encode(&*self.key)))
    }

    /// Length of the key, in bytes.
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

    /// Does the same as [`Secret::parse`].
    fn from_str(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Secret {
    type Error = SecretError;

    /// Does the same as [`Secret::parse`].
    fn try_from(text: &str) -> Result<Self, SecretError> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Parses text as [`Secret::parse`] does, for configuration files. No error shows the value.
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

            // The default errors of these types would show the value.
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

        // With `deserialize_str`, the deserializer would make the error itself and show the value.
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

/// Problem of a webhook secret. No variant holds the secret or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The environment variable is not set.
    #[error(
        "the environment variable {OPENAI_WEBHOOK_SECRET} is not set: set it to the secret that \
         OpenAI showed when you created the webhook endpoint"
    )]
    NotInEnvironment,
    /// The environment variable is not valid UTF-8.
    #[error(
        "the environment variable {OPENAI_WEBHOOK_SECRET} is not valid UTF-8: copy the secret again"
    )]
    NotUnicode,
    /// Empty, blank, or nothing after `whsec_`. With an empty key, anyone could forge a webhook.
    #[error("the webhook secret is empty: copy the whole secret, which begins with `whsec_`")]
    Empty,
    /// Quotation marks enclose the secret, and would become part of the key.
    #[error("the webhook secret has quotation marks around it: remove them")]
    Quoted,
    /// The text begins with `v1,`, as signatures do.
    #[error(
        "the webhook secret begins with `v1,` or `webhook-signature`, which belongs to signatures: remove everything before `whsec_`"
    )]
    SignaturePrefix,
    /// `whsec_` is not at the beginning: `Bearer whsec_…`, or a line of a `.env` file.
    #[error(
        "`whsec_` is not at the beginning of the text: remove everything before it, and everything after the secret"
    )]
    PrefixInside,
    /// The prefix is misspelt, such as `whsec-`, or truncated.
    #[error(
        "the prefix of the webhook secret is misspelt or truncated: it is `whsec_`; copy the whole secret again"
    )]
    PrefixSpelling,
    /// `whsec_whsec_…`
    #[error("the webhook secret begins with `whsec_` twice: remove one of them")]
    PrefixTwice,
    /// Several secrets, where one is expected.
    #[error("this holds several webhook secrets, but one is expected: configure each separately")]
    Several,
    /// Several lines, none of which begins with `whsec_`.
    #[error("the webhook secret has several lines: keep the one that begins with `whsec_`")]
    SeveralLines,
    /// `sk-…`
    #[error(
        "this is an API key, not a webhook secret: copy the secret that OpenAI showed when you \
         created the webhook endpoint; it begins with `whsec_`"
    )]
    ApiKey,
    /// `whe_…`
    #[error(
        "this is the id of a webhook endpoint, not its secret: the secret begins with `whsec_`, \
         and OpenAI shows it once, when you create the endpoint"
    )]
    EndpointId,
    /// The id of another object: `wh_…`, `evt_…`, `proj_…`.
    #[error("this is an id, not a webhook secret: the secret begins with `whsec_`")]
    OtherId,
    /// A key of asymmetric signatures: of [Standard Webhooks][spec] or SSH, or in PEM.
    ///
    /// [spec]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
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
        "this is a configuration line with a name and a value: keep only the value, which begins with `whsec_`"
    )]
    Assignment,
    /// A path, a URL, or the name of an entry in a vault.
    #[error(
        "this is the location of a secret, not a webhook secret: read the secret from there and use it here"
    )]
    Place,
    /// A variable that was not expanded: `${NAME}`, `$NAME`, `%NAME%`, `{{ name }}`.
    #[error(
        "this is the name of a variable that was not expanded: use its value, which begins with `whsec_`"
    )]
    NotExpanded,
    /// `undefined`, `null`, `<your secret>`, `changeme`
    #[error(
        "this is a placeholder, not a secret: replace it with the webhook secret, which begins with `whsec_`"
    )]
    Placeholder,
    /// `whsec_…abcd`, `whsec_****abcd`
    #[error(
        "a part of the webhook secret is left out or masked: copy the whole secret, which OpenAI \
         shows once, when you create the endpoint or rotate its secret"
    )]
    Masked,
    /// The base64 or hexadecimal form of a text that begins with `whsec_`.
    #[error(
        "this is a webhook secret encoded again, as base64 or hexadecimal digits: decode it; the secret begins with `whsec_`"
    )]
    EncodedTwice,
    /// The secret in the encrypted form of a configuration tool.
    #[error(
        "this is an encrypted form of a secret: decrypt it with the tool that encrypted it; the webhook secret begins with `whsec_`"
    )]
    Encrypted,
    /// The error message of a command that should have printed the secret.
    #[error(
        "this is the error message of a program, not a webhook secret: run the command that should print the secret, and fix its error"
    )]
    Message,
    /// The text contains an invisible character.
    #[error("the webhook secret contains an invisible character: copy it again from its source")]
    Invisible,
    /// The prefix is not in lower case: `WHSEC_`.
    #[error(
        "the prefix of the webhook secret is not in lower case: it is `whsec_`; copy the secret again, in its original case"
    )]
    PrefixCase,
    /// A blank or a line end inside the secret.
    #[error("the webhook secret contains a blank or a line end: copy it again, in one piece")]
    InnerBlank,
    /// `-` or `_`, from the URL-safe alphabet of base64.
    #[error(
        "the webhook secret contains `-` or `_` after `whsec_`: it must be standard base64, with `+` and `/`"
    )]
    UrlAlphabet,
    /// A character that is in no base64 alphabet.
    #[error(
        "the webhook secret contains a character after `whsec_` that is not base64: copy it again"
    )]
    InvalidCharacter,
    /// `=` in the wrong position, or too often.
    #[error(
        "the webhook secret has `=` in the wrong position or too often: copy it again, to its end"
    )]
    Padding,
    /// A length that no base64 text has.
    #[error("the webhook secret is cut short: copy it again, to its end")]
    CutShort,
    /// The unused bits of the last letter are not zero, so a letter is wrong or missing.
    #[error(
        "the last letter of the webhook secret is impossible in base64: a letter is wrong or missing, copy it again"
    )]
    SpareBits,
    /// The key is shorter than [`KEY_BYTES_MIN`] bytes.
    #[error(
        "the key of the webhook secret has {bytes} bytes, too few to be safe; the minimum is {KEY_BYTES_MIN}: copy the whole secret"
    )]
    TooShort {
        /// Length of the key, in bytes.
        bytes: usize,
    },
}
