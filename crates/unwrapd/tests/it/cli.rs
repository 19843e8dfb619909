//! The command line, as users meet it.

use std::process::{Output, Stdio};

use openai_webhooks::{EventType, Secret};
use tempfile::TempDir;

use crate::support::application::{Answer, Application};
use crate::support::process::{output_with, unwrapd};
use crate::support::{APP_SECRET, OPENAI_SECRET};

fn run(arguments: &[&str]) -> Output {
    unwrapd()
        .args(arguments)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn run_with_stdin(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = unwrapd();
    command
        .args(arguments)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET);
    output_with(&mut command, stdin)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_prints(output: &Output, part: &str) {
    let text = stdout(output);
    assert!(text.contains(part), "{text}");
}

#[test]
fn dev_takes_every_type_through_the_whole_pipeline_and_succeeds() {
    let tour = unwrapd()
        .args(["dev", "--once", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let told = stdout(&tour);
    assert!(tour.status.success(), "{told}{}", stderr(&tour));
    for event_type in EventType::ALL {
        let line = told
            .lines()
            .find(|line| line.trim_start().starts_with(event_type.as_str()))
            .unwrap();
        let mut rest = line;
        for step in [
            "received",
            "verified",
            "stored",
            "answered 200",
            "delivered",
            "unwrapped",
        ] {
            rest = rest
                .split_once(step)
                .unwrap_or_else(|| panic!("{step}: {line}"))
                .1;
        }
    }
    assert!(
        told.contains("duplicate, already stored: not delivered again → answered 200"),
        "{told}"
    );
    assert!(told.contains("refused: no signature matches"), "{told}");
    assert!(told.contains("34 of 34 event types delivered"), "{told}");
}

#[test]
fn dev_works_where_the_system_has_no_certificates() {
    let tour = unwrapd()
        .args(["dev", "--once", "--listen", "127.0.0.1:0"])
        .env("SSL_CERT_FILE", "/no/such/file")
        .env("SSL_CERT_DIR", "/no/such/folder")
        .output()
        .unwrap();
    assert!(tour.status.success(), "{}{}", stdout(&tour), stderr(&tour));
}

#[tokio::test]
async fn dev_forwards_to_your_application() {
    let mut app = Application::start([Answer::Status(500)]).await;
    let url = app.url.clone();
    let tour = tokio::task::spawn_blocking(move || {
        unwrapd()
            .args([
                "dev",
                "--once",
                "--listen",
                "127.0.0.1:0",
                "--forward-to",
                &url,
            ])
            .env("OPENAI_WEBHOOK_SECRET", APP_SECRET)
            .output()
            .unwrap()
    });
    for _ in EventType::ALL {
        assert!(app.next().await.verified().is_ok());
    }
    let tour = tour.await.unwrap();
    assert!(tour.status.success(), "{}{}", stdout(&tour), stderr(&tour));
    assert!(
        !stdout(&tour).contains(APP_SECRET),
        "your own secret is not shown"
    );
}

#[test]
fn verify_accepts_the_output_of_sign() {
    let folder = TempDir::new().unwrap();
    let body = folder.path().join("event.json");
    std::fs::write(&body, EventType::BatchCompleted.sample()).unwrap();
    let body = body.to_str().unwrap();

    let signed = run(&["sign", body, "--id", "wh_1"]);
    assert!(signed.status.success(), "{}", stderr(&signed));
    let verified = run_with_stdin(&["verify", "-", "--body", body], &signed.stdout);
    let told = stdout(&verified);
    assert_eq!(verified.status.code(), Some(0), "{told}");
    assert!(told.contains("✓ signature: matches the secret"), "{told}");
    assert!(told.contains("batch.completed evt_abc123"), "{told}");
    assert!(told.ends_with("\nauthentic\n"), "{told}");
}

#[tokio::test]
async fn trigger_sends_signed_samples_of_matching_types() {
    let mut app = Application::start([]).await;
    let url = app.url.clone();
    let sent = tokio::task::spawn_blocking(move || {
        unwrapd()
            .args(["trigger", "batch.*", "video.failed", "--to", &url])
            .env("OPENAI_WEBHOOK_SECRET", APP_SECRET)
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    assert!(sent.status.success(), "{}", stderr(&sent));
    assert_eq!(stdout(&sent).lines().count(), 5);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        let delivered = app.next().await;
        let event = delivered.verified().unwrap().event().unwrap();
        assert!(event.event_type().is_some());
        ids.insert(delivered.webhook_id().to_owned());
        ids.insert(event.id().to_owned());
    }
    assert_eq!(ids.len(), 10, "every webhook and every event is new");
}

#[test]
fn trigger_fails_when_an_application_refuses() {
    let refused = run(&["trigger", "batch.failed", "--to", "http://127.0.0.1:9/"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_prints(
        &refused,
        "connection refused: nothing is listening on 127.0.0.1:9",
    );
}

#[test]
fn a_mistyped_event_type_is_refused_with_the_nearest_right_one() {
    let wrong = run(&[
        "trigger",
        "response.complete",
        "--to",
        "http://127.0.0.1:9/",
    ]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("did you mean `response.completed`?"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn trigger_lists_every_type() {
    assert_eq!(
        stdout(&run(&["trigger", "--list"])).lines().count(),
        EventType::ALL.len()
    );
}

#[test]
fn excluded_types_are_not_triggered() {
    let sent = run(&[
        "trigger",
        "response.*",
        "!response.failed",
        "--to",
        "127.0.0.1:9/webhook",
    ]);
    assert_eq!(stdout(&sent).lines().count(), 3);
    assert!(!stdout(&sent).contains("response.failed"));
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let refused = unwrapd()
        .arg("secret")
        .env("UNWRAPD_LOG", "banana")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("UNWRAPD_LOG must be one of"));
    assert!(
        unwrapd()
            .arg("secret")
            .env("UNWRAPD_LOG", "")
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let status = unwrapd()
        .arg("secret")
        .stdout(full())
        .stderr(full())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let wrong = run(&["sign", "-", "--secret-env", OPENAI_SECRET]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        !stderr(&wrong).contains(OPENAI_SECRET),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn a_new_secret_is_a_good_one() {
    let made = stdout(&run(&["secret"]));
    assert_eq!(Secret::parse(&made).unwrap().key_bytes(), 32);
    assert_ne!(made, stdout(&run(&["secret"])));
}

#[test]
fn a_missing_or_bad_secret_is_a_usage_error_that_does_not_show_it() {
    let missing = unwrapd()
        .args(["sign", "-"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        stderr(&missing).contains("OPENAI_WEBHOOK_SECRET is not set"),
        "{}",
        stderr(&missing)
    );

    let bad = unwrapd()
        .args(["sign", "-"])
        .env("OPENAI_WEBHOOK_SECRET", "whsec_very-secret!")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(bad.status.code(), Some(2));
    assert!(!stderr(&bad).contains("very"), "{}", stderr(&bad));
}

#[test]
fn a_port_alone_is_refused_with_an_address_to_write_instead() {
    for wrong in ["9000", ":9000", "localhost:9000"] {
        let refused = unwrapd()
            .args(["dev", "--once", "--listen", wrong])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let complaint = stderr(&refused);
        assert!(complaint.contains("such as 127.0.0.1:9000"), "{complaint}");
    }
}
