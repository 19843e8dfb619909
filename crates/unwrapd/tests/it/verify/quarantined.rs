//! Requests in the quarantine of a running gateway.

use std::process::Output;

use openai_webhooks::EventType;
use serde_json::Value;
use tempfile::TempDir;

use super::{assert_prints, stdout, verify};
use crate::support::process::{Serving, told, unwrapd, write_server_config};
use crate::support::{Webhook, openai, unix_now};

const READ: &str = "a token that may look and change nothing";
const OPERATE: &str = "a token that nobody guesses so soon";

/// Posts a webhook that is refused, and waits until it is in the quarantine.
async fn refused(serving: &Serving, webhook: &Webhook) {
    assert_eq!(serving.post(webhook).await, 401);
    let id = &webhook.headers.id;
    loop {
        let mut list = unwrapd();
        list.args(["quarantine", "ls", "--admin", &serving.admin])
            .env("UNWRAPD_ADMIN_TOKEN", OPERATE);
        if stdout(&list.output().unwrap()).contains(id.as_str()) {
            return;
        }
    }
}

/// Runs it on the request of this number.
fn asked(serving: &Serving, number: &str, token: &str, arguments: &[&str]) -> Output {
    verify(&["--quarantined", number, "--admin", &serving.admin])
        .args(arguments)
        .env_remove("OPENAI_WEBHOOK_SECRET")
        .env("UNWRAPD_ADMIN_TOKEN", token)
        .env("SECRET", crate::support::OPENAI_SECRET)
        .output()
        .unwrap()
}

fn start() -> (TempDir, Serving) {
    let folder = TempDir::new().unwrap();
    write_server_config(
        folder.path(),
        "admin_token = { env = \"OPERATE\" }\nadmin_read_token = { env = \"READ\" }\n\
         admin_read_payloads = false",
    );
    let serving = Serving::start(folder.path(), &[("OPERATE", OPERATE), ("READ", READ)]);
    (folder, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_that_the_gateway_found_is_shown_also_without_the_right_to_payloads() {
    let (_folder, serving) = start();
    let mut webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    webhook.payload = format!("\u{FEFF}{}", webhook.payload);
    refused(&serving, &webhook).await;
    for token in [OPERATE, READ] {
        let output = asked(&serving, "1", token, &[]);
        assert_eq!(output.status.code(), Some(4), "{}", told(&output));
        assert_prints(&output, "✓ request: arrived at `production`");
        assert_prints(&output, "✕ gateway: refused it: no signature matches");
        assert_prints(&output, "A byte order mark was put before the body");
        assert_prints(&output, "not authentic: byte_order_mark");
    }
    // With secrets of the command line, the request is verified here.
    let here = asked(&serving, "1", OPERATE, &["--secret-env", "SECRET"]);
    assert_prints(&here, "✓ time");
    assert_prints(&here, "not authentic: byte_order_mark");
    let denied = asked(&serving, "1", READ, &["--secret-env", "SECRET"]);
    assert_eq!(denied.status.code(), Some(1));
    let problem = told(&denied);
    assert!(problem.contains("admin_read_payloads"), "{problem}");
    assert_eq!(asked(&serving, "9", OPERATE, &[]).status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_accepted_webhook_that_is_old_was_replayed() {
    let (_folder, serving) = start();
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(serving.post(&webhook).await, 200);
    let mut old = webhook.clone();
    old.headers = openai()
        .sign(&old.payload, "wh_1", unix_now() - 3_600)
        .unwrap();
    refused(&serving, &old).await;
    let mut never = old.clone();
    never.headers = openai()
        .sign(&old.payload, "wh_2", unix_now() - 3_600)
        .unwrap();
    refused(&serving, &never).await;
    for (number, cause) in [("1", "replayed"), ("2", "too_old")] {
        let output = asked(&serving, number, OPERATE, &["--output", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["cause"], cause);
    }
    let mut list = unwrapd();
    list.args([
        "quarantine",
        "ls",
        "--admin",
        &serving.admin,
        "--output",
        "json",
    ]);
    let list = list.env("UNWRAPD_ADMIN_TOKEN", OPERATE).output().unwrap();
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list["requests"][0]["cause_name"], "too_old");
    assert_eq!(list["requests"][1]["cause_name"], "replayed");
}
