//! The admin port on a network: TLS, wrong tokens, health checks, and errors of one form.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use openai_webhooks::EventType;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bounds::{HTTP2_WINDOW, http2};
use crate::support::process::{Serving, unwrapd, write_server_config};
use crate::support::{TestGateway, Webhook, address_of, client, until};

const TOKEN: &str = "a token that nobody guesses so soon";

/// Serves with these lines in `[server]`, and the admin port at this address.
fn serve(folder: &Path, admin: &str, lines: &str) -> Serving {
    write_server_config(
        folder,
        &format!("{lines}\nadmin_token = {{ env = \"ADMIN_TOKEN\" }}"),
    );
    let file = folder.join("unwrapd.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{admin}\""));
    std::fs::write(&file, config).unwrap();
    Serving::start(folder, &[("ADMIN_TOKEN", TOKEN)])
}

fn at(serving: &Serving, path: &str) -> String {
    let url = format!("{}{path}", serving.admin);
    url.replace("0.0.0.0", "127.0.0.1")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_the_token_learn_readiness_and_no_more() {
    let folder = TempDir::new().unwrap();
    let mut serving = serve(folder.path(), "0.0.0.0:0", "");
    serving.said("has no TLS");
    let ready = async |token: Option<&str>| {
        let mut request = client().get(at(&serving, "/readyz"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ready(None).await, (200, "ok\n".into()));
    assert_eq!(ready(Some("x")).await, (200, "ok\n".into()));
    let (status, text) = ready(Some(TOKEN)).await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("ok\n") && text.contains("has no TLS"),
        "{text}"
    );

    let database = folder.path().join("unwrapd.db");
    let lock = rusqlite::Connection::open(database).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    until("it is not ready", async || {
        ready(None).await == (503, "not ready\n".into())
    })
    .await;
    let (_, text) = ready(Some(TOKEN)).await;
    assert!(text.contains("another process"), "{text}");
    serving.said("a probe of /readyz came with a wrong token");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_slow_and_logged_and_lock_no_operator_out() {
    let folder = TempDir::new().unwrap();
    let serving = serve(folder.path(), "0.0.0.0:0", "");
    let url = at(&serving, "/api/v1/gateways");
    let began = Instant::now();
    let mut guesses = JoinSet::new();
    // Fewer connections than allowed, and more than there are delayed responses.
    for number in 0..100 {
        let url = url.clone();
        guesses.spawn(async move {
            let client = client();
            let mut answers = [0; 2];
            for answer in &mut answers {
                let guess = client.get(&url).bearer_auth(format!("guess {number}"));
                *answer = guess.send().await.unwrap().status().as_u16();
            }
            answers
        });
    }
    for _ in 0..10 {
        let answer = client().get(&url).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let answers = guesses.join_all().await.concat();
    assert!(answers.iter().all(|status| [401, 429].contains(status)));
    assert!(answers.contains(&401) && answers.contains(&429));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "they are held back"
    );
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let said = "refused a request of the admin port (no token, or a wrong one)";
    let lines: Vec<_> = log.lines().filter(|line| line.contains(said)).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[1].contains("199 times more"), "{log}");
    assert!(!log.contains("guess "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_authorized_like_http1() {
    let folder = TempDir::new().unwrap();
    let serving = serve(folder.path(), "0.0.0.0:0", "");
    let address = address_of(&at(&serving, ""));
    let status = async |token: Option<&str>, host: &str, address| {
        let client = http2(address, HTTP2_WINDOW).await;
        let mut request = http::Request::get(format!("http://{host}/api/v1/gateways"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut client = client.ready().await.unwrap();
        let answer = client.send_request(request.body(()).unwrap(), true);
        answer.unwrap().0.await.unwrap().status().as_u16()
    };
    assert_eq!(status(None, "gateway.example", address).await, 401);
    assert_eq!(status(Some(TOKEN), "gateway.example", address).await, 200);
    // Without a token only this machine has access, by an address and not by a name.
    let test = TestGateway::start(vec![]).await;
    let address = test.gateway.admin().unwrap();
    assert_eq!(status(None, "127.0.0.1:8081", address).await, 200);
    assert_eq!(status(None, "evil.example", address).await, 403);
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let test = TestGateway::start(vec![]).await;
    let admin = test.gateway.admin().unwrap();
    for (method, path, body, status) in [
        (Method::GET, "/nothing", "", 404),
        (Method::GET, "/api/v1/nothing", "", 404),
        (Method::GET, "/api/v1/messages/wh_none", "", 404),
        (Method::GET, "/api/v1/quarantine/9", "", 404),
        (Method::GET, "/api/v1/quarantine/x", "", 400),
        (Method::POST, "/api/v1/messages", "", 405),
        (Method::DELETE, "/livez", "", 405),
        (Method::GET, "/livez", "x", 413),
        (Method::POST, "/api/v1/replays", "{", 400),
        (Method::POST, "/api/v1/destinations/%ff/pause", "", 400),
        (Method::POST, "/api/v1/destinations/app/pause", "", 404),
        (Method::GET, "/api/v1/messages?limit=0", "", 400),
    ] {
        let request = test
            .client()
            .request(method.clone(), format!("http://{admin}{path}"))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}");
        let kind = answer.headers()["content-type"].clone();
        assert_eq!(kind, "application/problem+json", "{method} {path}");
        if status == 405 {
            assert!(answer.headers().contains_key("allow"), "{method} {path}");
        }
        let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["status"], status, "{method} {path}");
        for key in ["type", "title", "detail"] {
            assert!(problem[key].is_string(), "{method} {path}: {problem}");
        }
    }
}

#[tokio::test]
async fn a_destructive_request_must_name_its_target_or_say_all() {
    let test = TestGateway::start(vec![]).await;
    let forged = Webhook::new("wh_1", EventType::BatchCompleted).forged();
    assert_eq!(test.post(&forged).await, 401);
    let admin = test.gateway.admin().unwrap();
    let post = async |path: &str, body: &str| {
        let request = test
            .client()
            .post(format!("http://{admin}/api/v1/{path}"))
            .header("content-type", "application/json")
            .body(body.to_owned());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    };
    let store = test.gateway.store();
    while store.list_quarantined(None, 9).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    for path in ["quarantine/drop", "quarantine/retry"] {
        for body in [
            "{}",
            r#"{"all": false}"#,
            r#"{"id": null}"#,
            r#"{"id": 1, "all": true}"#,
            r#"{"id": 0}"#,
        ] {
            assert_eq!(post(path, body).await.0, 400, "{path} {body}");
        }
    }
    for body in [
        "{}",
        r#"{"filter": {"status": ["dead"]}}"#,
        r#"{"all": false}"#,
    ] {
        assert_eq!(post("dead/drop", body).await.0, 400, "{body}");
    }
    assert_eq!(post("dead/drop", r#"{"all": true}"#).await.0, 200);
    assert_eq!(store.list_quarantined(None, 9).await.unwrap().len(), 1);

    let one = test
        .client()
        .get(format!("http://{admin}/api/v1/quarantine/1?payload=true"));
    let one = one.send().await.unwrap().bytes().await.unwrap();
    let one: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(one["payload"], forged.payload);
    let (status, dropped) = post("quarantine/drop", r#"{"all": true}"#).await;
    assert_eq!((status, &*dropped), (200, r#"{"dropped":1}"#));
}

fn list(arguments: &[&str]) -> Output {
    unwrapd()
        .args(["destinations", "ls"])
        .args(arguments)
        .env("ADMIN_TOKEN", TOKEN)
        .output()
        .unwrap()
}

/// Writes a certificate for `gateway.example` and its authority.
fn write_certificates(folder: &Path) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), authority_certificate.pem()).unwrap();
    std::fs::write(folder.join("tls.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_speaks_tls_with_its_own_certificate_or_that_of_the_server() {
    for (table, admin) in [("admin_tls", "127.0.0.1:0"), ("tls", "0.0.0.0:0")] {
        let folder = TempDir::new().unwrap();
        write_certificates(folder.path());
        let path = folder.path().display();
        let lines =
            format!("{table} = {{ certificate = \"{path}/tls.pem\", key = \"{path}/tls.key\" }}");
        let serving = serve(folder.path(), admin, &lines);
        assert!(serving.admin.starts_with("https://"), "{}", serving.admin);
        // From the configuration, with its certificate, whatever name that has.
        let config = folder.path().join("unwrapd.toml");
        let bound = serving.admin.trim_start_matches("https://");
        let text = std::fs::read_to_string(&config).unwrap();
        let (before, after) = (
            format!("admin = \"{admin}\""),
            format!("admin = \"{bound}\""),
        );
        std::fs::write(&config, text.replacen(&before, &after, 1)).unwrap();
        let found = list(&["--config", config.to_str().unwrap()]);
        assert!(found.status.success(), "{found:?}");

        // By its name, with its authority.
        let (_, port) = bound.rsplit_once(':').unwrap();
        let url = format!("https://localhost:{port}");
        let authority = folder.path().join("ca.pem");
        let token = ["--admin-token-env", "ADMIN_TOKEN", "--admin", &url];
        let ca = ["--admin-ca", authority.to_str().unwrap()];
        let named = list(&[&token[..], &ca[..]].concat());
        assert!(named.status.success(), "{named:?}");
        let untrusted = list(&token);
        assert_eq!(untrusted.status.code(), Some(1), "{untrusted:?}");
        // The authority has no effect for other names than the certificate's.
        let url = format!("https://127.0.0.1:{port}");
        let other = list(
            &[
                &["--admin-token-env", "ADMIN_TOKEN", "--admin", &url],
                &ca[..],
            ]
            .concat(),
        );
        assert_eq!(other.status.code(), Some(1), "{other:?}");
        let (_, log) = tokio::task::block_in_place(|| serving.terminate());
        assert!(!log.contains("has no TLS"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_admin_port_does_not_use_the_certificate_of_the_server() {
    let folder = TempDir::new().unwrap();
    write_certificates(folder.path());
    let path = folder.path().display();
    let lines = format!("tls = {{ certificate = \"{path}/tls.pem\", key = \"{path}/tls.key\" }}");
    let serving = serve(folder.path(), "127.0.0.1:0", &lines);
    assert!(serving.admin.starts_with("http://"), "{}", serving.admin);
    assert_eq!(serving.readyz().await.0, 200);
}
