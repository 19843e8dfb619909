//! Where in the text a mistake is, and where secrets come from.

use std::env::VarError;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use openai_webhooks::{KEY_BYTES_MIN, Secret};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use zeroize::Zeroizing;

/// A mistake in the text of a configuration.
#[derive(Debug)]
pub(super) struct Mistake {
    /// Bytes of the text it is about.
    span: Option<Range<usize>>,
    /// What is wrong and what to do, without any value of the text: it may be a secret in the wrong place.
    pub(super) problem: String,
}

impl Mistake {
    pub(super) fn new(span: Range<usize>, problem: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            problem: problem.into(),
        }
    }

    /// About the whole text.
    pub(super) fn whole(problem: impl Into<String>) -> Self {
        Self {
            span: None,
            problem: problem.into(),
        }
    }

    pub(super) fn from_toml(error: &toml::de::Error) -> Self {
        Self {
            span: error.span(),
            problem: explain(error.message()),
        }
    }

    /// The line of the text, counted from 1.
    pub(super) fn line(&self, text: &str) -> Option<usize> {
        let start = self.span.as_ref()?.start;
        let before = text.get(..start)?;
        Some(before.matches('\n').count() + 1)
    }
}

/// The parser's message, without the values it may quote, and with the nearest right name for a wrong one.
fn explain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((wrong, rest)) = rest.split_once('`')
    {
        if looks_secret(wrong) {
            return "a secret stands here where a key belongs; take it out and replace it, it is known to who reads this file".into();
        }
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let nearest = known
            .iter()
            .max_by(|a, b| strsim::jaro(a, wrong).total_cmp(&strsim::jaro(b, wrong)));
        let hint = nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        return format!(
            "there is no key `{wrong}` here{hint} (known: {})",
            known.join(", ")
        );
    }
    match message.rsplit_once(", expected ") {
        Some((wrong, expected))
            if wrong.starts_with("invalid ") || wrong.starts_with("unknown ") =>
        {
            match expected {
                "u32" | "u64" | "usize" => "this must be a whole number".into(),
                "a sequence" => {
                    "this must be a list, [ … ], or a table in double brackets, [[…]]".into()
                }
                expected => format!("this must be {expected}"),
            }
        }
        _ => message.to_owned(),
    }
}

pub(super) fn looks_secret(text: &str) -> bool {
    text.contains("whsec_")
}

/// Where a secret is to be read: never the configuration itself, which is copied, shown and committed.
#[derive(Clone, Debug)]
pub(crate) enum SecretSource {
    Env(String),
    File(PathBuf),
}

impl SecretSource {
    /// Reads the secret. The error says where it was looked for, never what it is.
    pub(crate) fn read(&self) -> Result<Secret, String> {
        let text = self.read_text()?;
        Secret::parse(&text).map_err(|error| format!("{self}: {error}"))
    }

    /// As [`read`](Self::read), for a secret that signs nothing.
    pub(super) fn read_text(&self) -> Result<Zeroizing<String>, String> {
        let place = match self {
            Self::Env(name) => name.as_str(),
            Self::File(path) => path.to_str().unwrap_or_default(),
        };
        if looks_secret(place) {
            return Err("this is a secret where the name of a variable or a file belongs; put the secret there, and replace it if others have seen it".into());
        }
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                VarError::NotUnicode(_) => format!("{self} is not valid UTF-8: copy the secret again"),
                VarError::NotPresent => format!("{self} is not set: set it to the secret, or name a file that holds it instead (`{{ file = \"PATH\" }}` in a configuration)"),
            }),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("{self} cannot be read: {error}")),
        }?;
        Ok(Zeroizing::new(text))
    }

    /// As [`read`](Self::read), and no secret that could be guessed.
    pub(super) fn read_strong(&self) -> Result<Secret, String> {
        let secret = self.read()?;
        if secret.key_bytes() < KEY_BYTES_MIN {
            return Err(format!(
                "{self}: the secret has {} bytes, which is too few to be safe; `unwrapd secret` makes a good one",
                secret.key_bytes()
            ));
        }
        Ok(secret)
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) if is_usual_name(name) => write!(f, "the environment variable {name}"),
            // It may be the secret itself.
            Self::Env(_) => f.write_str("the environment variable that is named there"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

fn is_usual_name(variable: &str) -> bool {
    variable
        .bytes()
        .all(|letter| matches!(letter, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;

        const EXPECTED: &str = "`{ env = \"NAME\" }` or `{ file = \"PATH\" }`: a secret does not stand in the configuration itself";

        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = SecretSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
                let wrong = || de::Error::custom(format_args!("this must be {EXPECTED}"));
                let key: Option<String> = map.next_key()?;
                let source = match key.as_deref() {
                    Some("env") => SecretSource::Env(map.next_value()?),
                    Some("file") => SecretSource::File(map.next_value()?),
                    _ => return Err(wrong()),
                };
                match map.next_key::<String>()? {
                    None => Ok(source),
                    Some(_) => Err(wrong()),
                }
            }
        }

        deserializer.deserialize_any(SourceVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_no_value_of_the_text() {
        let message = r#"invalid type: string "whsec_secret, expected x", expected a sequence"#;
        assert!(explain(message).starts_with("this must be a list"));
    }

    #[test]
    fn the_nearest_right_name_is_offered() {
        let message = "unknown field `lisen`, expected `listen` or `admin`";
        assert!(explain(message).contains("did you mean `listen`?"));
    }
}
