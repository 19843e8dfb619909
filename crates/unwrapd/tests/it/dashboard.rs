//! The pages of the dashboard: whatever a reader can reach from the first page answers, and no page
//! is changed by the text of strangers. Browsers test the rest.

mod attention;
mod events;

use std::collections::BTreeSet;

use openai_webhooks::EventType;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use tempfile::TempDir;

use crate::support::application::{Answer, Application};
use crate::support::{TestGateway, Webhook, destination, until};

/// Text that would be an element, an attribute or an entity if it were not escaped.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;";

/// The same for an id, in which blanks and dots are not allowed.
const HOSTILE_ID: &str = "\"'><script>alert(1)</script>&amp;";

/// A page, with its links and the targets of its forms.
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    html: String,
}

impl Page {
    /// The values of an attribute.
    fn values(&self, attribute: &str) -> impl Iterator<Item = String> {
        let start = format!(" {attribute}=\"");
        let parts = self.html.split(&start).skip(1);
        let parts: Vec<String> = parts
            .filter_map(|part| Some(part.split_once('"')?.0.replace("&amp;", "&")))
            .collect();
        parts.into_iter()
    }

    fn links(&self) -> impl Iterator<Item = String> {
        self.values("href").filter(|link| link.starts_with('/'))
    }

    /// The targets of forms that change something.
    fn forms(&self) -> impl Iterator<Item = String> {
        let forms = self.html.split("<form method=\"post\" action=\"").skip(1);
        let forms: Vec<String> = forms
            .filter_map(|form| Some(form.split_once('"')?.0.to_owned()))
            .collect();
        forms.into_iter()
    }

    /// The fields of the form with this target, as a browser sends them.
    fn fields(&self, action: &str) -> String {
        let start = format!("<form method=\"post\" action=\"{action}\"");
        let form = self.html.split_once(&start).unwrap().1;
        let form = form.split_once("</form>").unwrap().0;
        let inputs = form.split("<input ").skip(1).map(|input| {
            let value = |name: &str| {
                let (_, rest) = input.split_once(&format!("{name}=\"")).unwrap();
                rest.split_once('"').unwrap().0.replace("&amp;", "&")
            };
            (value("name"), value("value"))
        });
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(inputs)
            .finish()
    }
}

async fn read(test: &TestGateway, path: &str) -> Page {
    let request = test.client().get(format!("{}{path}", test.admin()));
    let answer = request.header("accept", "text/html").send().await.unwrap();
    Page {
        status: answer.status(),
        headers: answer.headers().clone(),
        html: answer.text().await.unwrap(),
    }
}

/// Sends a form as a browser does, and follows the answer to the next page.
async fn send(test: &TestGateway, path: &str, body: String) -> Page {
    let request = test
        .client()
        .request(Method::POST, format!("{}{path}", test.admin()))
        .header("accept", "text/html")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    let answer = request.send().await.unwrap();
    if answer.status() == StatusCode::SEE_OTHER {
        let next = answer.headers()["location"].to_str().unwrap().to_owned();
        return read(test, &next).await;
    }
    Page {
        status: answer.status(),
        headers: answer.headers().clone(),
        html: answer.text().await.unwrap(),
    }
}

