//! Pages for browsers: the headers that each has, and errors as pages.

use std::sync::Arc;

use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::dashboard::style_url;
use crate::api::Problem;
use crate::printable;

/// The content type of a page.
pub(super) const HTML: &str = "text/html; charset=utf-8";
/// Pages load nothing from elsewhere, run no script within themselves, and appear in no frame. They
/// show text of strangers.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";
/// No site that a page links to learns its address. With `no-referrer` browsers would send
/// `Origin: null` with forms, and without TLS the origin is the only proof of a change
/// ([Fetch](https://fetch.spec.whatwg.org/#append-a-request-origin-header)).
const REFERRERS: &str = "same-origin";
const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");

/// The answer with a page. Every page has these headers.
pub(super) fn page(markup: Markup) -> Response {
    let headers = [
        (CONTENT_TYPE, HTML),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, REFERRERS),
        (CACHE_CONTROL, "no-store"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ];
    (headers, markup.into_string()).into_response()
}

/// A page without navigation. `class` is that of its `main`.
pub(super) fn plain(base_path: &str, title: &str, class: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · unwrapd" }
                link rel="stylesheet" href=(style_url(base_path));
                // Otherwise browsers ask for `/favicon.ico`.
                link rel="icon" href="data:,";
            }
            body {
                main class=(class) { (content) }
            }
        }
    }
}

/// The page for a problem. Other answers stay as they are.
pub(super) fn as_page(base_path: &str, response: Response) -> Response {
    let Some(problem) = response.extensions().get::<Arc<Problem>>() else {
        return response;
    };
    let content = html! {
        h1 { (problem.title) }
        p { (printable::line(&problem.detail)) }
        p {
            a href={ (base_path) "/" } { "First page" }
            @if matches!(problem.status, 401 | 403) {
                " · "
                a href={ (base_path) "/login" } { "Log in" }
            }
        }
    };
    let mut page = page(plain(base_path, &problem.title, "problem", &content));
    *page.status_mut() = response.status();
    for name in [ALLOW, RETRY_AFTER, WWW_AUTHENTICATE] {
        if let Some(value) = response.headers().get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    page
}
