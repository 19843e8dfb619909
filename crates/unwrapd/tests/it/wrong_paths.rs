//! No request is refused silently: wrong paths and methods, and all other refusals of the public
//! port.

use openai_webhooks::EventType;
use reqwest::{Method, StatusCode};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::process::{Serving, write_server_config};
use crate::support::tally::Counted as _;
use crate::support::wire::{head, send, statuses, until_closed};
use crate::support::{OPENAI_SECRET, TestGateway, Webhook, client};

fn webhook(id: &str) -> Webhook {
    Webhook::new(id, EventType::BatchCompleted)
}

fn start(server: &str) -> (Serving, TempDir) {
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), server);
    (Serving::start(folder.path(), &[]), folder)
}

/// Number of log lines that contain all of these.
fn lines(log: &str, parts: &[&str]) -> usize {
    log.lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

#[tokio::test]
async fn a_trailing_slash_is_accepted() {
    let test = TestGateway::start(vec![]).await;
    let url = test.url("production") + "/";
    let answer = webhook("wh_1").request(test.client(), &url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(test.gateway.store().tally().await.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_is_explained_and_takes_a_line_of_the_log() {
    let (serving, _folder) = start("");
    let base = format!("http://{}", serving.address());
    let client = client();
    let wrong = [
        "//webhooks/production",
        "/webhook/production",
        "/",
        "/webhooks",
        "/webhooks/production/x",
        "/webhooks/production//",
    ];
    let unknown = [
        "/webhooks/prod",
        "/webhooks/Production",
        "/webhooks/%ff",
        "/webhooks//",
    ];
    for path in wrong.into_iter().chain(unknown) {
        for number in 0..3 {
            let id = format!("wh_{number}");
            let answer = webhook(&id).request(&client, &format!("{base}{path}"));
            let answer = answer.send().await.unwrap();
            assert_eq!(answer.status(), 404, "{path}");
            let body = answer.text().await.unwrap();
            assert!(body.contains("/webhooks/{endpoint}"), "{path}: {body}");
            assert!(!body.contains("production"), "{path}: {body}");
        }
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    // One for each kind, and one for those that were only counted until the end.
    for (kind, further) in [
        (
            "wrong path",
            "17 times more since the last such line, the latest: POST /webhooks/production//",
        ),
        (
            "no such endpoint",
            "11 times more since the last such line, the latest: POST /webhooks//",
        ),
    ] {
        let said = ["refused a webhook with 404", kind];
        assert_eq!(lines(&log, &said), 2, "{log}");
        assert_eq!(lines(&log, &[said[0], kind, further]), 1, "{log}");
        assert_eq!(
            lines(&log, &[said[0], kind, "webhooks at /webhooks/production."]),
            1,
            "{log}"
        );
    }
    assert!(log.contains("POST //webhooks/production"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_wrong_port_is_answered_with_the_right_one() {
    let (serving, _folder) = start("");
    let base = format!("http://{}", serving.address());
    for path in ["/readyz", "/healthz/", "/api/v1/destinations"] {
        let answer = client().get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    let url = format!("{}/webhooks/production", serving.admin);
    let answer = webhook("wh_1")
        .request(&client(), &url)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
    let body = answer.text().await.unwrap();
    assert!(body.contains("the port of `listen`"), "{body}");
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let check = ["GET /readyz", "`admin` in [server]"];
    assert_eq!(lines(&log, &check), 1, "{log}");
    let lost = [
        "refused a webhook with 404 (sent to the admin port): POST /webhooks/production",
        "the port that `listen` in [server] sets",
    ];
    assert_eq!(lines(&log, &lost), 1, "{log}");
}

/// Otherwise noise at all endpoints would hide the endpoint with a wrong secret.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_refusal_is_logged_for_each_of_many_endpoints() {
    const ENDPOINTS: usize = 150;
    let folder = TempDir::new().unwrap();
    write_server_config(folder.path(), "");
    let file = folder.path().join("unwrapd.toml");
    let endpoint = |number| {
        format!(
            "[[endpoint]]\nname = \"e{number}\"\nsecrets = [{{ env = \"OPENAI_WEBHOOK_SECRET\" }}]\n"
        )
    };
    let endpoints: Vec<String> = (0..ENDPOINTS).map(endpoint).collect();
    let config = std::fs::read_to_string(&file).unwrap() + &endpoints.concat();
    std::fs::write(&file, config).unwrap();
    let serving = Serving::start(folder.path(), &[]);
    let webhooks = format!("http://{}/webhooks", serving.address());
    let client = client();
    let mut old = webhook("wh_1");
    old.headers.timestamp = "1".into();
    for number in 0..ENDPOINTS {
        let url = format!("{webhooks}/e{number}");
        let bare = client.post(&url).body("{}").send().await.unwrap();
        assert_eq!(bare.status(), 400);
        let answer = old.request(&client, &url).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    let forged = webhook("wh_1").forged();
    for endpoint in ["e0", "production"] {
        let url = format!("{webhooks}/{endpoint}");
        let answer = forged.request(&client, &url).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    // Requests refused shortly before the end are stored too.
    assert_eq!(lines(&log, &["was not kept"]), 0, "{log}");
    for endpoint in ["\"e0\"", "\"production\""] {
        let told = ["401 (signature)", "endpoint=", endpoint];
        assert_eq!(lines(&log, &told), 1, "{log}");
    }
    assert_eq!(lines(&log, &["of many kinds"]), 0, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_explained() {
    let (serving, _folder) = start("");
    let client = client();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
        for url in [serving.url.clone(), format!("{}/", serving.url)] {
            let answer = client.request(method.clone(), url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(answer.headers()["allow"], "POST", "{method}");
            if method != Method::HEAD {
                assert!(answer.text().await.unwrap().contains("POST"), "{method}");
            }
        }
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    assert_eq!(
        lines(&log, &["refused a request with 405", "with POST"]),
        1,
        "{log}"
    );
    assert_eq!(
        lines(&log, &["refused a request with 405", "7 times more"]),
        1,
        "{log}"
    );
}

/// Requests of a scanner cause neither many nor long log lines, hide no webhook, and cannot change
/// the terminal.
#[tokio::test(flavor = "multi_thread")]
async fn a_scanner_fills_no_log_and_hides_nothing() {
    let (serving, _folder) = start("");
    let address = serving.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    for number in 0..300 {
        let path = format!("/{number}{}", "%1b%5b31m".repeat(number));
        let request = format!("GET {path}?token=private HTTP/1.1\r\nhost: t\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(statuses(&until_closed(stream).await), [404; 300]);
    let secret = format!("http://{address}/webhooks/{OPENAI_SECRET}");
    let raw = "GET /webhooks/\u{202e}\u{1f600}x HTTP/1.1\r\nhost: t\r\n\r\n";
    drop(until_closed(send(address, raw).await).await);
    for url in [secret, format!("http://{address}/webhook/production")] {
        let answer = webhook("wh_1").request(&client(), &url).send().await;
        assert_eq!(answer.unwrap().status(), 404);
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    assert_eq!(
        lines(
            &log,
            &["refused a webhook with 404", "POST /webhook/production"]
        ),
        1,
        "{log}"
    );
    assert!(lines(&log, &["refused "]) < 10, "{log}");
    assert!(log.lines().all(|line| line.len() < 600), "{log}");
    assert!(!log.contains("private"), "{log}");
    assert!(
        !log.contains(OPENAI_SECRET.trim_start_matches("whsec_")),
        "{log}"
    );
    assert!(
        log.bytes()
            .all(|byte| byte == b'\n' || !byte.is_ascii_control()),
        "{log}"
    );
    assert!(!log.contains('\u{202e}'), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_a_webhook_takes_a_line_with_its_reason() {
    let (serving, _folder) = start("body_timeout_seconds = 1");
    let address = serving.address();
    let client = client();
    let genuine = webhook("wh_1");
    let forged = genuine.forged();
    let mut old = genuine.clone();
    old.headers.timestamp = "1".into();
    let mut malformed = genuine.clone();
    malformed.headers.timestamp = "yesterday".into();
    for (webhook, status) in [(&forged, 401), (&old, 401), (&malformed, 400)] {
        for _ in 0..2 {
            let answer = webhook.request(&client, &serving.url).send().await.unwrap();
            assert_eq!(answer.status(), status);
        }
    }
    let bare = client.post(&serving.url).body("{}").send().await.unwrap();
    assert_eq!(bare.status(), 400);
    let large = send(address, head(&genuine, "content-length: 99999999\r\n")).await;
    assert_eq!(statuses(&until_closed(large).await), [413]);
    let slow = send(address, head(&genuine, "content-length: 1000\r\n")).await;
    assert_eq!(statuses(&until_closed(slow).await), [408]);
    let mut broken = send(address, head(&genuine, "content-length: 1000\r\n")).await;
    broken.shutdown().await.unwrap();
    drop(until_closed(broken).await);
    drop(until_closed(send(address, "\x16\x03\x01 no HTTP\r\n\r\n").await).await);
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    for kind in [
        "401 (signature)",
        "401 (too old)",
        "400 (header malformed)",
        "400 (header missing)",
        "413 (too large)",
        "408 (too slow)",
        "400 (not HTTP)",
    ] {
        let first = lines(&log, &["refused a request with ", kind]);
        let further = lines(&log, &[kind, " more since"]);
        assert_eq!(first - further, 1, "{kind}: {log}");
    }
    assert_eq!(lines(&log, &["401 (signature)", "1 time more"]), 1, "{log}");
    assert!(lines(&log, &["no signature matches"]) >= 1, "{log}");
}

/// A wrong secret is the usual reason: all webhooks from OpenAI meanwhile are stored, and losses
/// are reported.
#[tokio::test(flavor = "multi_thread")]
async fn requests_dropped_for_noise_are_counted_and_other_endpoints_lose_none() {
    let (_folder, serving) = Serving::start_with_tables(
        "[[endpoint]]\nname = \"noisy\"\nsecrets = [{ env = \"OPENAI_WEBHOOK_SECRET\" }]",
    );
    let noisy = serving.url.replace("/production", "/noisy");
    let client = client();
    let forged = async |id: String, url: &str| {
        let forged = webhook(&id).forged();
        let answer = forged.request(&client, url).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    };
    for number in 0..300 {
        forged(format!("wh_noise_{number}"), &noisy).await;
    }
    for number in 0..80 {
        forged(format!("wh_{number}"), &serving.url).await;
    }
    let list = format!("{}/api/v1/quarantine", serving.admin);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let mut kept = 0;
        let mut after = String::new();
        loop {
            let page = client.get(format!("{list}?{after}")).send().await.unwrap();
            let page: serde_json::Value =
                serde_json::from_slice(&page.bytes().await.unwrap()).unwrap();
            let quarantined_requests = page["requests"].as_array().unwrap();
            let ours = quarantined_requests
                .iter()
                .filter(|one| one["endpoint"] == "production");
            kept += ours.count();
            match page["next"].as_i64() {
                Some(next) => after = format!("after={next}"),
                None => break,
            }
        }
        if kept == 80 {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{kept} of 80 are kept"
        );
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let not_kept = ["was not kept in the quarantine (too many)", "noisy"];
    assert!(lines(&log, &not_kept) >= 1, "{log}");
    assert_eq!(lines(&log, &[not_kept[0], "production"]), 0, "{log}");
}
