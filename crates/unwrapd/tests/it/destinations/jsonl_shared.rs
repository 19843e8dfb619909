//! A file of lines shared by several gateways, and paths that cannot hold lines.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use unwrapd::delivery::Outcome;
use unwrapd::destinations::jsonl::JsonLinesSettings;
use unwrapd::destinations::{Destination, DestinationSettings, Kind, build};

use super::{assert_answer, assert_delivered, delivery, patient};
use crate::support::OPENAI_SECRET;
use crate::support::process::{unwrapd, write_destinations};

fn lines_to(path: &Path) -> DestinationSettings {
    patient(Kind::JsonLines(JsonLinesSettings::File(path.into())))
}

/// Each opens the file separately, as a separate process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_share_a_file_write_whole_lines_and_no_empty_ones() {
    const WRITERS: usize = 4;
    const LINES: usize = 100;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.jsonl");
    // Long enough that a partial write would show.
    let payload = format!(r#"{{"padding":"{}"}}"#, "x".repeat(100_000));
    let mut writing = JoinSet::new();
    for _ in 0..WRITERS {
        let destination: Arc<dyn Destination> = build(&lines_to(&file)).unwrap().into();
        let payload = payload.clone();
        writing.spawn(async move {
            for _ in 0..LINES {
                let outcome = destination.send(&delivery(payload.clone()), None).await;
                assert_delivered(&outcome);
            }
        });
    }
    while let Some(written) = writing.join_next().await {
        written.unwrap();
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count(), WRITERS * LINES);
    for line in text.lines() {
        assert!(
            serde_json::from_str::<Value>(line).is_ok(),
            "{} bytes",
            line.len()
        );
    }
}

#[tokio::test]
async fn a_lock_that_is_never_released_is_a_failure_and_no_hang() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("events.jsonl");
    let held = std::fs::File::create(&file).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let destination = build(&lines_to(&file)).unwrap();
    let outcome = destination.send(&delivery("{}"), None).await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_answer(&outcome, &["holds the lock"]);
    drop(held);
    let outcome = destination.send(&delivery("{}"), None).await;
    assert_delivered(&outcome);
}

/// Log rotation reads the file and removes it. A line written into it after that is lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_lost_when_the_file_is_moved_away_read_and_removed() {
    const ROTATIONS: usize = 20;
    let folder = TempDir::new().unwrap();
    let (file, moved) = (
        folder.path().join("events.jsonl"),
        folder.path().join("events.jsonl.1"),
    );
    let destination = build(&lines_to(&file)).unwrap();
    let rotated = std::thread::spawn({
        let file = file.clone();
        move || {
            let mut read = String::new();
            let mut rotations = 0;
            while rotations < ROTATIONS {
                let Ok(held) = std::fs::File::open(&file) else {
                    std::thread::yield_now();
                    continue;
                };
                // The writers have checked the path already, and wait for the lock.
                flock(&held, FlockOperation::LockExclusive).unwrap();
                std::fs::rename(&file, &moved).unwrap();
                read += &std::fs::read_to_string(&moved).unwrap();
                std::fs::remove_file(&moved).unwrap();
                rotations += 1;
            }
            read
        }
    });
    let mut delivered = Vec::new();
    let mut number = 0_u64;
    while !rotated.is_finished() {
        let outcome = destination
            .send(&delivery(format!("{{\"number\":{number}}}")), None)
            .await;
        if matches!(outcome, Outcome::Delivered { .. }) {
            delivered.push(number);
        }
        number += 1;
    }
    let text = rotated.join().unwrap() + &std::fs::read_to_string(&file).unwrap_or_default();
    let written: BTreeSet<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"]["number"].as_u64())
        .map(Option::unwrap)
        .collect();
    let lost: Vec<u64> = delivered
        .iter()
        .filter(|number| !written.contains(number))
        .copied()
        .collect();
    assert!(lost.is_empty(), "{} of {}", lost.len(), delivered.len());
}

/// The output of `serve` for lines to this path, which it refuses.
fn complaint(folder: &Path, jsonl: &Path) -> String {
    write_destinations(
        folder,
        &format!(
            "[[destination]]\nname = \"archive\"\njsonl = \"{}\"\n",
            jsonl.display()
        ),
    );
    let mut serving = unwrapd()
        .args(["serve", "--config"])
        .arg(folder.join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut complaint = String::new();
    for line in BufReader::new(serving.stderr.take().unwrap()).lines() {
        complaint.push_str(&line.unwrap());
        if complaint.contains("receiving on") {
            serving.kill().unwrap();
        }
    }
    let code = serving.wait().unwrap().code();
    assert_eq!(code, Some(2), "{}: {complaint}", jsonl.display());
    assert!(complaint.contains("unwrapd.toml:"), "{complaint}");
    complaint
}

#[test]
fn a_path_that_cannot_take_lines_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let pipe = folder.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    std::fs::write(folder.join("package.json"), "{\n  \"name\": \"x\"\n}\n").unwrap();
    for (path, cause) in [
        (folder.to_owned(), "this is a folder"),
        (folder.join("logs/"), "this is a folder"),
        (pipe, "not a regular file"),
        ("/dev/null".into(), "not a regular file"),
        (folder.join("unwrapd.toml"), "content other than JSON lines"),
        (folder.join("unwrapd.toml/events.jsonl"), "Not a directory"),
        (
            folder.join("package.json"),
            "one JSON object over several lines",
        ),
    ] {
        let complaint = complaint(folder, &path);
        assert!(complaint.contains(cause), "{}: {complaint}", path.display());
    }
}

#[test]
fn a_file_of_the_store_is_refused_under_whatever_name() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let (store, link, hard) = (
        folder.join("unwrapd.db"),
        folder.join("link"),
        folder.join("hard"),
    );
    for ending in ["", "-wal", "-shm", "-journal", ".lock"] {
        let file = folder.join(format!("unwrapd.db{ending}"));
        let complaint = complaint(folder, &file);
        assert!(complaint.contains("a file of the store"), "{complaint}");
    }
    let around = folder
        .join("../")
        .join(folder.file_name().unwrap())
        .join("unwrapd.db-wal");
    std::fs::write(&store, "").unwrap();
    std::os::unix::fs::symlink(&store, &link).unwrap();
    std::fs::hard_link(&store, &hard).unwrap();
    for name in [around, link, hard] {
        let complaint = complaint(folder, &name);
        assert!(complaint.contains("a file of the store"), "{complaint}");
    }
    assert_eq!(std::fs::metadata(&store).unwrap().len(), 0);
}

/// A dangling link at the start may lead to any file later.
#[tokio::test]
async fn lines_spoil_no_file_that_a_link_leads_to_later() {
    let folder = TempDir::new().unwrap();
    let (link, store) = (folder.path().join("link"), folder.path().join("store"));
    std::os::unix::fs::symlink(&store, &link).unwrap();
    let settings = lines_to(&link);
    let destination = build(&settings).unwrap();
    std::fs::write(&store, "SQLite format 3\0").unwrap();
    let outcome = destination.send(&delivery("{}"), None).await;
    assert!(
        outcome.answer().contains("content other than JSON lines"),
        "{outcome:?}"
    );
    assert_eq!(std::fs::metadata(&store).unwrap().len(), 16);
}
