//! The log-in of a browser, with forms and links alone.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{
    COOKIE, OPERATE, PAGE, READ, assert_statuses, change, form, guarded, header, log_in, problem,
    session,
};
use crate::support::{TestGateway, client_that_stays};

/// A page, as a browser asks for it.
fn page(client: &Client, url: &str) -> RequestBuilder {
    client.get(url).header("accept", PAGE)
}

/// The request as a browser sends it because of a page of this site.
fn from(request: RequestBuilder, site: &str) -> RequestBuilder {
    request.header("sec-fetch-site", site)
}

/// The value of an attribute of the first element with this beginning.
fn attribute<'t>(html: &'t str, element: &str, name: &str) -> &'t str {
    let (_, rest) = html.split_once(element).unwrap_or_else(|| panic!("{html}"));
    let (element, _) = rest.split_once('>').unwrap();
    let (_, value) = element.split_once(&format!(" {name}=\"")).unwrap();
    value.split_once('"').unwrap().0
}

/// The HTML of the page, which has the headers of every page.
async fn text_of(answer: Response) -> String {
    assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
    assert_eq!(
        header(&answer, "content-security-policy"),
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    assert_eq!(header(&answer, "referrer-policy"), "same-origin");
    assert_eq!(header(&answer, "cache-control"), "no-store");
    assert_eq!(header(&answer, "cross-origin-opener-policy"), "same-origin");
    answer.text().await.unwrap()
}

#[tokio::test]
async fn a_browser_logs_in_and_out_without_a_script() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let wanted = "/events?q=type:batch.*%20since:2h&a=%26";
    let led = page(&client, &format!("{admin}{wanted}"))
        .send()
        .await
        .unwrap();
    assert_eq!(led.status(), 303);
    let location = header(&led, "location");
    assert!(location.starts_with("/login?to="), "{location}");
    let answer = page(&client, &format!("{admin}{location}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let html = text_of(answer).await;
    assert!(
        !html.contains("<script") && html.contains("<main class=\"login\">"),
        "{html}"
    );
    let style = attribute(&html, "<link", "href");
    assert!(style.starts_with("/assets/style.css?"), "{style}");
    assert_eq!(attribute(&html, "<form", "method"), "post");
    assert_eq!(attribute(&html, "<input id=\"token\"", "name"), "token");
    let to = attribute(&html, "<input type=\"hidden\"", "value").replace("&amp;", "&");
    let action = format!("{admin}{}", attribute(&html, "<form", "action"));
    let fields = [("token", OPERATE), ("to", &*to)];
    let answer = form(&client, &action, &fields).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "location")),
        (303, wanted)
    );
    let cookie = header(&answer, "set-cookie").to_owned();
    let (session, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"
    );

    let with = |request: RequestBuilder| request.header("cookie", format!("a=b; {session}"));
    let answer = with(page(&client, &format!("{admin}/x")))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404, "there is no such page");
    let answer = with(client.get(format!("{admin}/api/v1/gateways")))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        with(change(&client, &admin)).send().await.unwrap().status(),
        200
    );
    let out = with(form(&client, &format!("{admin}/logout"), &[]))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (out.status().as_u16(), header(&out, "location")),
        (303, "/login")
    );
    assert_eq!(
        header(&out, "set-cookie"),
        format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
    );
}

#[tokio::test]
async fn a_log_in_stays_on_this_port() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    for to in [
        "//evil.example",
        "///evil.example",
        "https://evil.example/",
        "https:evil.example",
        "\\evil.example",
        "\\\\evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/\r\n/evil.example",
        "/a\r\nset-cookie: evil=1",
        "/\u{0}/evil.example",
        "javascript:alert('evil')",
        "evil",
        "",
    ] {
        let answer = log_in(&client, &admin, READ, to).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "location")),
            (303, "/"),
            "{to:?}"
        );
        let cookies = answer.headers().get_all("set-cookie");
        assert_eq!(cookies.iter().count(), 1, "{to:?}");
        let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let url = format!("{admin}/login?to={to}");
        let html = text_of(page(&client, &url).send().await.unwrap()).await;
        assert_eq!(
            attribute(&html, "<input type=\"hidden\"", "value"),
            "/",
            "{to}"
        );
        assert!(!html.contains("evil"), "{html}");
    }
    let hostile = "/x\"><script>alert(1)</script>";
    let to: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
    let url = format!("{admin}/login?to={to}");
    let html = text_of(page(&client, &url).send().await.unwrap()).await;
    assert!(!html.contains("<script"), "{html}");
}

#[tokio::test]
async fn a_browser_is_led_to_log_in_only_where_it_asks_for_a_page() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let expected = [
        ("/", 303),
        ("/x", 303),
        ("//evil.example", 303),
        ("/apis", 303),
        ("/login", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 401),
        ("/api/v1/gateways", 401),
        ("/api/v1/nothing", 404),
        ("/api", 404),
    ];
    assert_statuses(|path| page(&client, &format!("{admin}{path}")), &expected).await;
    for accept in ["*/*", "application/json", "text/css,*/*;q=0.1"] {
        let request = client.get(format!("{admin}/x")).header("accept", accept);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 404, "{accept}");
        problem(answer).await;
    }
}

