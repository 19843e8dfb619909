//! Access to the admin port: with the token, or, if there is none, from this machine except from a
//! web page.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use openai_webhooks::Secret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Admin;
use super::json::Refusal;

/// Delay of the response to a wrong token.
const WRONG_TOKEN_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of delayed responses. Each may occupy a connection, and most connections must be
/// left to clients with the right token.
const DELAYED_MAX: usize = 8;

/// The token of operators. It prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// A digest: neither the time of a comparison nor a core dump reveals the token.
    digest: [u8; 32],
}

impl AdminToken {
    /// Creates the token from its text.
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

/// State of [`guard`]: the token, and the permits for delayed responses.
#[derive(Clone)]
pub(super) struct Guard {
    admin: Admin,
    delays: Arc<Semaphore>,
}

impl Guard {
    pub(super) fn new(admin: Admin) -> Self {
        Self {
            admin,
            delays: Arc::new(Semaphore::new(DELAYED_MAX)),
        }
    }
}

/// Passes authorised requests only. This check precedes every bound, so that strangers take no
/// permits from operators.
pub(super) async fn guard(
    State(Guard { admin, delays }): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match &admin.token {
        Some(token) if !bears(request.headers(), token) => {
            // The delay makes guessing slow and visible. It would not protect a weak token, which
            // the configuration refuses.
            if request.headers().contains_key(AUTHORIZATION) {
                let Ok(_delay) = delays.try_acquire() else {
                    return Refusal::new(
                        StatusCode::TOO_MANY_REQUESTS,
                        "too many requests with a wrong token are waiting for their answer; try again",
                    )
                    .into_response();
                };
                sleep(WRONG_TOKEN_DELAY).await;
            }
            Some((
                StatusCode::UNAUTHORIZED,
                "this port needs the header `Authorization: Bearer TOKEN`, with the token that `admin_token` in [server] names",
            ))
        }
        None if !is_of_this_machine(&request) => Some((
            StatusCode::FORBIDDEN,
            "use an IP address or `localhost` in the URL: any other host name may be an attack \
             from a web page (DNS rebinding); set `admin_token` to allow names",
        )),
        _ if is_of_a_page_elsewhere(&request) => Some((
            StatusCode::FORBIDDEN,
            "requests from pages of other web sites are refused",
        )),
        _ => None,
    };
    match refused {
        None => next.run(request).await,
        Some((status, text)) => Refusal::new(status, text).into_response(),
    }
}

/// Whether the sender may see paths, roles and other details.
pub(super) fn may_see_details(admin: &Admin, request: &Request) -> bool {
    match &admin.token {
        Some(token) => bears(request.headers(), token),
        None => is_of_this_machine(request) && !is_of_a_page_elsewhere(request),
    }
}

/// Whether the sender has sent a wrong token.
pub(super) fn has_wrong_token(admin: &Admin, headers: &HeaderMap) -> bool {
    let is_wrong = |token| headers.contains_key(AUTHORIZATION) && !bears(headers, token);
    admin.token.as_ref().is_some_and(is_wrong)
}

fn bears(headers: &HeaderMap, token: &AdminToken) -> bool {
    let Some((scheme, text)) = text(headers, &AUTHORIZATION).and_then(|text| text.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && token.is(text)
}

/// Protection against DNS rebinding: a web page may make its own name resolve to this machine.
fn is_of_this_machine(request: &Request) -> bool {
    let Some(host) = host(request) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Browsers send an `Origin` with every request of a page other than plain reads.
fn is_of_a_page_elsewhere(request: &Request) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else {
        return false;
    };
    let host = host(request).unwrap_or_default();
    let own = [format!("http://{host}"), format!("https://{host}")];
    !own.iter().any(|own| own.as_bytes() == origin.as_bytes())
}

/// The requested host. In HTTP/2 the target contains it, and the header `host` is optional. `None`
/// also if both are present and differ, which is an attack.
fn host(request: &Request) -> Option<&str> {
    let target = request
        .uri()
        .authority()
        .map(axum::http::uri::Authority::as_str);
    match (target, text(request.headers(), &HOST)) {
        (Some(target), Some(host)) => (target == host).then_some(host),
        (target, host) => target.or(host),
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
