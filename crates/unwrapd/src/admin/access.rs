//! Who may steer: those who know the token; or, where there is none, whoever is on this machine and is not a web page.

use std::fmt;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use openai_webhooks::Secret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Admin;
use super::ask::Refusal;

/// What an operator has to know. It prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Of a digest, neither the time of a comparison nor a core dump tells the token.
    digest: [u8; 32],
}

impl AdminToken {
    /// The token with this text.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self {
            digest: Sha256::digest(secret.expose().as_bytes()).into(),
        }
    }

    fn is(&self, text: &str) -> bool {
        let Ok(secret) = Secret::parse(text) else {
            return false;
        };
        Self::new(&secret).digest.ct_eq(&self.digest).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken([redacted])")
    }
}

pub(super) async fn guard(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let refused = match &admin.token {
        Some(token) if !bears(headers, token) => Some((
            StatusCode::UNAUTHORIZED,
            "this port asks for `Authorization: Bearer` and the token that `admin_token` in [server] names",
        )),
        None if !is_of_this_machine(headers) => Some((
            StatusCode::FORBIDDEN,
            "ask for an IP address or `localhost`: a name of someone else's choice may lead here by a trick",
        )),
        _ if is_of_a_page_elsewhere(headers) => Some((
            StatusCode::FORBIDDEN,
            "this comes from a web page of someone else's",
        )),
        _ => None,
    };
    match refused {
        None => next.run(request).await,
        Some((status, text)) => {
            ([(WWW_AUTHENTICATE, "Bearer")], Refusal::new(status, text)).into_response()
        }
    }
}

fn bears(headers: &HeaderMap, token: &AdminToken) -> bool {
    let Some((scheme, text)) = text(headers, &AUTHORIZATION).and_then(|text| text.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && token.is(text)
}

/// Against DNS rebinding: a page may have its own name lead to this machine.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, &HOST) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Browsers send an `Origin` with everything that a page does beyond looking.
fn is_of_a_page_elsewhere(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let host = text(headers, &HOST).unwrap_or_default();
    let own = [format!("http://{host}"), format!("https://{host}")];
    !own.iter().any(|own| own.as_bytes() == origin.as_bytes())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