/// A gateway with something of everything: a destination that is down, one that refuses, one that is
/// not configured any more, a message that no destination wants, a forgery, and hostile text.
async fn gateway_with_troubles() -> (TestGateway, [Application; 2]) {
    let folder = TempDir::new().unwrap();
    let gone = destination("gone", "http://127.0.0.1:9/webhook");
    let before = TestGateway::start_in(folder, vec![gone]).await;
    before.receive("wh_gone", EventType::BatchCompleted).await;
    let folder = before.stop().await;

    let body = Answer::Body(500, HOSTILE.into());
    let down = Application::start(vec![body; 50]).await;
    let refuses = Application::start(vec![Answer::Status(410); 50]).await;
    let mut app = destination("app", &down.url);
    app.limits.retry.max = app.limits.retry.first;
    let mut audit = destination("audit", &refuses.url);
    for settings in [&mut app, &mut audit] {
        settings.events = unwrapd::route::Patterns::parse(["batch.*"]).unwrap();
    }
    let test = TestGateway::start_in(folder, vec![app, audit]).await;
    for number in 1..=3 {
        test.receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    test.receive("wh_unrouted", EventType::VideoCompleted).await;
    let payload = serde_json::json!({
        "id": HOSTILE, "object": "event", "created_at": 1, "type": "batch.completed",
        "data": { "id": HOSTILE },
    });
    let hostile = Webhook::with_payload(&format!("wh_{HOSTILE_ID}"), payload.to_string());
    assert_eq!(test.post(&hostile).await, 200);
    let mut forged = Webhook::new("wh_forged", EventType::BatchCompleted);
    forged.payload.push_str(HOSTILE);
    assert_eq!(test.post(&forged).await, 401);
    until("the destinations have failed", async || {
        let page = read(&test, "/").await.html;
        page.contains("app has been down")
            && page.contains("dead letters at audit")
            && page.contains("refused at ")
    })
    .await;
    (test, [down, refuses])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_link_and_every_button_that_a_reader_can_reach_works() {
    let (test, _apps) = gateway_with_troubles().await;
    let mut waiting = vec!["/".to_owned()];
    let mut seen = BTreeSet::new();
    let mut forms = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let page = read(&test, &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for form in page.forms() {
            forms.insert((form.clone(), page.fields(&form)));
        }
        waiting.extend(page.links());
    }
    let pages = [
        "/",
        "/events",
        "/events/wh_1",
        "/destinations",
        "/destinations/app",
        "/destinations/gone",
        "/refused",
        "/system",
        "/runs",
        "/events/wh_1/body?endpoint=production",
    ];
    for page in pages {
        assert!(seen.contains(page), "{page} in {seen:?}");
    }
    assert!(
        seen.iter().any(|path| path.starts_with("/replay?q=")),
        "{seen:?}"
    );
    assert!(
        seen.iter().any(|path| path.starts_with("/drop?q=")),
        "{seen:?}"
    );

    // Forms that end something come last.
    let mut forms: Vec<_> = forms.into_iter().collect();
    forms.sort_by_key(|(path, _)| path.contains("drop"));
    let paths: BTreeSet<_> = forms.iter().map(|(path, _)| path.as_str()).collect();
    for form in [
        "/destinations/app/pause",
        "/destinations/app/test",
        "/replay",
        "/drop",
        "/refused/retry",
        "/refused/drop",
    ] {
        assert!(paths.contains(form), "{form} in {paths:?}");
    }
    for (path, fields) in forms {
        let next = send(&test, &path, fields).await;
        let is_gone = next.status == StatusCode::NOT_FOUND && path.contains("/refused/");
        assert!(
            next.status == StatusCode::OK || is_gone,
            "{path}: {}\n{}",
            next.status,
            next.html
        );
    }
}

/// An id may be a word of another path, and have any character of a URL but dots.
#[tokio::test]
async fn the_list_links_the_page_of_every_id() {
    let test = TestGateway::start(vec![]).await;
    let ids = [
        "replay", "drop", "body", "count", "a/b", "%2e%2e", "?q=1#x", "~", "\"<&>",
    ];
    for id in ids {
        test.receive(id, EventType::BatchCompleted).await;
    }
    let list = read(&test, "/events").await;
    let links: Vec<String> = list
        .links()
        .filter(|link| link.starts_with("/events/"))
        .collect();
    assert_eq!(links.len(), ids.len(), "{links:?}");
    for (link, id) in links.iter().zip(ids.iter().rev()) {
        let page = read(&test, link).await;
        let shown = id.replace('&', "&amp;").replace('"', "&quot;");
        let shown = shown.replace('<', "&lt;").replace('>', "&gt;");
        assert_eq!(page.status, StatusCode::OK, "{link}");
        let shown = format!("<dd class=\"id\">{shown}</dd>");
        assert!(page.html.contains(&shown), "{link}: {}", page.html);
        let body = read(&test, &format!("{link}/body")).await;
        assert!(body.html.contains("batch.completed"), "{link}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_strangers_is_shown_as_text_on_every_page() {
    let (test, _apps) = gateway_with_troubles().await;
    let hostile = read(&test, "/events").await;
    let path = hostile
        .links()
        .find(|link| link.contains("script"))
        .unwrap();
    let pages = [
        "/",
        "/events",
        &path,
        "/events/wh_1",
        "/destinations/app",
        "/refused",
        "/refused/1",
        "/events?q=%3Cscript%3E",
        "/events?q=%3Cscript%3E:x",
        "/events/%3Cscript%3E",
        "/destinations/%3Cscript%3E",
        "/runs/%3Cscript%3E",
    ];
    let mut shown = 0;
    for path in pages {
        let page = read(&test, path).await;
        // The only script is that of the head. Pages of errors have none.
        assert!(
            page.html.matches("<script").count() <= 1,
            "{path}: {}",
            page.html
        );
        assert!(!page.html.contains("<img"), "{path}");
        shown += usize::from(page.html.contains("&lt;script&gt;"));
    }
    assert!(shown >= 7, "{shown} pages show the text");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_forbids_scripts_frames_and_caches() {
    let (test, _apps) = gateway_with_troubles().await;
    for path in [
        "/",
        "/events",
        "/events/wh_1",
        "/nothing",
        "/events?q=nothing:1",
        "/login",
    ] {
        let page = read(&test, path).await;
        let header = |name: &str| page.headers[name].to_str().unwrap();
        assert!(header("content-type").starts_with("text/html"), "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        // Inline styles and handlers would not run, so there must be none.
        assert!(
            !page.html.contains(" style=") && !page.html.contains(" onclick"),
            "{path}"
        );
    }
    let body = read(&test, "/events/wh_1/body").await;
    assert_eq!(body.headers["content-type"], "application/octet-stream");
    assert!(
        body.headers["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
}

/// A browser that kept the style sheet of an earlier version would show the pages of the next one
/// wrongly.
#[tokio::test]
async fn a_browser_keeps_a_file_only_under_the_address_of_its_version() {
    let test = TestGateway::start(vec![]).await;
    for page in ["/", "/login", "/nothing"] {
        let page = read(&test, page).await;
        let files: Vec<String> = page
            .links()
            .chain(page.values("src"))
            .filter(|link| link.starts_with("/assets/"))
            .collect();
        assert!(!files.is_empty());
        for file in files {
            let caching = |page: &Page| page.headers["cache-control"].to_str().unwrap().to_owned();
            let kept = caching(&read(&test, &file).await);
            assert!(kept.contains("immutable"), "{file}: {kept}");
            let (path, _) = file.split_once('?').unwrap();
            for other in [path, &format!("{path}?of-another-version")] {
                assert_eq!(caching(&read(&test, other).await), "no-cache", "{other}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_changes_nothing() {
    let (_app, test) = TestGateway::with_app([]).await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "http://elsewhere.example"),
    ] {
        let request = test
            .client()
            .post(format!("{}/destinations/app/pause", test.admin()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header(name, value);
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::FORBIDDEN,
            "{name}"
        );
    }
    assert!(
        !read(&test, "/destinations/app")
            .await
            .html
            .contains("paused")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_of_a_replay_has_its_counts_and_the_run_does_what_was_planned() {
    let mut app = Application::start(vec![Answer::Status(410); 3]).await;
    let test = TestGateway::start(vec![destination("app", &app.url)]).await;
    for number in 1..=3 {
        test.receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
        app.next().await;
    }
    let path = "/replay?q=status%3Adead";
    until("all are dead letters", async || {
        read(&test, path).await.html.contains("Replay 3 deliveries")
    })
    .await;
    let plan = read(&test, path).await;
    // A message that arrives after the plan is not part of the run.
    test.receive("wh_later", EventType::BatchCompleted).await;
    app.next().await;
    let run = send(&test, "/replay", plan.fields("/replay")).await;
    assert_eq!(run.status, StatusCode::OK, "{}", run.html);
    let mut again: Vec<_> = Vec::new();
    for _ in 0..3 {
        again.push(app.next().await.webhook_id().to_owned());
    }
    again.sort();
    assert_eq!(again, ["wh_1", "wh_2", "wh_3"]);
    // The same form again is the same run.
    send(&test, "/replay", plan.fields("/replay")).await;
    until("the run is done", async || {
        read(&test, "/runs").await.html.contains("3 of 3")
    })
    .await;
    assert!(!app.has_more());
}
