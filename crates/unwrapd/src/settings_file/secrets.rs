//! Reads secrets from the environment or a file, and makes verifiers and signers of them.

use std::env::VarError;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use openai_webhooks::{KEY_BYTES_MIN, Secret, Webhooks};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use toml::Spanned;
use zeroize::Zeroizing;

use super::mistakes::{Mistake, Mistakes, looks_secret};
use super::paths::shown_path;
use crate::files;

/// Largest file with a secret. The longest secret that anyone makes has some hundred bytes.
const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;

/// The remedy where a file is missing. A shell would make the file readable by everybody.
const MISSING_FILE: &str = "put the secret into it; for a destination or `admin_token`, `(umask 077; unwrapd secret > FILE)` makes one";

/// The source of a secret: the environment or a file. The configuration itself is copied, shown and
/// committed, so it holds none.
#[derive(Clone, Debug)]
pub(crate) enum SecretSource {
    Env(String),
    File(PathBuf),
}

impl SecretSource {
    /// Reads the secret. The error names the source, and never holds the secret.
    pub(crate) fn read(&self) -> Result<Secret, String> {
        let text = self.read_text()?;
        Secret::parse(&text).map_err(|error| format!("{self}: {error}"))
    }

    /// As [`read`](Self::read), for a secret that signs nothing.
    pub(crate) fn read_text(&self) -> Result<Zeroizing<String>, String> {
        let place = match self {
            Self::Env(name) => name.as_str(),
            Self::File(path) => path.to_str().unwrap_or_default(),
        };
        if looks_secret(place) {
            return Err(
                "this is a secret where the name of a variable or a file belongs: put it into that \
                 variable or file, and replace the secret if others have seen it"
                    .into(),
            );
        }
        match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(text) => Ok(without_mark(text)),
                Err(VarError::NotPresent) => Err(format!(
                    "{self} is not set: set it to the secret, or name a file with the secret \
                     instead (`{{ file = \"PATH\" }}` in a configuration)"
                )),
                Err(VarError::NotUnicode(_)) => {
                    Err(format!("{self} is not valid UTF-8: copy the secret again"))
                }
            },
            Self::File(path) => {
                read_file(path).map_err(|problem| format!("{self} cannot be read: {problem}"))
            }
        }
    }

    /// Does the same as [`read`](Self::read), and refuses a secret that could be guessed.
    pub(crate) fn read_strong(&self) -> Result<Secret, String> {
        let secret = self.read()?;
        if secret.key_bytes() < KEY_BYTES_MIN {
            return Err(format!(
                "{self}: the secret has {} bytes, which is too few to be safe; `unwrapd secret` generates a strong one",
                secret.key_bytes()
            ));
        }
        Ok(secret)
    }
}

/// The text of a file, without a byte order mark. Warns if every user of the machine may read it.
fn read_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let content = files::read(path, SECRET_FILE_BYTES_MAX).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no such file: {MISSING_FILE}"),
        _ => error.to_string(),
    })?;
    let text = Zeroizing::new(files::text(&content.bytes)?.to_owned());
    if content.is_readable_by_all {
        tracing::warn!(
            "every user of this machine may read the secret in {0}: chmod o-r {0} (in Kubernetes set its `defaultMode` to 0440)",
            path.display()
        );
    }
    Ok(text)
}

/// Without the byte order mark that some editors put in front.
fn without_mark(text: String) -> Zeroizing<String> {
    let text = Zeroizing::new(text);
    match text.strip_prefix('\u{FEFF}') {
        Some(rest) => Zeroizing::new(rest.to_owned()),
        None => text,
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) if is_usual_name(name) => write!(f, "the environment variable {name}"),
            // The name may be the secret itself.
            Self::Env(_) => f.write_str("the environment variable that is named there"),
            Self::File(path) => write!(f, "the file {}", shown_path(path)),
        }
    }
}

fn is_usual_name(variable: &str) -> bool {
    !variable.is_empty()
        && variable
            .bytes()
            .all(|letter| matches!(letter, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;

        const EXPECTED: &str = "`{ env = \"NAME\" }` or `{ file = \"PATH\" }`: secrets must not be written in the configuration file";

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

/// A verifier and signer with several secrets, the newest first; `None` if there is none.
pub(crate) fn webhooks(sources: &[Spanned<SecretSource>]) -> Result<Option<Webhooks>, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut webhooks: Option<Webhooks> = None;
    for source in sources {
        let secret = source
            .get_ref()
            .read_strong()
            .map_err(|problem| Mistake::new(source.span(), problem));
        let Some(secret) = mistakes.keep(secret) else {
            continue;
        };
        webhooks = Some(match webhooks {
            None => Webhooks::from(&secret),
            Some(webhooks) => webhooks.and(&secret),
        });
    }
    mistakes.check()?;
    Ok(webhooks)
}

/// The numbers of added and removed secrets, if the secrets differ.
pub(crate) fn changed_secrets(old: &Webhooks, new: &Webhooks) -> Option<String> {
    let (old, new) = (old.fingerprints(), new.fingerprints());
    let not_in =
        |all: &[String], others: &[String]| all.iter().filter(|one| !others.contains(one)).count();
    let (added, removed) = (not_in(&new, &old), not_in(&old, &new));
    (added + removed > 0).then(|| format!("secrets ({added} added, {removed} removed)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_secrets_are_counted_whatever_form_they_have() {
        let webhooks = |secret| Webhooks::new(secret).unwrap();
        // The same key, once as base64 and once raw.
        let encoded = webhooks("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
        let raw = webhooks("0123456789abcdef01234567");
        assert_eq!(changed_secrets(&raw, &encoded), None);
        let other = webhooks("another secret of 24 bytes");
        assert_eq!(
            changed_secrets(&encoded, &other).unwrap(),
            "secrets (1 added, 1 removed)"
        );
    }
}
