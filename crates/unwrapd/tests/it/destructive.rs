//! Destructive commands: first the plan with its count, then a question on the terminal or `--yes`.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use openai_webhooks::EventType;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Bounds, Lifecycle as _};

use crate::support::process::{Serving, add_to_config, unwrapd, write_config, write_destinations};
use crate::support::tally::Counted as _;
use crate::support::{Webhook, ask};

/// Runs it without a terminal.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    told(&command(arguments).stdin(Stdio::null()).output().unwrap())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = unwrapd();
    command.args(arguments);
    command
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs it on a terminal, with this input.
fn run_on_a_terminal(arguments: &[&str], typed: &str) -> (Option<i32>, String) {
    run_on_a_terminal_and(arguments, || {}, typed)
}

/// The same as [`run_on_a_terminal`], with an action between the question and the answer.
fn run_on_a_terminal_and(
    arguments: &[&str],
    meanwhile: impl FnOnce(),
    typed: &str,
) -> (Option<i32>, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = std::fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut child = command(arguments)
        .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
        .stderr(OwnedFd::from(theirs.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // No other process has the terminal open then, so the output ends with the child.
    drop(theirs);
    let mut ours = std::fs::File::from(ours);
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"[y/N] ") && ours.read_exact(&mut byte).is_ok() {
        said.extend(byte);
    }
    meanwhile();
    // It may have ended without a question.
    drop(ours.write_all(typed.as_bytes()));
    // On Linux, reading a terminal after its last user has gone is an error, not an end.
    drop(ours.read_to_end(&mut said));
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    let status = child.wait().unwrap();
    (
        status.code(),
        stdout + &String::from_utf8_lossy(&said).replace("\r\n", "\n"),
    )
}

async fn send_forgery(serving: &Serving, id: &str) {
    let forged = Webhook::new(id, EventType::BatchCompleted).forged();
    assert_eq!(serving.post(&forged).await, 401);
    // The sender does not wait for the quarantine.
    while !quarantine(serving, &["ls"]).1.contains(id) {}
}

fn quarantine(serving: &Serving, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = serving.admin.as_str();
    run(&[&["quarantine"], arguments, &["--admin", admin]].concat())
}

#[tokio::test]
async fn the_quarantine_is_emptied_only_after_confirmation() {
    let (_folder, serving) = Serving::start_alone();
    for id in ["wh_1", "wh_2", "wh_3"] {
        send_forgery(&serving, id).await;
    }
    for (arguments, plan) in [
        (&["drop", "--all"][..], "Drop all 3 requests?"),
        (
            &["drop", "1"],
            "Drop request 1, which arrived at `production`",
        ),
    ] {
        let (code, told) = quarantine(&serving, arguments);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(plan), "{told}");
        assert!(told.contains("Pass --yes"), "{told}");
    }
    let (code, told) = quarantine(&serving, &["drop", "--all", "--dry-run"]);
    assert_eq!(
        (code, told.as_str()),
        (Some(0), "would drop all 3 requests\n")
    );
    let (code, _) = quarantine(&serving, &["drop", "9", "--yes"]);
    assert_eq!(code, Some(3));
    let (_, listed) = quarantine(&serving, &["ls"]);
    assert_eq!(listed.matches("wh_").count(), 3, "{listed}");

    let admin = serving.admin.as_str();
    let drop_all = ["quarantine", "drop", "--all", "--admin", admin];
    for (typed, expected, left) in [("n\n", Some(1), 3), ("y\n", Some(0), 0)] {
        let (code, told) = run_on_a_terminal(&drop_all, typed);
        assert_eq!(code, expected, "{told}");
        assert!(told.contains("Drop all 3 requests? [y/N]"), "{told}");
        let (_, listed) = quarantine(&serving, &["ls"]);
        assert_eq!(listed.matches("wh_").count(), left, "{listed}");
    }
    let (code, _) = quarantine(&serving, &["drop", "--all", "--yes"]);
    assert_eq!(code, Some(0), "all of nothing is nothing, as for the dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_arrives_after_the_question_is_not_dropped() {
    let (_folder, serving) = Serving::start_alone();
    send_forgery(&serving, "wh_1").await;
    let admin = serving.admin.as_str();
    let drop_all = ["quarantine", "drop", "--all", "--admin", admin];
    let runtime = tokio::runtime::Handle::current();
    let meanwhile = || runtime.block_on(send_forgery(&serving, "wh_2"));
    let (code, told) =
        tokio::task::block_in_place(|| run_on_a_terminal_and(&drop_all, meanwhile, "y\n"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("dropped 1 request"), "{told}");
    let (_, listed) = quarantine(&serving, &["ls"]);
    assert!(
        listed.contains("wh_2") && !listed.contains("wh_1"),
        "{listed}"
    );
}

/// The common rule: "all" may be empty, but a named item must exist.
#[tokio::test]
async fn an_empty_selection_is_no_failure_and_a_missing_item_is_not_found() {
    let (_folder, serving) = Serving::start_alone();
    let admin = serving.admin.as_str();
    let code = |arguments: &[&str]| run(&[arguments, &["--admin", admin]].concat()).0;
    for all in [
        &["quarantine", "drop", "--all"][..],
        &["quarantine", "drop", "--all", "--yes"],
        &["quarantine", "drop", "--all", "--dry-run"],
        &["quarantine", "drop", "--all", "--output", "json"],
        &["quarantine", "retry", "--all"],
        &["dead", "drop", "--all"],
        &["dead", "drop", "--destination", "app", "--yes"],
        &["dead", "replay", "--all"],
        &["replay", "--all"],
    ] {
        assert_eq!(code(all), Some(0), "{all:?}");
    }
    for named in [
        &["quarantine", "drop", "7", "--yes"][..],
        &["quarantine", "retry", "7"],
        &["dead", "drop", "wh_none", "--yes"],
        &["dead", "replay", "wh_none", "--yes"],
        &["replay", "wh_none", "--yes"],
        &["destinations", "give-up", "none", "--yes"],
    ] {
        assert_eq!(code(named), Some(3), "{named:?}");
    }
}

/// A URL with a password is easily pasted into the wrong place.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_a_secret_is_repeated_by_no_command_and_in_no_log() {
    let (_folder, serving) = Serving::start_alone();
    let admin = serving.admin.clone();
    for name in [
        "http://me:hunter2@host/",
        "whsec_hunter2",
        "me:hunter2@host",
    ] {
        for arguments in [
            &["destinations", "pause", name][..],
            &["destinations", "test", name],
            &["destinations", "give-up", name, "--yes"],
            &["events", "show", name],
            &["replay", name, "--yes"],
            &["dead", "drop", name, "--yes"],
        ] {
            let (code, told) = run(&[arguments, &["--admin", &admin]].concat());
            assert_eq!(code, Some(3), "{arguments:?}: {told}");
            assert!(!told.contains("hunter2"), "{arguments:?}: {told}");
        }
    }
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn the_admin_port_drops_nothing_when_nothing_is_named() {
    let (_folder, serving) = Serving::start_alone();
    send_forgery(&serving, "wh_1").await;
    let admin = serving.admin.as_str();
    let drop = async |selection: Value| ask(admin, "quarantine/drop", &selection).await.0;
    for nothing in [
        json!({}),
        json!({"all": false}),
        json!({"all": true, "id": 1}),
        json!({"up_to": 1}),
        json!({"all": true, "up_to": 0}),
    ] {
        assert_eq!(drop(nothing.clone()).await, 400, "{nothing}");
    }
    let (_, listed) = quarantine(&serving, &["ls"]);
    assert!(listed.contains("wh_1"), "{listed}");
    assert_eq!(drop(json!({"all": true})).await, 200);
}

#[tokio::test]
async fn dead_letters_are_dropped_and_replayed_by_the_same_flags() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), "http://127.0.0.1:9");
    add_to_config(folder.path(), "attempts_max = 1\n");
    let serving = Serving::start(folder.path(), &[]);
    for id in ["wh_1", "wh_2"] {
        serving.receive(id, EventType::BatchCompleted).await;
    }
    let admin = serving.admin.as_str();
    let dead = |arguments: &[&str]| run(&[&["dead"], arguments, &["--admin", admin]].concat());
    while dead(&["ls"]).1.matches("wh_").count() < 2 {}

    let (code, told) = dead(&["drop", "--all"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("Drop 2 dead letters?"), "{told}");
    assert!(told.contains("Pass --yes"), "{told}");
    let (code, told) = dead(&["drop", "--all", "--dry-run"]);
    assert_eq!(
        (code, told.as_str()),
        (Some(0), "would drop 2 dead letters\n")
    );
    let (code, told) = dead(&["replay", "--all"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("Redeliver 2 deliveries of 2 messages?"),
        "{told}"
    );
    let (code, told) = dead(&["replay", "--all", "--dry-run"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("2 deliveries of 2 messages"), "{told}");
    let (code, told) = dead(&["replay", "--all", "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    while dead(&["ls"]).1.matches("wh_").count() < 2 {}
    let (code, told) = dead(&["drop", "--all", "--yes"]);
    assert_eq!((code, told.as_str()), (Some(0), "dropped 2 dead letters\n"));
}

async fn a_store_with_messages(folder: &Path) -> String {
    write_destinations(folder, "");
    let serving = Serving::start(folder, &[]);
    for id in ["wh_1", "wh_2"] {
        serving.receive(id, EventType::BatchCompleted).await;
    }
    assert!(serving.terminate().0.success());
    folder.join("unwrapd.toml").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn messages_are_pruned_only_after_confirmation() {
    let folder = TempDir::new().unwrap();
    let config = a_store_with_messages(folder.path()).await;
    let prune = ["db", "prune", "--older-than", "0", "--config", &config];
    let (code, told) = run(&prune);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("Delete 2 messages with "), "{told}");
    assert!(told.contains("Pass --yes"), "{told}");
    let (code, told) = run_on_a_terminal(&prune, "\n");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("nothing was done"), "{told}");
    let (code, told) = run(&[&prune[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("would delete 2 messages"), "{told}");
    let messages = async || {
        let path = folder.path().join("unwrapd.db");
        let store = SqliteStore::open(&path, &Bounds::default(), jiff::Timestamp::now()).unwrap();
        let found = store.tally().await.messages;
        store.close().await;
        found
    };
    assert_eq!(messages().await, 2);

    let (code, told) = run(&[&prune[..], &["--yes"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("deleted 2 messages"), "{told}");
    // Nothing is destroyed, so there is no question.
    let (code, told) = run(&prune);
    assert_eq!(code, Some(0), "{told}");
}

#[tokio::test]
async fn a_backup_is_not_written_to_a_file_named_like_stdout() {
    let folder = TempDir::new().unwrap();
    let config = a_store_with_messages(folder.path()).await;
    let output = command(&["db", "backup", "-", "--config", &config])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (code, told) = told(&output);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("cannot be written to stdout"), "{told}");
    assert!(!folder.path().join("-").exists());
}

#[tokio::test]
async fn a_backup_replaces_a_backup_and_no_other_file() {
    let folder = TempDir::new().unwrap();
    let config = a_store_with_messages(folder.path()).await;
    let backup = |to: &str, force: &[&str]| {
        let to = folder.path().join(to);
        let arguments = ["db", "backup", to.to_str().unwrap(), "--config", &config];
        run(&[&arguments[..], force].concat())
    };
    assert_eq!(backup("backup.db", &[]).0, Some(0));
    assert_eq!(backup("backup.db", &[]).0, Some(2));
    assert_eq!(backup("backup.db", &["--force"]).0, Some(0));
    let before = std::fs::read_to_string(&config).unwrap();
    let (code, told) = backup("unwrapd.toml", &["--force"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("replaces backups only"), "{told}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
}
