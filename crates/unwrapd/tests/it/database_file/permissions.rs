//! Paths that cannot be opened: the message names the user, the path, and the remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use unwrapd::store::StoreError;

use super::{Place, SOME, stderr};
use crate::store_conformance::open;
use crate::support::{APP_SECRET, OPENAI_SECRET};

/// A user that is not root.
const NOBODY: u32 = 65_534;

/// Runs a command as a user to whom file modes apply.
fn as_nobody(arguments: &[&str]) -> Output {
    // The binary may be in a folder that only root may enter.
    let tools = TempDir::new().unwrap();
    mode(tools.path(), 0o755);
    let binary = tools.path().join("unwrapd");
    // Copied by another process. A concurrent test may fork while the copy is open for writing, and
    // a file that is open for writing cannot be executed (ETXTBSY).
    let copied = Command::new("cp")
        .arg(crate::support::process::program())
        .arg(&binary)
        .status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(binary);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .args(arguments)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn serve_as_nobody(folder: &Path) -> String {
    let config = folder.join("unwrapd.toml");
    let output = as_nobody(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Our user, as in the messages.
fn who() -> String {
    let user = rustix::process::geteuid();
    if user.is_root() {
        format!("(user {NOBODY}, ")
    } else {
        format!("(user {user}, ")
    }
}

#[test]
fn a_missing_permission_is_reported_with_user_path_and_remedy() {
    // The folder is not writable.
    let place = Place::new();
    mode(place.folder.path(), 0o555);
    let text = serve_as_nobody(place.folder.path());
    let who = who();
    assert!(text.contains(&who), "{text}");
    assert!(
        text.contains("may not create a file in the folder"),
        "{text}"
    );
    assert!(text.contains("chown"), "{text}");

    // The database is not writable.
    let place = Place::new();
    drop(open(&place.file("")).unwrap());
    mode(place.folder.path(), 0o777);
    mode(&place.file(".lock"), 0o666);
    mode(&place.file(""), 0o444);
    let text = serve_as_nobody(place.folder.path());
    assert!(
        text.contains(&who) && text.contains("may not read and write this file"),
        "{text}"
    );
    assert!(text.contains("unwrapd.db: this process"), "{text}");

    // A log that another user has left.
    mode(&place.file(""), 0o666);
    fs::write(place.file("-wal"), "").unwrap();
    mode(&place.file("-wal"), 0o400);
    let text = serve_as_nobody(place.folder.path());
    assert!(text.contains("unwrapd.db-wal: this process"), "{text}");
    mode(place.folder.path(), 0o755);
}

#[test]
fn a_path_that_leads_to_no_file_is_reported_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing/store.db");
    let error = open(&missing).unwrap_err().to_string();
    assert!(error.contains("does not exist; create it"), "{error}");
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("this is a folder"), "{error}");
    assert!(matches!(error, StoreError::Unavailable(_)));
}

/// A backup on a disk that is mounted read-only, or that belongs to root.
#[tokio::test]
async fn a_store_that_may_only_be_read_is_checked_and_copied() {
    let (place, serving) = Place::in_use().await;
    assert!(serving.terminate().0.success());
    mode(&place.file(""), 0o444);
    mode(place.folder.path(), 0o555);
    let target = TempDir::new().unwrap();
    mode(target.path(), 0o777);
    let backup = target.path().join("backup.db");
    let store = place.file("");
    let store = store.to_str().unwrap();
    let output = as_nobody(&["db", "check", store]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = as_nobody(&["db", "backup", backup.to_str().unwrap(), "--store", store]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("{SOME} messages")), "{said}");
    mode(place.folder.path(), 0o755);
}

/// The log cannot be read without an index, which only a user with write access can create.
#[tokio::test]
async fn an_unreadable_log_is_reported_with_the_user_who_may_read_it() {
    let (place, serving) = Place::in_use().await;
    // SIGKILL.
    drop(serving);
    fs::remove_file(place.file("-shm")).unwrap();
    for suffix in ["", "-wal"] {
        mode(&place.file(suffix), 0o444);
    }
    mode(place.folder.path(), 0o555);
    let store = place.file("");
    let output = as_nobody(&["db", "check", store.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("can read the log beside it"), "{text}");
    assert!(
        text.contains(&who()) && text.contains("run as its owner"),
        "{text}"
    );
    mode(place.folder.path(), 0o755);
}

#[test]
fn a_source_that_cannot_be_entered_is_not_reported_as_missing() {
    let folder = TempDir::new().unwrap();
    mode(folder.path(), 0o755);
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    drop(open(&closed.join("store.db")).unwrap());
    mode(&closed, 0o000);
    let from = format!("sqlite:{}/store.db", closed.display());
    let to = format!("sqlite:{}/copy.db", folder.path().display());
    let output = as_nobody(&["db", "copy", "--from", &from, "--to", &to]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("may not enter the folder") && text.contains(&who()),
        "{text}"
    );
    mode(&closed, 0o755);
}
