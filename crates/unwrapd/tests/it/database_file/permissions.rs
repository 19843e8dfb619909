//! Paths that cannot be opened: who, which path, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use unwrapd::store::StoreError;

use super::{Place, serve, stderr};
use crate::store_conformance::open;
use crate::support::{APP_SECRET, OPENAI_SECRET};

/// Someone who is not root, as far as the system is concerned.
const NOBODY: u32 = 65_534;

/// Runs `serve` as someone to whom modes of files matter.
fn serve_as_nobody(folder: &Path) -> String {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let output = serve(folder, |_| {});
        assert_eq!(output.status.code(), Some(1));
        return stderr(&output);
    }
    // The binary may be where only root comes.
    let tools = TempDir::new().unwrap();
    fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = tools.path().join("unwrapd");
    fs::copy(env!("CARGO_BIN_EXE_unwrapd"), &binary).unwrap();
    let output = Command::new(binary)
        .args(["serve", "--config"])
        .arg(folder.join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .env("NO_COLOR", "1")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

#[test]
fn a_permission_that_is_missing_is_said_with_who_which_path_and_what_to_do() {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let user = if rustix::process::geteuid().is_root() {
        NOBODY.to_string()
    } else {
        rustix::process::geteuid().to_string()
    };

    // The folder is not writable.
    let place = Place::new();
    mode(place.folder.path(), 0o555);
    let text = serve_as_nobody(place.folder.path());
    let who = format!("(user {user}, ");
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

    // A log that someone else left.
    mode(&place.file(""), 0o666);
    fs::write(place.file("-wal"), "").unwrap();
    mode(&place.file("-wal"), 0o400);
    let text = serve_as_nobody(place.folder.path());
    assert!(text.contains("unwrapd.db-wal: this process"), "{text}");
    mode(place.folder.path(), 0o755);
}

#[test]
fn a_path_that_leads_to_no_file_is_said_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing/store.db");
    let error = open(&missing).unwrap_err().to_string();
    assert!(error.contains("does not exist; create it"), "{error}");
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("this is a folder"), "{error}");
    assert!(matches!(error, StoreError::Unavailable(_)));
}
