//! The keys of `[[destination]]` for a destination behind a URL.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{HttpSettings, ProxySettings};
use crate::destinations::http::Authorities;
use crate::settings_file::{
    Key, Keys, Location, Mistake, Mistakes, SecretSource, http_url, looks_secret, webhooks,
};

/// Longest wait for a connection. A server that needs longer does not answer.
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 60;
/// Most secrets to sign with: a new one, an old one, and one that was forgotten. Each costs a
/// signature for every request.
const SECRETS_MAX: usize = 3;

#[derive(Default, Deserialize)]
pub(crate) struct HttpKeys {
    url: Key<String>,
    secret: Key<SecretSource>,
    secrets: Key<Vec<Spanned<SecretSource>>>,
    connect_timeout_seconds: Key<u64>,
    allow_private: Key<bool>,
    ca: Key<PathBuf>,
    proxy: Key<String>,
    proxy_user: Key<String>,
    proxy_password: Key<SecretSource>,
}

impl Keys for HttpKeys {
    const PATHS: &'static [&'static str] = &["ca"];
}

impl HttpKeys {
    /// `None`: a key is missing, because its mistake is reported already.
    pub(super) fn check(mut self, location: &Location) -> Result<Option<HttpSettings>, Mistakes> {
        let Some(url) = self.url.take() else {
            return Ok(None);
        };
        let mut mistakes = Mistakes::default();
        let target = http_url(url.get_ref()).map_err(|problem| Mistake::new(url.span(), problem));
        let target = mistakes.keep(target);
        let is_broken = location.is_broken("secret") || location.is_broken("secrets");
        let webhooks = match self.secrets(&url) {
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
        let connect_timeout = mistakes.keep_number(
            "connect_timeout_seconds",
            self.connect_timeout_seconds,
            1..=CONNECT_TIMEOUT_SECONDS_MAX,
        );
        let authorities = self.ca.and_then(|file| mistakes.keep(authorities(&file)));
        let proxied = self.proxy.as_ref().map(Spanned::span);
        let proxy = ProxySettings::of(self.proxy, self.proxy_user, self.proxy_password);
        let proxy = mistakes.keep(proxy).flatten();
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
        Ok(Some(HttpSettings {
            authorities,
            proxy,
            connect_timeout: connect_timeout.map_or(defaults.connect_timeout, Duration::from_secs),
            allow_private: self.allow_private.is_some_and(Spanned::into_inner),
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
                    "there are more than {SECRETS_MAX} secrets: remove those that no application uses any more"
                ),
            )),
            (Some(_), Some(secrets)) => Err(Mistake::new(
                secrets.span(),
                "there is a `secret` already: name all of them in `secrets`, the newest first",
            )),
            (None, None) => Err(Mistake::absence(
                url.span(),
                "a `url` needs a secret: the gateway signs with it, and the application verifies \
                 with it. Add `secret = { env = \"APP_WEBHOOK_SECRET\" }` (`unwrapd secret` \
                 generates one)",
            )),
        }
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

/// Whether the client can speak TLS to this URL behind a proxy. It compares the names of the
/// certificate with the host and its brackets, so no certificate matches an IPv6 address.
fn can_be_tunneled(url: &reqwest::Url) -> bool {
    url.scheme() != "https" || !url.host_str().is_some_and(|host| host.starts_with('['))
}
