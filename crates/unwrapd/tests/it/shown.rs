//! Output for people is bounded, escaped, and visible to no one else.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::routing::post;
use openai_webhooks::EventType;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::process::{Serving, unwrapd};
use crate::support::{OPENAI_SECRET, Webhook};

/// Text that is not displayed as it is, and much of it.
const HOSTILE: &str = "no\u{1B}[2J\u{202E}\u{200B}\u{E0041}\u{2028}";

/// An application whose responses have this body.
async fn application() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refuse = post(|| async {
        let body = format!("{HOSTILE}{}", "x".repeat(100_000));
        (StatusCode::BAD_REQUEST, body)
    });
    let move_away = post(|| async { (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "/there")]) });
    let app = Router::new()
        .route("/refuse", refuse)
        .route("/moved", move_away)
        .route("/take", post(|| async { "thanks" }));
    tokio::spawn(axum::serve(listener, app).into_future());
    url
}

async fn trigger(arguments: &[&str], to: String) -> Output {
    let mut command = unwrapd();
    command
        .arg("trigger")
        .args(arguments)
        .args(["--to", &to])
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn trigger_shows_the_beginning_of_the_response() {
    let app = application().await;
    let output = trigger(&["batch.failed"], format!("{app}/refuse")).await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("HTTP 400  no\\u{1b}[2J\\u{202e}\\u{200b}\\u{e0041}\\u{2028}xxx"),
        "{told}"
    );
    assert!(told.ends_with("xxx …\n") && told.len() < 1000, "{told}");

    let output = trigger(&["batch.failed"], format!("{app}/moved")).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("HTTP 308, and redirects are not followed: post to /there instead"),
        "{told}"
    );
    let output = trigger(&["batch.failed"], format!("{app}/take")).await;
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.ends_with("HTTP 200  thanks\n"), "{told}");
}

#[tokio::test]
async fn trigger_sends_all_types_and_families_and_suggests_the_nearest() {
    let app = application().await;
    for (types, expected) in [
        (&["all"][..], EventType::ALL.len()),
        (&["*"], EventType::ALL.len()),
        (&["response.*"], 4),
    ] {
        let output = trigger(types, format!("{app}/take")).await;
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{told}");
        let count = EventType::ALL
            .iter()
            .filter(|event_type| told.contains(&format!("{event_type} wh_")))
            .count();
        assert_eq!(count, expected, "{types:?}: {told}");
    }
    for (wrong, meant) in [
        ("responses.*", "response.*"),
        ("fine_tuning.job.completed", "fine_tuning.job.succeeded"),
        ("resp*", "response.*"),
    ] {
        let output = trigger(&[wrong], format!("{app}/take")).await;
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(&format!("did you mean `{meant}`?")), "{told}");
    }
}

#[test]
fn a_filter_that_matches_no_known_type_suggests_the_nearest() {
    let (_folder, serving) = Serving::start_alone();
    let admin = serving.admin.as_str();
    for (written, is_doubted) in [("responses.*", true), ("response.*", false)] {
        let output = unwrapd()
            .args(["events", "ls", "--type", written, "--admin", admin])
            .output()
            .unwrap();
        assert!(output.status.success());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            told.contains("did you mean `response.*`?"),
            is_doubted,
            "{told}"
        );
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_of_dev_are_private_to_the_user_whatever_the_umask() {
    let folder = TempDir::new().unwrap();
    let mut dev = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" dev --listen 127.0.0.1:0"])
        .arg(crate::support::process::program())
        .env("TMPDIR", folder.path())
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(dev.stdout.take().unwrap());
    // It has begun to receive by then.
    let is_there = stdout
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("Waiting for webhooks"));
    assert!(is_there);
    let made: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(mode(&made[0]), 0o700);
    let files: Vec<_> = std::fs::read_dir(&made[0])
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    dev.kill().unwrap();
    dev.wait().unwrap();
}

#[tokio::test]
async fn lists_and_json_hold_nothing_that_acts_on_a_terminal() {
    let (_folder, serving) = Serving::start_alone();
    let payload = format!(
        "{{\"id\":\"evt_1\",\"object\":\"event\",\"created_at\":1750287018,\"type\":\"odd.{}\",\"data\":{{}}}}",
        "\\u202e\\u200b\\u061c"
    );
    let webhook = Webhook::with_payload("wh_1", payload);
    assert_eq!(serving.post(&webhook).await, 200);
    let admin = serving.admin.as_str();
    let is_safe = |text: &str| !text.contains(['\u{202E}', '\u{200B}', '\u{61C}']);
    for arguments in [
        &["events", "ls"][..],
        &["events", "show", "wh_1"],
        &["events", "ls", "--output", "json"],
        &["events", "show", "wh_1", "--output", "json"],
    ] {
        let output = unwrapd()
            .args(arguments)
            .args(["--admin", admin])
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{told}");
        assert!(is_safe(&told), "{arguments:?}: {told}");
        assert!(told.contains("202e"), "{arguments:?}: {told}");
        if arguments.contains(&"json") {
            let read: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert!(!is_safe(&read.to_string()), "it is the same value: {told}");
        }
    }
}
