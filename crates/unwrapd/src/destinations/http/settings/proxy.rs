//! The proxy of a destination behind a URL.

use std::ops::Range;

use reqwest::Url;
use toml::Spanned;
use zeroize::Zeroizing;

use crate::settings_file::{Key, Mistake, SecretSource, checked_url};

const URL_WITH_USER: &str = "a URL is shown and logged, so it must not have a user or a password: \
    write `proxy_user = \"NAME\"` and `proxy_password = { env = \"NAME\" }` or { file = \"PATH\" }";

/// An HTTP proxy. Requests to a URL of http are sent through it; for a URL of https it makes a
/// tunnel (CONNECT).
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// The URL of the proxy.
    pub url: Url,
    /// The user and the password, if the proxy requires them.
    pub user: Option<(String, Zeroizing<String>)>,
}

impl ProxySettings {
    /// The proxy that `proxy`, `proxy_user` and `proxy_password` describe.
    pub(super) fn of(
        proxy: Key<String>,
        user: Key<String>,
        password: Key<SecretSource>,
    ) -> Result<Option<Self>, Mistake> {
        let Some(proxy) = proxy else {
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
        Ok(Some(Self { url, user }))
    }
}

/// The URL of an HTTP proxy. The error does not show the URL.
fn proxy_url(text: &str) -> Result<Url, String> {
    if text
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("socks"))
    {
        return Err("SOCKS proxies are not supported: name an HTTP proxy, such as \"http://proxy.internal:3128\"".into());
    }
    let url = checked_url(text, URL_WITH_USER)?;
    if url.path() != "/" || url.query().is_some() {
        return Err(
            "a proxy has no path: write host and port only, such as \"http://proxy.internal:3128\""
                .into(),
        );
    }
    Ok(url)
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

fn span<T>(key: Option<&Spanned<T>>) -> Option<Range<usize>> {
    key.map(Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        assert!(proxy_url("http://proxy.internal:3128").is_ok());
        assert!(proxy_url("https://proxy.internal:3129/").is_ok());
        assert!(
            proxy_url("http://proxy:3128/x")
                .unwrap_err()
                .contains("no path")
        );
        assert!(
            proxy_url("socks5://proxy:1080")
                .unwrap_err()
                .contains("SOCKS")
        );
        assert_eq!(
            proxy_url("http://me:pw@proxy:3128"),
            Err(URL_WITH_USER.into())
        );
        assert!(
            proxy_url("proxy:3128")
                .unwrap_err()
                .contains("must begin with http:// or https://")
        );
    }
}
