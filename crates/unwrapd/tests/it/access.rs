//! Access to the admin port: what each token and each session may do, at every route, and what
//! pages of other sites may not.

mod base_path;
mod command_line;
mod content;
mod cookie;
mod log_in;

use openai_webhooks::{EventType, Secret};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::task::JoinSet;
use unwrapd::admin::{AdminToken, AdminTokens, Needs, Route, routes};
use unwrapd::config::DestinationSettings;

use crate::support::{TestGateway, client_that_stays};

/// The token of operators.
const OPERATE: &str = "a token that nobody guesses so soon";
/// The token for reading.
const READ: &str = "a token that may look and change nothing";
/// Name of the cookie of a session.
const COOKIE: &str = "unwrapd_session";
/// The `Accept` of a browser that shows a page.
const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn tokens(read_payloads: bool) -> AdminTokens {
    let token = |text| AdminToken::new(&Secret::parse(text).unwrap());
    AdminTokens {
        operate: token(OPERATE),
        read: Some(token(READ)),
        read_payloads,
    }
}

/// A gateway with both tokens.
pub(crate) async fn guarded() -> TestGateway {
    guarded_with(vec![], true).await
}

async fn guarded_with(destinations: Vec<DestinationSettings>, read_payloads: bool) -> TestGateway {
    TestGateway::configured(destinations, |config| {
        config.admin_tokens = Some(tokens(read_payloads));
    })
    .await
}

/// Sends the form of the log-in.
fn log_in(client: &Client, admin: &str, token: &str, to: &str) -> RequestBuilder {
    form(
        client,
        &format!("{admin}/login"),
        &[("token", token), ("to", to)],
    )
}

fn form(client: &Client, url: &str, fields: &[(&str, &str)]) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    client
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.finish())
}

/// The value of the header, which must be there.
fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    let value = response.headers().get(name);
    let value = value.unwrap_or_else(|| panic!("no {name}: {response:?}"));
    value.to_str().unwrap()
}

/// A session that begins with this token: name and value of the cookie.
async fn session(admin: &str, token: &str) -> String {
    let client = client_that_stays();
    let answer = log_in(&client, admin, token, "/").send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let cookie = header(&answer, "set-cookie").split(';').next().unwrap();
    assert!(cookie.starts_with(COOKIE), "{cookie}");
    cookie.to_owned()
}

/// The path of a route with values for its parameters.
fn path(route: &Route) -> String {
    route.path().replace("{name}", "app").replace("{id}", "1")
}

/// A request to this route, with a body that it refuses.
fn request(client: &Client, admin: &str, route: &Route) -> RequestBuilder {
    let url = format!("{admin}{}", path(route));
    client
        .request(route.method().clone(), url)
        .header("content-type", "application/json")
        .body(if route.method() == "POST" { "[" } else { "" })
}

/// Whether the port has let the request pass to its route.
fn has_passed(response: &Response) -> bool {
    ![401, 403, 429].contains(&response.status().as_u16())
}

async fn problem(response: Response) -> Value {
    assert_eq!(
        header(&response, "content-type"),
        "application/problem+json"
    );
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// Requests each of these paths, which must be answered with its status, an error as a problem.
async fn assert_statuses(request: impl Fn(&str) -> RequestBuilder, expected: &[(&str, u16)]) {
    for (path, status) in expected {
        let answer = request(path).send().await.unwrap();
        assert_eq!(answer.status(), *status, "{path}");
        if *status >= 400 {
            problem(answer).await;
        }
    }
}

#[tokio::test]
async fn each_route_takes_the_tokens_and_the_sessions_with_the_right_that_it_needs() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let sessions = [session(&admin, OPERATE).await, session(&admin, READ).await];
    for route in routes() {
        for (token, session) in [OPERATE, READ].into_iter().zip(&sessions) {
            let may_pass = route.needs() != Needs::Operate || token == OPERATE;
            let by_token = request(&client, &admin, &route).bearer_auth(token);
            let by_session = request(&client, &admin, &route).header("cookie", session);
            for request in [by_token, by_session] {
                let answer = request.send().await.unwrap();
                assert_eq!(has_passed(&answer), may_pass, "{route:?} {answer:?}");
                if may_pass {
                    continue;
                }
                assert_eq!(answer.status(), 403, "{route:?}");
                let challenge = header(&answer, "www-authenticate");
                assert_eq!(
                    challenge, "Bearer error=\"insufficient_scope\"",
                    "{route:?}"
                );
                let problem = problem(answer).await;
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains("`admin_token`"), "{route:?}: {detail}");
            }
        }
    }
}

#[tokio::test]
async fn each_route_but_open_ones_refuses_clients_without_a_valid_token_or_session() {
    let (test, other) = (
        guarded().await,
        TestGateway::configured(vec![], |config| {
            let token = Secret::parse("a token of a gateway of someone else").unwrap();
            config.admin_tokens = Some(AdminTokens::operate(AdminToken::new(&token)));
        })
        .await,
    );
    let (admin, client) = (test.admin(), client_that_stays());
    let elsewhere = session(&other.admin(), "a token of a gateway of someone else").await;
    let valid = session(&admin, READ).await;
    let raised = valid.replace("=read.", "=operate.");
    let (longer, other_end) = (format!("{valid}A"), valid.replace("read.1", "read.9"));
    let cut = &valid[..valid.len() - 1];
    assert!(raised != valid && other_end != valid, "{valid}");
    for route in routes() {
        let request = || request(&client, &admin, &route);
        let wrong = [
            request(),
            request().header("cookie", &elsewhere),
            request().header("cookie", &raised),
            request().header("cookie", &longer),
            request().header("cookie", &other_end),
            request().header("cookie", cut),
            request().header("cookie", format!("{COOKIE}={OPERATE}")),
            request().header("cookie", format!("other{valid}")),
        ];
        for request in wrong {
            let answer = request.send().await.unwrap();
            assert_eq!(has_passed(&answer), route.is_open(), "{route:?} {answer:?}");
            if !route.is_open() {
                assert_eq!(answer.status(), 401, "{route:?}");
                assert_eq!(header(&answer, "www-authenticate"), "Bearer");
                problem(answer).await;
            }
        }
    }
}

