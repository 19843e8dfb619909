//! The kind of a destination: exactly one of `url`, `command` and `jsonl`, with its keys.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use zeroize::Zeroizing;

use super::{Destination, webhooks, within};
use crate::config::document::Location;
use crate::config::mistakes::{Mistake, Mistakes, looks_secret};
use crate::config::source::SecretSource;
use crate::config::url::{http_url, proxy_url};
use crate::destinations::Kind;
use crate::destinations::command::CommandSettings;
use crate::destinations::http::{Authorities, HttpSettings, ProxySettings};
use crate::destinations::jsonl::JsonLinesSettings;
use crate::store::StoreUrl;

/// Longest wait for a connection: what takes longer is not there.
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 60;
/// Most secrets to sign with at once: a new one and an old one, and one that was forgotten. Each
/// costs a signature a request.
const SECRETS_MAX: usize = 3;

impl Destination {
    /// The kind of the destination. `None`: the key is there, and its mistakes are reported
    /// already.
    pub(super) fn kind(&mut self, location: &Location) -> Result<Option<Kind>, Mistakes> {
        match (self.url.take(), self.command.take(), self.jsonl.take()) {
            (Some(url), None, None) => self.http(&url, location),
            (None, Some(command), None) => {
                let mut mistakes = Mistakes::default();
                mistakes
                    .keep(self.refuse_keys_of_urls("the gateway starts a command, and sends it no request"));
                let kind = mistakes.keep(self::command(&command));
                mistakes.check()?;
                Ok(kind)
            }
            (None, None, Some(jsonl)) => {
                let mut mistakes = Mistakes::default();
                mistakes.keep(self.refuse_keys_of_urls("the gateway writes lines, and sends no request"));
                let kind = mistakes.keep(lines(&jsonl));
                mistakes.check()?;
                Ok(kind)
            }
            (None, None, None)
                if ["url", "command", "jsonl"]
                    .iter()
                    .any(|key| location.is_broken(key)) =>
            {
                Ok(None)
            }
            (None, None, None) => Err(Mistake::absence(
                span(self.name.as_ref()).unwrap_or_else(|| location.span()),
                "a destination needs one of `url = \"https://…\"`, `command = [\"program\", \"argument\", …]` and `jsonl = \"path\"`",
            )
            .into()),
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
                )
                .into())
            }
        }
    }

    /// Refuses a `jsonl` that is a file of the store: lines would destroy it.
    pub(super) fn refuse_files_of_the_store(&self, store: &StoreUrl) -> Result<(), Mistake> {
        match &self.jsonl {
            Some(jsonl) if jsonl.get_ref() != "-" && store.owns(Path::new(jsonl.get_ref())) => {
                Err(Mistake::new(
                    jsonl.span(),
                    "this is a file of the store, and lines would destroy it: name another file",
                ))
            }
            _ => Ok(()),
        }
    }

    fn http(
        &mut self,
        url: &Spanned<String>,
        location: &Location,
    ) -> Result<Option<Kind>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let target = http_url(url.get_ref()).map_err(|problem| Mistake::new(url.span(), problem));
        let target = mistakes.keep(target);
        let is_broken = location.is_broken("secret") || location.is_broken("secrets");
        let webhooks = match self.secrets(url) {
            Err(_) if is_broken && self.secret.is_none() && self.secrets.is_none() => None,
            Err(mistake) => {
                mistakes.add(mistake);
                None
            }
            Ok(secrets) => {
                let webhooks = mistakes.keep(webhooks(secrets.get_ref()));
                if matches!(webhooks, Some(None)) && !is_broken {
                    mistakes.add(Mistake::absence(
                        secrets.span(),
                        "the destination has no secret to sign with: add `{ env = \"APP_WEBHOOK_SECRET\" }`",
                    ));
                }
                webhooks.flatten()
            }
        };
        let connect_timeout = mistakes.keep(within(
            "connect_timeout_seconds",
            self.connect_timeout_seconds.take(),
            1,
            CONNECT_TIMEOUT_SECONDS_MAX,
        ));
        let authorities = self
            .ca
            .take()
            .and_then(|file| mistakes.keep(authorities(&file)));
        let proxied = span(self.proxy.as_ref());
        let proxy = mistakes.keep(self.proxy()).flatten();
        if let (Some(span), Some(target)) = (proxied, &target)
            && !can_be_tunneled(target)
        {
            mistakes.add(Mistake::new(
                span,
                "TLS to an IPv6 address does not work through a proxy: write the name of the server in `url`, or remove `proxy`",
            ));
        }
        mistakes.check()?;
        let Some((target, webhooks)) = target.zip(webhooks) else {
            return Ok(None);
        };
        let defaults = HttpSettings::new(target, webhooks);
        Ok(Some(Kind::Http(HttpSettings {
            authorities,
            proxy,
            connect_timeout: connect_timeout
                .flatten()
                .map_or(defaults.connect_timeout, Duration::from_secs),
            allow_private: self.allow_private.take().is_some_and(Spanned::into_inner),
            ..defaults
        })))
    }

    /// `proxy`, with `proxy_user` and `proxy_password`.
    fn proxy(&mut self) -> Result<Option<ProxySettings>, Mistake> {
        let (user, password) = (self.proxy_user.take(), self.proxy_password.take());
        let Some(proxy) = self.proxy.take() else {
            return match span(user.as_ref()).or(span(password.as_ref())) {
                Some(span) => Err(Mistake::absence(
                    span,
                    "this key needs a `proxy`: add `proxy = \"http://HOST:PORT\"`, or remove this key",
                )),
                None => Ok(None),
            };
        };
        let url =
            proxy_url(proxy.get_ref()).map_err(|problem| Mistake::new(proxy.span(), problem))?;
        let user = match (user, password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some(proxy_user(user, &password)?),
            (user, password) => {
                let span = span(user.as_ref()).or(span(password.as_ref()));
                return Err(Mistake::absence(
                    span.unwrap_or_default(),
                    "`proxy_user` and `proxy_password` belong together: write both, or neither",
                ));
            }
        };
        Ok(Some(ProxySettings { url, user }))
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
                    "there are more than {SECRETS_MAX} secrets: remove those that no application uses any more"
                ),
            )),
            (Some(_), Some(secrets)) => Err(Mistake::new(
                secrets.span(),
                "there is a `secret` already: name all of them in `secrets`, the newest first",
            )),
            (None, None) => Err(Mistake::absence(
                url.span(),
                "a `url` needs a secret: the gateway signs with it, and the application verifies with it. Add `secret = { env = \"APP_WEBHOOK_SECRET\" }` (`unwrapd secret` generates one)",
            )),
        }
    }

    fn refuse_keys_of_urls(&self, reason: &str) -> Result<(), Mistakes> {
        let keys = [
            ("secret", span(self.secret.as_ref())),
            ("secrets", span(self.secrets.as_ref())),
            (
                "connect_timeout_seconds",
                span(self.connect_timeout_seconds.as_ref()),
            ),
            ("allow_private", span(self.allow_private.as_ref())),
            ("ca", span(self.ca.as_ref())),
            ("proxy", span(self.proxy.as_ref())),
            ("proxy_user", span(self.proxy_user.as_ref())),
            ("proxy_password", span(self.proxy_password.as_ref())),
        ];
        let mut mistakes = Mistakes::default();
        for (key, span) in keys {
            if let Some(span) = span {
                mistakes.add(Mistake::new(
                    span,
                    format!("`{key}` is only for a `url`; {reason}: remove this key"),
                ));
            }
        }
        mistakes.check()
    }
}

