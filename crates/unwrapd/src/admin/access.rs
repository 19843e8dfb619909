//! Access to the admin port: with a token or the session that began with one, or, if there is no
//! token, from this machine except from a web page.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::json::Refusal;
use super::origin::{
    is_from_a_link_elsewhere, is_of_another_site, is_of_this_machine, text, wants_page,
};
use super::tokens::{AdminTokens, Rights};
use super::{Admin, Needs, login, session};

/// Delay of the response to a wrong token.
const WRONG_TOKEN_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of delayed responses. Each may occupy a connection, and most connections must be
/// left to clients with the right token.
const DELAYED_MAX: usize = 8;

/// The tokens of the port, and the permits for delayed responses.
pub struct Access {
    tokens: Option<AdminTokens>,
    is_tls: bool,
    delays: Semaphore,
}

impl Access {
    /// Access with these tokens. `None`: every client of the port has all rights, so only this
    /// machine must reach it. `is_tls` says whether the port itself speaks TLS.
    #[must_use]
    pub fn new(tokens: Option<AdminTokens>, is_tls: bool) -> Self {
        Self {
            tokens,
            is_tls,
            delays: Semaphore::new(DELAYED_MAX),
        }
    }

    pub(super) fn tokens(&self) -> Option<&AdminTokens> {
        self.tokens.as_ref()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Delays the response to a wrong token. The delay makes guessing slow and visible. It would
    /// not protect a weak token, which the configuration refuses. An error if too many responses
    /// are delayed.
    pub(super) async fn delay(&self) -> Result<(), Refusal> {
        let Ok(_delay) = self.delays.try_acquire() else {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests with a wrong token are waiting for their answer; try again",
            ));
        };
        sleep(WRONG_TOKEN_DELAY).await;
        Ok(())
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::new(None, false)
    }
}

/// Passes authorised requests only, with their [`Rights`]. This check precedes every bound, so that
/// strangers take no permits from operators.
pub(super) async fn guard(
    State((admin, needs)): State<(Admin, Needs)>,
    mut request: Request,
    next: Next,
) -> Response {
    let admitted = admit(&admin, needs, &request);
    match admitted {
        Ok(rights) => {
            request.extensions_mut().insert(rights);
            next.run(request).await
        }
        Err(denial) => {
            let has_token = request.headers().contains_key(AUTHORIZATION);
            deny(&admin, denial, has_token).await
        }
    }
}

/// Answers a request for a path that does not exist. A browser without a session is led to log in,
/// as at the paths that do.
pub(super) async fn no_such_path(State(admin): State<Admin>, request: Request) -> Response {
    let admitted = admit(&admin, Needs::Read, &request);
    match admitted {
        Err(denial @ (Denial::LogIn(_) | Denial::Withheld)) => {
            let has_token = request.headers().contains_key(AUTHORIZATION);
            deny(&admin, denial, has_token).await
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn deny(admin: &Admin, denial: Denial, has_token: bool) -> Response {
    if denial.is_unproven()
        && has_token
        && let Err(refusal) = admin.access.delay().await
    {
        return refusal.into_response();
    }
    denial.response(&admin.base_path)
}

fn admit(admin: &Admin, needs: Needs, request: &Request) -> Result<Rights, Denial> {
    let rights = match (needs, admin.access.tokens()) {
        (Needs::Nothing, _) => Rights::NONE,
        (_, None) if is_of_this_machine(request) => Rights::ALL,
        (_, None) => return Err(Denial::HostName),
        (_, Some(tokens)) => proven(tokens, request.headers(), admin.clock.now())
            .ok_or_else(|| Denial::unproven(request))?,
    };
    if is_of_another_site(request) {
        return Err(Denial::OtherSite);
    }
    if needs == Needs::Operate && !rights.may_operate {
        return Err(Denial::ReadOnly);
    }
    Ok(rights)
}

/// The rights that a token or a session in these headers gives.
fn proven(tokens: &AdminTokens, headers: &HeaderMap, now: Timestamp) -> Option<Rights> {
    let level = bearer(headers).and_then(|token| tokens.level(token));
    // A proxy may send a header of its own with the session.
    let level = level.or_else(|| session::level(tokens, headers, now));
    level.map(|level| tokens.rights(level))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Whether the sender may see paths, roles and other details.
pub(super) fn may_see_details(admin: &Admin, request: &Request) -> bool {
    admit(admin, Needs::Read, request).is_ok()
}

/// Whether the sender has sent a wrong token.
pub(super) fn has_wrong_token(admin: &Admin, headers: &HeaderMap) -> bool {
    let is_wrong = |tokens| proven(tokens, headers, admin.clock.now()).is_none();
    headers.contains_key(AUTHORIZATION) && admin.access.tokens().is_some_and(is_wrong)
}

/// Reason why a request is not passed on.
enum Denial {
    /// No token and no session, or wrong ones.
    Unproven,
    /// The same, of a browser that asks for a page: path and query of the page.
    LogIn(String),
    /// A browser has withheld the session, because the user came by a link on another site.
    Withheld,
    /// By a host name, at a port without tokens.
    HostName,
    /// From a page of another site.
    OtherSite,
    /// The token is for reading, and the request is a change.
    ReadOnly,
}

impl Denial {
    fn unproven(request: &Request) -> Self {
        if request.method() == Method::POST || !wants_page(request) {
            return Self::Unproven;
        }
        let is_shown = session::is_shown(request.headers());
        if is_from_a_link_elsewhere(request) && !is_shown {
            return Self::Withheld;
        }
        let path = request.uri().path_and_query();
        Self::LogIn(path.map_or_else(|| "/".into(), ToString::to_string))
    }

    fn is_unproven(&self) -> bool {
        matches!(self, Self::Unproven | Self::LogIn(_) | Self::Withheld)
    }

    fn response(self, base_path: &str) -> Response {
        let (status, text) = match self {
            Self::LogIn(to) => return login::lead(base_path, &to),
            Self::Withheld => return login::repeat(),
            Self::ReadOnly => {
                return Refusal::another_token(
                    "this token is for reading only: send the token that `admin_token` in \
                     [server] names",
                )
                .into_response();
            }
            Self::Unproven => (
                StatusCode::UNAUTHORIZED,
                "this port needs the header `Authorization: Bearer TOKEN`, with the token that \
                 `admin_token` in [server] names, or, for reading, `admin_read_token`",
            ),
            Self::HostName => (
                StatusCode::FORBIDDEN,
                "use an IP address or `localhost` in the URL: any other host name may be an \
                 attack from a web page (DNS rebinding); set `admin_token` to allow names",
            ),
            Self::OtherSite => (
                StatusCode::FORBIDDEN,
                "requests from pages of other web sites are refused; a reverse proxy must pass \
                 the header `Host` on unchanged",
            ),
        };
        Refusal::new(status, text).into_response()
    }
}
