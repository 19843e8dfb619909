//! The style sheet and the script. Their URLs contain a digest, so that browsers may keep them.

use std::sync::LazyLock;

use axum::extract::RawQuery;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::admin::Route;
use crate::admin::bounds::Bounds;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Digest of both, for their URLs.
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::new()
        .chain_update(STYLE)
        .chain_update(SCRIPT)
        .finalize();
    URL_SAFE_NO_PAD.encode(&digest[..6])
});

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page(
            "/assets/style.css",
            Bounds::ALIVE,
            async |query: RawQuery| file(&query, "text/css; charset=utf-8", STYLE),
        )
        .without_token(),
        Route::page(
            "/assets/script.js",
            Bounds::ALIVE,
            async |query: RawQuery| file(&query, "text/javascript; charset=utf-8", SCRIPT),
        )
        .without_token(),
    ]
}

/// URL of the style sheet, under this base path.
pub(in crate::admin) fn style_url(base: &str) -> String {
    format!("{base}/assets/style.css?{}", *DIGEST)
}

/// URL of the script, under this base path.
pub(super) fn script_url(base: &str) -> String {
    format!("{base}/assets/script.js?{}", *DIGEST)
}

/// The file. It stays the same only under the URL with its digest.
fn file(RawQuery(query): &RawQuery, content_type: &'static str, text: &'static str) -> Response {
    let is_certain = query.as_ref().is_some_and(|query| *query == *DIGEST);
    let caching = if is_certain {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, caching),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_are_small_together() {
        assert!(STYLE.len() + SCRIPT.len() < 30_000);
    }
}
