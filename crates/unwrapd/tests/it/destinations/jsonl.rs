//! Lines of JSON, in a file or on stdout.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use openai_webhooks::EventType;
use serde_json::Value;
use tempfile::TempDir;
use unwrapd::delivery::Outcome;
use unwrapd::destinations::jsonl::JsonLinesSettings;
use unwrapd::destinations::{DestinationSettings, Kind, build};
use unwrapd::pipeline_events::PipelineEvent;

use super::{assert_delivered, delivery, patient, sent};
use crate::support::process::{unwrapd, write_destinations};
use crate::support::{OPENAI_SECRET, TestGateway, Webhook, client};

fn lines_to(path: &Path) -> DestinationSettings {
    patient(Kind::JsonLines(JsonLinesSettings::File(path.into())))
}

fn lines_in(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_message_is_a_line_of_a_file_private_to_the_user() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.jsonl");
    let outcome = sent(&lines_to(&file), &delivery(r#"{"id": "evt_1"}"#)).await;
    assert_delivered(&outcome);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "{\"webhook_id\":\"wh_1\",\"endpoint\":\"production\",\"type\":\"batch.completed\",\
         \"received_at\":\"2026-01-02T03:04:05.678Z\",\"attempt\":3,\"payload\":{\"id\": \"evt_1\"}}\n"
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn many_messages_at_once_are_a_line_each_and_none_is_lost() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.jsonl");
    let test = TestGateway::start(vec![lines_to(&file)]).await;
    let mut events = test.gateway.events().subscribe();
    let mut sent = Vec::new();
    let padding = "x".repeat(100_000);
    for number in 10..60 {
        let id = format!("wh_{number}");
        let webhook = Webhook::with_payload(
            &id,
            format!(r#"{{"type":"batch.completed","padding":"{padding}"}}"#),
        );
        assert_eq!(test.post(&webhook).await, 200);
        sent.push(id);
    }
    let mut delivered = 0;
    while delivered < sent.len() {
        delivered += usize::from(matches!(
            events.recv().await.unwrap(),
            PipelineEvent::Settled { .. }
        ));
    }
    let mut written: Vec<String> = lines_in(&file)
        .iter()
        .map(|line| line["webhook_id"].as_str().unwrap().to_owned())
        .collect();
    written.sort();
    assert_eq!(written, sent);
}

#[tokio::test]
async fn a_file_that_is_moved_away_or_removed_is_created_again() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.jsonl");
    let moved = folder.path().join("events.jsonl.1");
    let destination = build(&lines_to(&file)).unwrap();
    let write = async || {
        let outcome = destination.send(&delivery("{}"), None).await;
        assert_delivered(&outcome);
    };
    write().await;
    write().await;
    std::fs::rename(&file, &moved).unwrap();
    write().await;
    assert_eq!((lines_in(&moved).len(), lines_in(&file).len()), (2, 1));
    std::fs::remove_file(&file).unwrap();
    write().await;
    assert_eq!(lines_in(&file).len(), 1);
}

#[tokio::test]
async fn a_truncated_line_spoils_no_other() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.jsonl");
    std::fs::write(&file, "{}\n{\"webhook_id\":\"wh_").unwrap();
    let destination = build(&lines_to(&file)).unwrap();
    for _ in 0..2 {
        destination.send(&delivery("{}"), None).await;
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "{\"webhook_id\":\"wh_");
    assert_eq!(lines.len(), 4);
    assert!(serde_json::from_str::<Value>(lines[2]).is_ok());
}

#[tokio::test]
async fn a_line_that_cannot_be_written_is_a_failure_to_retry() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("there").join("events.jsonl");
    let destination = build(&lines_to(&file)).unwrap();
    let outcome = destination.send(&delivery("{}"), None).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    assert!(outcome.answer().contains("events.jsonl: No such file"));

    std::fs::create_dir(folder.path().join("there")).unwrap();
    let outcome = destination.send(&delivery("{}"), None).await;
    assert_delivered(&outcome);

    // Opening it would wait for a reader, and nothing would be stored.
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for wrong in [&pipe, folder.path()] {
        let outcome = sent(&lines_to(wrong), &delivery("{}")).await;
        assert!(
            outcome.answer().contains("not a regular file"),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn stdout_takes_lines_too() {
    let folder = TempDir::new().unwrap();
    write_destinations(
        folder.path(),
        "[[destination]]\nname = \"out\"\njsonl = \"-\"",
    );
    let mut serving = unwrapd()
        .args(["serve", "--config"])
        .arg(folder.path().join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serving.stderr.take().unwrap()).lines();
    let url = loop {
        let line = log.next().expect("it starts").unwrap();
        if let Some((_, url)) = line.split_once("receiving on ") {
            break url.to_owned();
        }
    };
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines();
    for id in ["wh_1", "wh_2"] {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        let answer = webhook.request(&client(), &url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["webhook_id"], id);
        assert_eq!(line["payload"]["type"], "batch.completed");
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
}
