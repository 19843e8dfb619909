//! `/login` and `/logout`: a session for a browser. The form works without JavaScript.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, html};
use zeroize::Zeroizing;

use super::base_path::local;
use super::bounds::Bounds;
use super::html::{page, plain};
use super::json::Refusal;
use super::origin::text;
use super::{Admin, Route, session};

/// The content type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page("/login", Bounds::LOG_IN_FORM, show).without_token(),
        Route::form("/login", Bounds::LOG_IN, log_in).without_token(),
        Route::form("/logout", Bounds::LOG_IN, log_out).without_token(),
    ]
}

/// Leads a browser to the log-in, and from there to the page `to`.
pub(super) fn lead(base_path: &str, to: &str) -> Response {
    let to = local(base_path, to);
    let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
    see(&format!("{base_path}/login?to={to}"), None)
}

/// Has a browser repeat its request, as one of this site.
pub(super) fn repeat() -> Response {
    page(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content="0";
                title { "unwrapd" }
                link rel="icon" href="data:,";
            }
            body {
                p { a href="" { "Continue" } }
            }
        }
    })
}

/// Has a browser go to this path, with this cookie.
fn see(path: &str, cookie: Option<HeaderValue>) -> Response {
    let headers = [(LOCATION, path), (CACHE_CONTROL, "no-store")];
    let mut response = (StatusCode::SEE_OTHER, headers).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

async fn show(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let to = field(query.as_bytes(), "to").unwrap_or_default();
    form(&admin, &to, None)
}

async fn log_in(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let media_type = text(&headers, &CONTENT_TYPE).and_then(|text| text.split(';').next());
    if !media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case(FORM)) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("send a form, with the header `content-type: {FORM}`"),
        ));
    }
    let to = field(&body, "to").unwrap_or_default();
    let to = local(&admin.base_path, &to);
    let Some(tokens) = admin.access.tokens() else {
        return Ok(see(&to, None));
    };
    let token = field(&body, "token").unwrap_or_default();
    let Some((level, token)) = tokens
        .level(&token)
        .and_then(|level| Some((level, tokens.of(level)?)))
    else {
        admin.access.delay().await?;
        let mut response = form(&admin, &to, Some("This is not a token of this gateway."));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(response);
    };
    let session = session::begin(token, level, admin.clock.now());
    let cookie = session::cookie(&admin, &headers, Some(&session))?;
    Ok(see(&to, Some(cookie)))
}

async fn log_out(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Refusal> {
    let cookie = session::cookie(&admin, &headers, None)?;
    let form = format!("{}/login", admin.base_path);
    Ok(see(&form, Some(cookie)))
}

/// The value of a field. It may be a token, so it is wiped.
fn field(form: &[u8], name: &str) -> Option<Zeroizing<String>> {
    let mut fields = form_urlencoded::parse(form);
    let (_, value) = fields.find(|(key, _)| key == name)?;
    Some(Zeroizing::new(value.into_owned()))
}

fn form(admin: &Admin, to: &str, problem: Option<&str>) -> Response {
    let base_path = &*admin.base_path;
    let to = local(base_path, to);
    let content = if admin.access.tokens().is_some() {
        html! {
            h1 { "unwrapd" }
            @if let Some(problem) = problem {
                p role="alert" { (problem) }
            }
            form method="post" action={ (base_path) "/login" } {
                input type="hidden" name="to" value=(to);
                label for="token" { "Token" }
                input #token type="password" name="token" required autofocus
                    autocomplete="current-password";
                button type="submit" { "Log in" }
            }
            p {
                "The token is the secret that " code { "admin_token" } " in the configuration names, "
                "or, for reading only, " code { "admin_read_token" } "."
            }
        }
    } else {
        html! {
            h1 { "unwrapd" }
            p { "This port needs no token." }
            p { a href=(to) { "Continue" } }
        }
    };
    page(plain(base_path, "Log in", "login", &content))
}
