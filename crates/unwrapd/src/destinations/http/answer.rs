//! Summarises the head of a response in one line, without its body.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};

use crate::delivery::response_excerpt::ResponseExcerpt;

/// Maximum length of the target of a redirect in a summary, in bytes.
const LOCATION_BYTES_MAX: usize = 200;

/// The status and the remedy.
pub(super) fn summary(
    url: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    said: &ResponseExcerpt,
    is_proxied: bool,
) -> String {
    let code = status.as_u16();
    let is_plain = url.scheme() == "http";
    if is_plain && status == StatusCode::BAD_REQUEST && said.as_str().contains("HTTPS") {
        return format!(
            "HTTP {code} (the server speaks TLS on this port: write https:// in the URL)"
        );
    }
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
            format!("HTTP {code} (is the application using this destination's secret?)")
        }
        StatusCode::GONE => format!("HTTP {code} (refused for good, so not retried)"),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED if is_proxied => format!(
            "HTTP {code} (the proxy needs a user and a password: correct `proxy_user` and `proxy_password`)"
        ),
        _ if matches!(code, 300..=303 | 305..=308) => {
            let location = location(url, headers);
            format!(
                "HTTP {code} (redirects are not followed; {location}: write the right URL in `url`)"
            )
        }
        _ => format!("HTTP {code}"),
    }
}

/// The target of a redirect, without its parts that may be secret: the user, the password and the
/// query.
fn location(url: &Url, headers: &HeaderMap) -> String {
    let Some(value) = headers.get(LOCATION) else {
        return "the answer has no Location".into();
    };
    let target = str::from_utf8(value.as_bytes())
        .ok()
        .and_then(|text| url.join(text.trim()).ok());
    let Some(mut target) = target.filter(|target| matches!(target.scheme(), "http" | "https"))
    else {
        return "the Location is not a URL of a web server".into();
    };
    let has_more = target.query().is_some();
    target.set_query(None);
    target.set_fragment(None);
    // This cannot fail: a URL of http or https can have both.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    let mut text = target.as_str().to_owned();
    if text.len() > LOCATION_BYTES_MAX {
        shorten(&mut text, LOCATION_BYTES_MAX);
    } else if has_more {
        text.push_str("?…");
    }
    format!("Location {text}")
}

/// Shortens a text to `bytes_max` bytes, between two characters, and marks the cut.
pub(super) fn shorten(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let is_boundary = |end: &usize| text.is_char_boundary(*end);
    text.truncate((0..=bytes_max).rev().find(is_boundary).unwrap_or(0));
    text.push('…');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(location: &str) -> String {
        let url = "https://app.example/webhook?key=private".parse().unwrap();
        let mut headers = HeaderMap::new();
        if !location.is_empty() {
            headers.insert(LOCATION, location.parse().unwrap());
        }
        summary(
            &url,
            StatusCode::PERMANENT_REDIRECT,
            &headers,
            &ResponseExcerpt::default(),
            false,
        )
    }

    #[test]
    fn a_redirect_shows_where_it_leads_and_no_secret() {
        for (location, target) in [
            (
                "https://other.example/hook",
                "Location https://other.example/hook:",
            ),
            ("/webhook/", "Location https://app.example/webhook/:"),
            (
                "https://me:private@other.example/",
                "Location https://other.example/:",
            ),
            (
                "/login?token=private#private",
                "Location https://app.example/login?…:",
            ),
            ("javascript:alert(1)", "not a URL of a web server"),
            ("", "the answer has no Location"),
        ] {
            let shown = shown(location);
            assert!(
                shown.starts_with("HTTP 308 (redirects are not followed; "),
                "{shown}"
            );
            assert!(shown.contains(target), "{shown}");
            assert!(!shown.contains("private"), "{shown}");
        }
        let long = format!("/{}", "x".repeat(10_000));
        assert!(shown(&long).len() < 400);
    }
}
