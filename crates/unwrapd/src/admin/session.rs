//! Sessions of browsers: a signed cookie. The gateway keeps no list of them.
//!
//! The value is `LEVEL.END.SIGNATURE`: the purpose of the token, the end as a Unix time in seconds,
//! and an HMAC-SHA256 of both. Its key derives from the token, so a session ends when the token
//! changes, and is valid at every gateway with the same token.

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;

use super::Admin;
use super::json::Refusal;
use super::origin::text;
use super::tokens::{AdminToken, AdminTokens, Level};

/// Name of the cookie.
pub(super) const NAME: &str = "unwrapd_session";
/// Length of a session: a day of work.
const LENGTH: SignedDuration = SignedDuration::from_hours(12);
/// Maximum number of sessions that are compared. A browser has one for each path prefix.
const SHOWN_MAX: usize = 4;
/// Separates the keys of sessions from other uses of the same token.
const PURPOSE: &[u8] = b"unwrapd admin session 1";
/// Scheme of the request that a proxy received.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Begins a session: the value of the cookie.
pub(super) fn begin(token: &AdminToken, level: Level, now: Timestamp) -> String {
    let end = now.as_second().saturating_add(LENGTH.as_secs());
    let text = format!("{}.{end}", name(level));
    let signature = mac(token, &text).finalize().into_bytes();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The purpose of the token with which the session of these headers began. `None`: there is no
/// valid one.
pub(super) fn level(tokens: &AdminTokens, headers: &HeaderMap, now: Timestamp) -> Option<Level> {
    shown(headers).find_map(|value| read(tokens, value, now))
}

/// Whether there is a session, valid or not.
pub(super) fn is_shown(headers: &HeaderMap) -> bool {
    shown(headers).next().is_some()
}

fn shown(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == NAME)
        .map(|(_, value)| value)
        .take(SHOWN_MAX)
}

fn read(tokens: &AdminTokens, value: &str, now: Timestamp) -> Option<Level> {
    let (text, signature) = value.rsplit_once('.')?;
    let (level, end) = text.split_once('.')?;
    let level = [Level::Operate, Level::Read]
        .into_iter()
        .find(|one| name(*one) == level)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let mac = mac(tokens.of(level)?, text);
    // This comparison takes the same time for every signature.
    mac.verify_slice(&signature).ok()?;
    let end: i64 = end.parse().ok()?;
    (now.as_second() < end).then_some(level)
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Operate => "operate",
        Level::Read => "read",
    }
}

fn mac(token: &AdminToken, text: &str) -> Hmac<Sha256> {
    let key = keyed(token.digest()).chain_update(PURPOSE);
    keyed(&key.finalize().into_bytes()).chain_update(text)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The header that stores this session in the browser. `None` removes it.
pub(super) fn cookie(
    admin: &Admin,
    headers: &HeaderMap,
    value: Option<&str>,
) -> Result<HeaderValue, Refusal> {
    let path = match &*admin.base_path {
        "" => "/",
        base_path => base_path,
    };
    let seconds = value.map_or(0, |_| LENGTH.as_secs());
    let value = value.unwrap_or_default();
    let secure = if admin.access.is_tls() || came_over_tls(headers) {
        "; Secure"
    } else {
        ""
    };
    let cookie = format!(
        "{NAME}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    HeaderValue::try_from(cookie).map_err(|_| {
        let detail = "the base path cannot be the path of a cookie";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })
}

/// Whether the browser spoke TLS with a proxy. A client that invents this header only restricts its
/// own cookie.
fn came_over_tls(headers: &HeaderMap) -> bool {
    let schemes = text(headers, &X_FORWARDED_PROTO);
    let first = schemes.and_then(|schemes| schemes.split(',').next());
    first.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use openai_webhooks::Secret;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn token(text: &str) -> AdminToken {
        AdminToken::new(&Secret::parse(text).unwrap())
    }

    fn tokens() -> AdminTokens {
        AdminTokens {
            operate: token("a token that nobody guesses so soon"),
            read: Some(token("a token that may look at everything")),
            read_payloads: true,
        }
    }

    fn headers(cookies: &str) -> HeaderMap {
        [(COOKIE, cookies.parse().unwrap())].into_iter().collect()
    }

    fn level_of(value: &str, now: Timestamp) -> Option<Level> {
        level(&tokens(), &headers(&format!("{NAME}={value}")), now)
    }

    #[test]
    fn a_session_has_the_level_of_its_token_for_twelve_hours() {
        for wanted in [Level::Operate, Level::Read] {
            let value = begin(tokens().of(wanted).unwrap(), wanted, NOW);
            let after = |seconds| NOW + SignedDuration::from_secs(seconds);
            assert_eq!(level_of(&value, NOW), Some(wanted));
            assert_eq!(level_of(&value, after(12 * 3600 - 1)), Some(wanted));
            assert_eq!(level_of(&value, after(12 * 3600)), None);
        }
    }

    #[test]
    fn a_session_with_any_letter_changed_is_refused() {
        let value = begin(tokens().of(Level::Read).unwrap(), Level::Read, NOW);
        for place in 0..value.len() {
            // The last letter also has bits that belong to no byte. They must be zero.
            for letter in ['A', 'B', '9', '.'] {
                let mut forged = value.clone();
                forged.replace_range(place..=place, &letter.to_string());
                if forged != value {
                    assert_eq!(level_of(&forged, NOW), None, "{forged}");
                }
            }
        }
        let raised = value.replace("read", "operate");
        assert_eq!(level_of(&raised, NOW), None);
        for short in ["", ".", "..", "read.", "read.1.", "read.1.AAAA"] {
            assert_eq!(level_of(short, NOW), None, "{short}");
        }
    }

    #[test]
    fn a_session_ends_with_its_token() {
        let value = begin(
            &token("the token of the year before this"),
            Level::Operate,
            NOW,
        );
        assert_eq!(level_of(&value, NOW), None);
        let without_read = AdminTokens::operate(tokens().operate);
        let value = begin(tokens().of(Level::Read).unwrap(), Level::Read, NOW);
        let headers = headers(&format!("{NAME}={value}"));
        assert_eq!(level(&without_read, &headers, NOW), None);
    }

    #[test]
    fn a_session_is_found_among_other_cookies_and_behind_few_others() {
        let value = begin(&tokens().operate, Level::Operate, NOW);
        let found = |cookies: &str| level(&tokens(), &headers(cookies), NOW);
        let own = format!("{NAME}={value}");
        assert_eq!(found(&format!("a=b; {own}; c")), Some(Level::Operate));
        let wrong = format!("{NAME}=wrong; ");
        let behind = |number| found(&format!("{}{own}", wrong.repeat(number)));
        assert_eq!(behind(SHOWN_MAX - 1), Some(Level::Operate));
        assert_eq!(behind(SHOWN_MAX), None);
    }
}