#[tokio::test]
async fn an_error_is_a_page_for_a_browser() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let session = session(&admin, READ).await;
    let request = page(&client, &format!("{admin}/x")).header("cookie", session);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let html = text_of(answer).await;
    assert!(html.contains("<h1>Not Found</h1>"), "{html}");
    let refused = log_in(&client, &admin, READ, "/").header("accept", PAGE);
    let refused = from(refused, "cross-site").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(refused.headers().get("set-cookie").is_none());
    text_of(refused).await;
    let other = client.put(format!("{admin}/login")).header("accept", PAGE);
    let other = other.send().await.unwrap();
    assert_eq!(other.status(), 405);
    assert!(header(&other, "allow").contains("POST"));
}

/// The browser withholds a `SameSite=Strict` cookie when the user follows a link in a chat.
#[tokio::test]
async fn a_link_on_another_site_leads_to_the_page_by_a_request_of_this_site() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let url = format!("{admin}/x?a=b");
    let from_site = |site| from(page(&client, &url), site);
    let answer = from_site("cross-site").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let html = text_of(answer).await;
    let refresh = attribute(&html, "<meta http-equiv=\"refresh\"", "content");
    assert_eq!(
        refresh, "0",
        "the browser repeats the request for the same path"
    );
    // The repeated request has the cookie, or there is none and it leads to the log-in.
    let session = session(&admin, READ).await;
    let repeated = from_site("same-origin")
        .header("cookie", &session)
        .send()
        .await
        .unwrap();
    assert_eq!(repeated.status(), 404, "there is no such page");
    for site in ["same-origin", "none", "same-site"] {
        let answer = from_site(site).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{site}");
    }
    let expired = from_site("cross-site").header("cookie", format!("{COOKIE}=read.1.x"));
    assert_eq!(expired.send().await.unwrap().status(), 303);
    // A port without tokens has no sessions.
    let open = TestGateway::start(vec![]).await;
    let request = page(&client, &format!("{}/x", open.admin()));
    let answer = from(request, "cross-site").send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_in_the_form_are_slow_and_few_like_those_in_headers() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let began = Instant::now();
    let mut guesses = JoinSet::new();
    for number in 0..20 {
        let guess = format!("guess number {number}");
        guesses.spawn(log_in(&client, &admin, &guess, "/").send());
        let gateways = client.get(format!("{admin}/api/v1/gateways"));
        guesses.spawn(gateways.bearer_auth(guess).send());
    }
    for _ in 0..5 {
        let answer = log_in(&client, &admin, OPERATE, "/").send().await.unwrap();
        assert_eq!(answer.status(), 303);
    }
    let mut statuses = Vec::new();
    for answer in guesses.join_all().await {
        let answer = answer.unwrap();
        assert!(answer.headers().get("set-cookie").is_none());
        statuses.push(answer.status().as_u16());
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!(count(401) + count(429), 40, "{statuses:?}");
    assert!(count(401) >= 8 && count(429) >= 8, "{statuses:?}");

    let wrong = log_in(&client, &admin, "no token of this gateway", "/x");
    let answer = wrong.header("accept", PAGE).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let html = text_of(answer).await;
    assert!(html.contains("not a token of this gateway"), "{html}");
    assert!(!html.contains("no token of this gateway"), "{html}");
    assert_eq!(attribute(&html, "<input type=\"hidden\"", "value"), "/x");
}

#[tokio::test]
async fn the_form_is_read_whole_and_bounded() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let long = "/x".repeat(3_000);
    let answer = log_in(&client, &admin, READ, &long).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    let json = client.post(format!("{admin}/login")).body("{}");
    let json = json.header("content-type", "application/json");
    assert_eq!(json.send().await.unwrap().status(), 415);
    let blank = format!(" {READ}\r\n");
    let answer = log_in(&client, &admin, &blank, "/").send().await.unwrap();
    assert_eq!(
        answer.status(),
        303,
        "blanks around a pasted token are ignored"
    );
}

#[tokio::test]
async fn a_port_without_tokens_needs_no_log_in() {
    let test = TestGateway::start(vec![]).await;
    let (admin, client) = (test.admin(), client_that_stays());
    let answer = page(&client, &format!("{admin}/login?to=/x"))
        .send()
        .await
        .unwrap();
    let html = text_of(answer).await;
    assert!(!html.contains("<form"), "{html}");
    assert_eq!(attribute(&html, "<a", "href"), "/x");
    let answer = log_in(&client, &admin, "x", "/x").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "location")),
        (303, "/x")
    );
    assert!(answer.headers().get("set-cookie").is_none());
}