fn authorities(file: &Spanned<PathBuf>) -> Result<Authorities, Mistake> {
    let mistake = |problem: String| Mistake::new(file.span(), problem);
    if looks_secret(&file.get_ref().to_string_lossy()) {
        return Err(mistake(
            "this is a secret where the path of a file of certificates belongs: remove it, and replace the secret".into(),
        ));
    }
    Authorities::read(file.get_ref()).map_err(mistake)
}

/// Whether the client can speak TLS to this URL behind a proxy. Where it looks for the name in the
/// certificate it leaves the brackets of an IPv6 address in place, which makes a name that there is
/// not.
fn can_be_tunneled(url: &reqwest::Url) -> bool {
    url.scheme() != "https" || !url.host_str().is_some_and(|host| host.starts_with('['))
}

fn proxy_user(
    user: Spanned<String>,
    password: &Spanned<SecretSource>,
) -> Result<(String, Zeroizing<String>), Mistake> {
    // HTTP's basic authentication parts them by the first colon (RFC 7617).
    if user.get_ref().is_empty()
        || user
            .get_ref()
            .contains(|letter: char| letter == ':' || letter.is_control())
    {
        return Err(Mistake::new(
            user.span(),
            "a user name must have at least one character, and no colon",
        ));
    }
    let text = password.get_ref().read_text();
    let text = text.map_err(|problem| Mistake::new(password.span(), problem))?;
    // Files end in a line break, and no password does.
    let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Mistake::new(
            password.span(),
            format!(
                "{}: the password is empty or has a control character: correct it",
                password.get_ref()
            ),
        ));
    }
    Ok((user.into_inner(), text))
}

fn command(command: &Spanned<Vec<String>>) -> Result<Kind, Mistake> {
    let mistake = |problem| Err(Mistake::new(command.span(), problem));
    if command.get_ref().iter().any(|word| looks_secret(word)) {
        return mistake(
            "this is a secret, and every user of the machine can see the arguments of a command: let the command read it from a file, and replace the secret",
        );
    }
    if command.get_ref().iter().any(|word| word.contains('\0')) {
        return mistake("a command must not have the character NUL: remove it");
    }
    let mut words = command.get_ref().iter().cloned();
    match words.next() {
        Some(program) if is_of_a_shell(&program) => mistake(
            "no shell runs the command: write the program and each argument as an entry of its own, such as [\"notify\", \"--quiet\"]",
        ),
        Some(program) if !program.is_empty() => Ok(Kind::Command(CommandSettings {
            program,
            arguments: words.collect(),
        })),
        _ => mistake(
            "this must be a program and its arguments, such as [\"/usr/local/bin/notify\", \"--quiet\"]",
        ),
    }
}

/// Whether the text is a program with its arguments, as a shell takes it. A file may have blanks in its name.
fn is_of_a_shell(program: &str) -> bool {
    let starts = |program: &str| {
        let program = program.to_owned();
        CommandSettings {
            program,
            arguments: Vec::new(),
        }
        .can_start()
    };
    program
        .split_once(char::is_whitespace)
        .is_some_and(|(first, _)| starts(first) && !starts(program))
}

fn lines(path: &Spanned<String>) -> Result<Kind, Mistake> {
    let settings = match path.get_ref().as_str() {
        "" => {
            return Err(Mistake::new(
                path.span(),
                "this must be the path of a file, or \"-\" for stdout",
            ));
        }
        "-" => JsonLinesSettings::Stdout,
        path => JsonLinesSettings::File(path.into()),
    };
    settings
        .check()
        .map_err(|problem| Mistake::new(path.span(), problem))?;
    Ok(Kind::JsonLines(settings))
}

fn span<T>(key: Option<&Spanned<T>>) -> Option<Range<usize>> {
    key.map(Spanned::span)
}
