//! Interpretation of the head of a response, and how often failures are logged.

use std::fmt::Write as _;

use openai_webhooks::{EventType, Webhooks};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use unwrapd::delivery::Outcome;
use unwrapd::destinations::Kind;
use unwrapd::destinations::http::HttpSettings;

use super::{delivery, patient, sent};
use crate::support::APP_SECRET;
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, write_config};

/// Delivers a message to a server that sends this head.
async fn answered(head: String) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/webhook?key=private",
        listener.local_addr().unwrap()
    );
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let answer = format!("{head}content-length: 0\r\n\r\n");
        // The client may disconnect first.
        drop(stream.write_all(answer.as_bytes()).await);
    });
    let webhooks = Webhooks::new(APP_SECRET).unwrap();
    let settings = HttpSettings::new(url.parse().unwrap(), webhooks);
    sent(&patient(Kind::Http(settings)), &delivery("{}")).await
}

fn head(fields: usize) -> String {
    let mut head = String::from("HTTP/1.1 200 OK\r\n");
    for field in 0..fields {
        write!(head, "x-field-{field}: {field}\r\n").unwrap();
    }
    head
}

#[tokio::test]
async fn a_success_with_many_header_fields_is_a_success() {
    for fields in [0, 99, 100, 101, 500, 1000] {
        let outcome = answered(head(fields)).await;
        assert!(
            matches!(outcome, Outcome::Delivered { .. }),
            "{fields}: {outcome:?}"
        );
    }
    let outcome = answered(head(5000)).await;
    assert!(
        outcome.answer().contains("1,024 header fields"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_success_with_an_odd_header_field_is_a_success() {
    for field in ["x y: z\r\n", "x-folded: a\r\n b\r\n", "x-latin: \u{e9}\r\n"] {
        let outcome = answered(format!("HTTP/1.1 200 OK\r\n{field}")).await;
        assert!(
            matches!(outcome, Outcome::Delivered { .. }),
            "{field}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_says_that_it_is_not_followed_and_where_it_leads() {
    for status in [
        "301 Moved",
        "302 Found",
        "303 Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let location = "location: https://me:private@app.example/webhook/?token=private\r\n";
        let outcome = answered(format!("HTTP/1.1 {status}\r\n{location}")).await;
        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
        let answer = outcome.answer();
        assert!(answer.starts_with(&format!(
            "HTTP {} (redirects are not followed",
            &status[..3]
        )));
        assert!(
            answer.contains("Location https://app.example/webhook/"),
            "{answer}"
        );
        assert!(!answer.contains("private"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_fails_every_other_time_does_not_fill_the_log() {
    const FAILURES: usize = 40;
    let answers = (0..2 * FAILURES).map(|number| Answer::Status([500, 200][number % 2]));
    let mut app = Application::start(answers.chain([Answer::Status(503)])).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &app.url);
    let serving = Serving::start(folder.path(), &[]);
    for number in 0..2 * FAILURES {
        // Failed deliveries may be retried in between: one answer for each attempt.
        serving
            .receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
        app.next().await;
    }
    serving.receive("wh_last", EventType::BatchCompleted).await;
    for _ in 0..=FAILURES {
        app.next().await;
    }
    let (_, log) = serving.terminate();
    let lines = |cause: &str| log.lines().filter(|line| line.contains(cause)).count();
    // The first failure, and at the end the number of further ones.
    assert_eq!(lines("HTTP 500"), 2, "{log}");
    assert!(lines("HTTP 503") <= 2, "{log}");
    assert!(log.contains("more attempts failed"), "{log}");
}
