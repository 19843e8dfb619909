//! The base path: a prefix of every path, for a reverse proxy that passes paths on unchanged. The
//! port serves its routes with the prefix and without.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::Route;

/// Maximum size of a base path, in bytes.
const BYTES_MAX: usize = 128;
/// Maximum size of a path to go to after a log-in, in bytes. A URL in a browser may be as long.
const TO_BYTES_MAX: usize = 2048;

/// Checks a base path. The error is the remedy.
pub(super) fn check(text: &str, routes: &[Route]) -> Result<(), &'static str> {
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
    };
    let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
    if text.len() > BYTES_MAX || !segments.is_some_and(|mut all| all.all(is_plain)) {
        return Err(
            "this must be a path such as \"/unwrapd\": `/` at the beginning and none at the end, \
             letters, digits, `-`, `_`, `.` and `~` between, at most 128 bytes",
        );
    }
    // With such a prefix a path would have two meanings.
    if routes
        .iter()
        .any(|route| first(route.path()) == first(text))
    {
        return Err(
            "a path of the admin port begins like this: set another one, such as \"/unwrapd\"",
        );
    }
    Ok(())
}

/// The first segment of a path.
fn first(path: &str) -> Option<&str> {
    path.split('/').nth(1)
}

/// Serves the routes of `router` with the prefix and without.
pub(super) fn serve_below(base_path: Arc<str>, router: Router) -> Router {
    let service = TowerToHyperService::new(router);
    Router::new().fallback(move |mut request: Request| {
        if let Some(uri) = inner(&base_path, request.uri()) {
            *request.uri_mut() = uri;
        }
        let answer = service.call(request);
        async move {
            answer
                .await
                .unwrap_or_else(|never: Infallible| match never {})
        }
    })
}

/// The URI without the prefix, if it has it.
fn inner(base_path: &str, uri: &Uri) -> Option<Uri> {
    let path = without(base_path, uri.path_and_query()?.as_str())?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(&*path).ok()?);
    Uri::from_parts(parts).ok()
}

/// A path and query without the prefix. `None`: it has another one.
fn without<'p>(base_path: &str, path: &'p str) -> Option<Cow<'p, str>> {
    let rest = path.strip_prefix(base_path)?;
    match rest.bytes().next() {
        Some(b'/') => Some(rest.into()),
        None | Some(b'?') => Some(format!("/{rest}").into()),
        Some(_) => None,
    }
}

/// The path to go to after a log-in, below the prefix: `to` if it is a path of this port, else the
/// first page.
pub(super) fn local(base_path: &str, to: &str) -> String {
    let to = if is_local(to) { to } else { "/" };
    let inner = without(base_path, to).unwrap_or(to.into());
    format!("{base_path}{inner}")
}

/// Browsers take `//host` and `/\host` for another site, and ignore tabs and line ends.
fn is_local(path: &str) -> bool {
    path.len() <= TO_BYTES_MAX
        && path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_has_plain_segments_and_begins_like_no_route() {
        let routes = crate::admin::routes();
        for right in ["/unwrapd", "/ops/unwrapd-1", "/a.b/~c_d", "/apis"] {
            assert_eq!(check(right, &routes), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "/",
            "unwrapd",
            "/unwrapd/",
            "//unwrapd",
            "/a//b",
            "/.",
            "/a/..",
            "/a b",
            "/a?b",
            "/a#b",
            "/%61",
            "/a;b",
            "/a\\b",
            "/\u{e9}",
            "/api",
            "/api/x",
            "/livez",
            "/metrics/a",
            "/login",
        ] {
            assert!(check(wrong, &routes).is_err(), "{wrong}");
        }
        assert!(check(&format!("/{}", "a".repeat(BYTES_MAX)), &routes).is_err());
    }

    #[test]
    fn the_prefix_is_removed_only_where_it_ends_a_segment() {
        let inner = |uri: &str| {
            let uri = inner("/unwrapd", &uri.parse().unwrap());
            uri.map(|uri| uri.to_string())
        };
        for (uri, expected) in [
            ("/unwrapd", Some("/")),
            ("/unwrapd/", Some("/")),
            ("/unwrapd?a=b", Some("/?a=b")),
            ("/unwrapd/livez", Some("/livez")),
            ("/unwrapd/unwrapd/x", Some("/unwrapd/x")),
            ("/unwrapd/a%2Fb?c=%20", Some("/a%2Fb?c=%20")),
            ("/unwrapdx/livez", None),
            ("/UNWRAPD/livez", None),
            ("/livez", None),
        ] {
            assert_eq!(inner(uri).as_deref(), expected, "{uri}");
        }
        let absolute = inner("http://localhost/unwrapd/livez");
        assert_eq!(absolute.as_deref(), Some("http://localhost/livez"));
    }

    #[test]
    fn the_way_after_a_log_in_stays_on_this_port() {
        for to in ["/events?q=type:batch.*", "/a%2F%2Fb", "/unwrapdx"] {
            assert_eq!(local("", to), to);
            assert_eq!(local("/unwrapd", to), format!("/unwrapd{to}"));
            assert_eq!(
                local("/unwrapd", &format!("/unwrapd{to}")),
                format!("/unwrapd{to}")
            );
        }
        assert_eq!(local("/unwrapd", "/unwrapd"), "/unwrapd/");
        for to in [
            "",
            "x",
            "//evil.example",
            "///evil.example",
            "https://evil.example",
            "https:",
            "\\",
            "\\\\evil.example",
            "/\\evil.example",
            "/a\\..\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a\r\nset-cookie: b=c",
            "/a b",
            "/\u{e9}",
            "\u{2028}/",
            "javascript:alert(1)",
        ] {
            assert_eq!(local("", to), "/", "{to:?}");
            assert_eq!(local("/unwrapd", to), "/unwrapd/", "{to:?}");
        }
        assert_eq!(local("", &format!("/{}", "a".repeat(TO_BYTES_MAX))), "/");
    }
}