#[tokio::test]
async fn each_route_but_open_ones_refuses_wrong_tokens() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let guarded: Vec<Route> = routes()
        .into_iter()
        .filter(|route| !route.is_open())
        .collect();
    let raw = |token: &str| format!("Basic {token}");
    // The gateway delays this number at a time.
    for some in guarded.chunks(4) {
        let mut answers = JoinSet::new();
        for route in some {
            let wrong = request(&client, &admin, route).bearer_auth(&OPERATE[1..]);
            let basic = request(&client, &admin, route).header("authorization", raw(OPERATE));
            answers.spawn(wrong.send());
            answers.spawn(basic.send());
        }
        for answer in answers.join_all().await {
            assert_eq!(answer.unwrap().status(), 401, "{some:?}");
        }
    }
}

/// A change that is never refused for another reason.
fn change(client: &Client, admin: &str) -> RequestBuilder {
    client
        .post(format!("{admin}/api/v1/quarantine/drop"))
        .header("content-type", "application/json")
        .body(r#"{"id": 1}"#)
}

#[tokio::test]
async fn a_change_is_refused_if_a_page_of_another_site_sent_it() {
    let (guarded, open) = (guarded().await, TestGateway::start(vec![]).await);
    let client = client_that_stays();
    let session = session(&guarded.admin(), OPERATE).await;
    for admin in [guarded.admin(), open.admin()] {
        let own = admin.clone();
        let (other, null) = ("https://evil.example", "null");
        for (site, origin, status) in [
            (None, None, 200),
            (None, Some(&*own), 200),
            (None, Some(other), 403),
            (None, Some(null), 403),
            // Behind a reverse proxy the origin may differ from the host.
            (Some("same-origin"), Some("https://ops.example"), 200),
            (Some("same-origin"), None, 200),
            (Some("none"), None, 200),
            (Some("same-site"), Some(&*own), 403),
            (Some("cross-site"), Some(&*own), 403),
            (Some("cross-site"), None, 403),
            (Some(""), None, 403),
            (Some("Same-Origin"), None, 403),
        ] {
            let mut by_session = change(&client, &admin).header("cookie", &session);
            let mut by_token = change(&client, &admin).bearer_auth(OPERATE);
            if let Some(site) = site {
                by_session = by_session.header("sec-fetch-site", site);
                by_token = by_token.header("sec-fetch-site", site);
            }
            if let Some(origin) = origin {
                by_session = by_session.header("origin", origin);
                by_token = by_token.header("origin", origin);
            }
            for request in [by_session, by_token] {
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), status, "{site:?} {origin:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_change_is_checked_for_the_page_that_sent_it() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let session = session(&admin, OPERATE).await;
    for route in routes().iter().filter(|route| route.method() == "POST") {
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
        ] {
            let request = request(&client, &admin, route).header("cookie", &session);
            let answer = request.header(name, value).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{route:?} {name}");
        }
    }
}

/// A page cannot read such an answer, but it could see whether an id is known by whether its image
/// or object loads, and it could keep the gateway busy.
#[tokio::test]
async fn a_page_of_another_site_loads_no_answer_as_a_part_of_itself() {
    let test = TestGateway::start(vec![]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let (admin, client) = (test.admin(), client_that_stays());
    for (site, use_of_it, status) in [
        ("cross-site", "image", 403),
        ("cross-site", "script", 403),
        ("cross-site", "object", 403),
        ("cross-site", "iframe", 403),
        ("cross-site", "empty", 403),
        ("same-site", "empty", 403),
        // The user follows a link.
        ("cross-site", "document", 200),
        ("same-site", "document", 200),
        ("same-origin", "empty", 200),
        ("none", "document", 200),
    ] {
        for path in ["/api/v1/messages/wh_1", "/events/wh_1"] {
            let request = client.get(format!("{admin}{path}"));
            let request = request.header("sec-fetch-site", site);
            let answer = request.header("sec-fetch-dest", use_of_it).send().await;
            assert_eq!(
                answer.unwrap().status(),
                status,
                "{path} {site} {use_of_it}"
            );
        }
    }
}

#[tokio::test]
async fn each_route_but_open_ones_refuses_host_names_without_a_token() {
    let test = TestGateway::start(vec![]).await;
    let (admin, client) = (test.admin(), client_that_stays());
    for route in routes() {
        for (host, is_own) in [
            ("evil.example", false),
            ("localhost:1", true),
            ("[::1]", true),
        ] {
            let request = request(&client, &admin, &route).header("host", host);
            let request = request.header("sec-fetch-site", "same-origin");
            // A proxy could say anything there, and so could a page.
            let request = request.header("x-forwarded-host", "localhost");
            let answer = request.send().await.unwrap();
            let may_pass = route.is_open() || is_own;
            assert_eq!(has_passed(&answer), may_pass, "{route:?} {host}");
        }
    }
}
