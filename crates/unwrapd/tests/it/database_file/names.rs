//! Other names of the database, and the locks.

use std::fs::{self, File};

use tempfile::TempDir;

use super::{Place, SOME, serve, stderr};
use crate::store_conformance::open;
use crate::support::process::unwrapd;
use crate::support::until;

/// Snapshots by `cp -al` create them. Two gateways on two names destroyed the file.
#[tokio::test]
async fn a_database_with_two_names_is_refused_at_the_start_and_while_it_runs() {
    let (place, serving) = Place::in_use().await;
    let snapshot = Place::new();
    fs::hard_link(place.file(""), snapshot.file("")).unwrap();

    assert_eq!(place.post(&serving, "other_1").await, Some(503));
    let (status, text) = serving.readyz().await;
    assert!(status == 503 && text.contains("hard links"), "{text}");

    let second = serve(snapshot.folder.path(), |_| {});
    assert_eq!(second.status.code(), Some(1));
    let text = stderr(&second);
    assert!(
        text.contains("hard links") && text.contains("-samefile"),
        "{text}"
    );

    fs::remove_file(snapshot.file("")).unwrap();
    until("it goes on", async || {
        place.post(&serving, "other_1").await == Some(200)
    })
    .await;
    let (status, _) = serving.terminate();
    assert!(status.success());
    assert_eq!(place.kept(), SOME);
}

/// Another path to the same inode, without a second name: a bind mount of the file.
#[cfg(target_os = "linux")]
#[test]
fn the_lock_is_on_the_file_itself_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let _store = open(&path).unwrap();
    let database = File::open(&path).unwrap();
    let error = database.try_lock().unwrap_err();
    assert!(matches!(error, fs::TryLockError::WouldBlock), "{error}");
}

#[test]
fn a_backup_is_not_written_to_stdout_or_over_the_store() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("store.db");
    drop(open(&store).unwrap());
    for (target, said) in [("-", "stdout"), ("store.db-wal", "of the store itself")] {
        let output = unwrapd()
            .current_dir(folder.path())
            .args(["db", "backup", target, "--store", "store.db"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{target}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!folder.path().join(target).exists(), "{target}");
    }
}

/// Under another name (a hard link, a mount of the single file) the log is not found, and with it
/// the latest commits.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_database_of_a_gateway_is_not_read_by_a_name_that_has_no_log() {
    let (place, _serving) = Place::in_use().await;
    let other = Place::new();
    fs::hard_link(place.file(""), other.file("")).unwrap();
    let backup = other.folder.path().join("backup.db");
    let commands: [&[&str]; 2] = [&["backup", backup.to_str().unwrap(), "--store"], &["check"]];
    for command in commands {
        let output = unwrapd()
            .current_dir(other.folder.path())
            .arg("db")
            .args(command)
            .arg("unwrapd.db")
            .output()
            .unwrap();
        assert!(!output.status.success(), "{command:?}");
        let text = stderr(&output);
        assert!(
            text.contains("name the path that the gateway uses"),
            "{command:?}: {text}"
        );
    }
    assert!(!backup.exists());
    fs::remove_file(other.file("")).unwrap();
    place.back_up(&backup);
}

/// Somebody removes what looks like a leftover lock. The gateway continues, and still prevents a
/// second one.
#[tokio::test]
async fn a_lock_that_is_removed_or_replaced_is_taken_again() {
    let (place, mut serving) = Place::in_use().await;
    fs::remove_file(place.file(".lock")).unwrap();
    assert_eq!(place.post(&serving, "removed").await, Some(200));
    serving.announced("is locked again");
    fs::write(place.file(".new"), "").unwrap();
    fs::rename(place.file(".new"), place.file(".lock")).unwrap();
    assert_eq!(place.post(&serving, "replaced").await, Some(200));
    assert_eq!(serving.readyz().await.0, 200);

    let second = serve(place.folder.path(), |_| {});
    assert_eq!(second.status.code(), Some(5));
    let text = stderr(&second);
    assert!(text.contains("another unwrapd is running"), "{text}");
    assert!(serving.terminate().0.success());
}
