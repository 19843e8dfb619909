//! What takes the messages of a destination: exactly one of `url`, `command` and `jsonl`, and the keys that belong to it.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::{Destination, webhooks, within};
use crate::config::source::{Mistake, SecretSource, looks_secret};
use crate::config::url::http_url;
use crate::destination::Kind;
use crate::destination::command::CommandSettings;
use crate::destination::http::HttpSettings;
use crate::destination::jsonl::JsonLinesSettings;

/// Longest wait for a connection: what takes longer is not there.
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 60;
/// Most secrets to sign with at once: a new one and an old one, and one that was forgotten. Each costs a signature a request.
const SECRETS_MAX: usize = 3;

impl Destination {
    pub(super) fn kind(&mut self) -> Result<Kind, Mistake> {
        match (self.url.take(), self.command.take(), self.jsonl.take()) {
            (Some(url), None, None) => self.http(&url),
            (None, Some(command), None) => {
                self.refuse_keys_of_urls("a command is started by us, not called")?;
                self::command(&command)
            }
            (None, None, Some(jsonl)) => {
                self.refuse_keys_of_urls("lines are written, not sent")?;
                lines(&jsonl)
            }
            (None, None, None) => Err(Mistake::new(
                self.name.span(),
                "a destination needs one of `url = \"https://…\"`, `command = [\"program\", \"argument\", …]` and `jsonl = \"path\"`",
            )),
            (url, command, jsonl) => {
                let spans = [
                    span(url.as_ref()),
                    span(command.as_ref()),
                    span(jsonl.as_ref()),
                ];
                let last = spans.into_iter().flatten().max_by_key(|span| span.start);
                Err(Mistake::new(
                    last.unwrap_or_default(),
                    "a destination is one of `url`, `command` and `jsonl`: make another [[destination]] for this one",
                ))
            }
        }
    }

    fn http(&mut self, url: &Spanned<String>) -> Result<Kind, Mistake> {
        let target =
            http_url(url.get_ref()).map_err(|problem| Mistake::new(url.span(), problem))?;
        let secrets = self.secrets(url)?;
        let webhooks = webhooks(secrets.get_ref())?.ok_or_else(|| {
            Mistake::new(
                secrets.span(),
                "there is nothing to sign with: add `{ env = \"APP_WEBHOOK_SECRET\" }`",
            )
        })?;
        let defaults = HttpSettings::new(target, webhooks);
        let connect_timeout = within(
            self.connect_timeout_seconds.take(),
            1,
            CONNECT_TIMEOUT_SECONDS_MAX,
        )?;
        Ok(Kind::Http(HttpSettings {
            connect_timeout: connect_timeout.map_or(defaults.connect_timeout, Duration::from_secs),
            allow_private: self.allow_private.take().is_some_and(Spanned::into_inner),
            ..defaults
        }))
    }

    /// `secret` or `secrets`.
    fn secrets(
        &mut self,
        url: &Spanned<String>,
    ) -> Result<Spanned<Vec<Spanned<SecretSource>>>, Mistake> {
        match (self.secret.take(), self.secrets.take()) {
            (Some(secret), None) => Ok(Spanned::new(secret.span(), vec![secret])),
            (None, Some(secrets)) if secrets.get_ref().len() <= SECRETS_MAX => Ok(secrets),
            (None, Some(secrets)) => Err(Mistake::new(
                secrets.span(),
                format!(
                    "there are more than {SECRETS_MAX} secrets: leave out those that no application knows any more"
                ),
            )),
            (Some(_), Some(secrets)) => Err(Mistake::new(
                secrets.span(),
                "there is a `secret` already: name all of them in `secrets`, the newest first",
            )),
            (None, None) => Err(Mistake::new(
                url.span(),
                "a `url` needs a secret to sign with, which the application verifies with: add `secret = { env = \"APP_WEBHOOK_SECRET\" }` (`unwrapd secret` makes one)",
            )),
        }
    }

    fn refuse_keys_of_urls(&self, reason: &str) -> Result<(), Mistake> {
        let keys = [
            ("secret", span(self.secret.as_ref())),
            ("secrets", span(self.secrets.as_ref())),
            (
                "connect_timeout_seconds",
                span(self.connect_timeout_seconds.as_ref()),
            ),
            ("allow_private", span(self.allow_private.as_ref())),
        ];
        for (key, span) in keys {
            if let Some(span) = span {
                return Err(Mistake::new(
                    span,
                    format!("`{key}` belongs to a `url`; {reason}: leave it out"),
                ));
            }
        }
        Ok(())
    }
}

fn command(command: &Spanned<Vec<String>>) -> Result<Kind, Mistake> {
    let mistake = |problem| Err(Mistake::new(command.span(), problem));
    if command.get_ref().iter().any(|word| looks_secret(word)) {
        return mistake(
            "a secret stands in the arguments of a command, where everyone on the machine sees it: have the command read it from a file, and replace it",
        );
    }
    if command.get_ref().iter().any(|word| word.contains('\0')) {
        return mistake("no word of a command can hold the character zero: take it out");
    }
    let mut words = command.get_ref().iter().cloned();
    match words.next() {
        Some(program) if !program.is_empty() => Ok(Kind::Command(CommandSettings {
            program,
            arguments: words.collect(),
        })),
        _ => mistake(
            "this must be a program and its arguments, such as [\"/usr/local/bin/notify\", \"--quiet\"]",
        ),
    }
}

fn lines(path: &Spanned<String>) -> Result<Kind, Mistake> {
    match path.get_ref().as_str() {
        "" => Err(Mistake::new(
            path.span(),
            "this must be the path of a file, or \"-\" for stdout",
        )),
        "-" => Ok(Kind::JsonLines(JsonLinesSettings::Stdout)),
        path => Ok(Kind::JsonLines(JsonLinesSettings::File(path.into()))),
    }
}

fn span<T>(key: Option<&Spanned<T>>) -> Option<Range<usize>> {
    key.map(Spanned::span)
}
