//! Files of a running gateway that are truncated or overwritten in place.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::{Place, SOME, elsewhere};
use crate::support::Webhook;
use crate::support::process::unwrapd;

/// SQLite has it mapped, so a read beyond its end would be a signal that ends the process, which is
/// acceptable.
#[tokio::test]
async fn an_index_that_is_cut_off_ends_the_gateway_and_the_next_start_rebuilds_it() {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    let index = File::options().write(true).open(place.file("-shm"));
    index.unwrap().set_len(0).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert!(!serving.died("index cut").success());
    let serving = place.start();
    assert_eq!(place.post(&serving, "wh_0").await, Some(200));
    assert!(serving.terminate().0.success());
    assert_eq!(place.kept(), SOME);
}

/// A backup restored with `cp` while the gateway runs: the file, its inode and often its size stay
/// the same.
#[tokio::test]
async fn a_backup_copied_over_the_database_ends_the_gateway_which_moves_nothing_into_it() {
    for is_by_the_tool in [true, false] {
        let place = Place::new();
        let mut serving = place.start();
        // So that the file has content.
        let move_log = || {
            Connection::open(place.file(""))
                .unwrap()
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
                .unwrap();
        };
        place.post_some(&serving).await;
        let backup = elsewhere(&place);
        if is_by_the_tool {
            let output = unwrapd()
                .args(["db", "backup"])
                .arg(&backup)
                .arg("--store")
                .arg(place.file(""))
                .output()
                .unwrap();
            assert!(output.status.success());
            move_log();
        } else {
            move_log();
            fs::copy(place.file(""), &backup).unwrap();
            // Enough to make the database grow.
            for number in 0..SOME {
                let id = format!("more_{number}");
                let large = Webhook::with_payload(&id, "x".repeat(20_000));
                let answer = large.request(&place.client, &serving.url).send().await;
                assert_eq!(answer.unwrap().status(), 200);
            }
            move_log();
            // As large as the database, by chance.
            let length = fs::metadata(place.file("")).unwrap().len();
            let copy = File::options().write(true).open(&backup).unwrap();
            copy.set_len(length).unwrap();
        }
        assert_eq!(place.post(&serving, "before").await, Some(200));
        fs::copy(&backup, place.file("")).unwrap();
        assert_ne!(
            place.post(&serving, "after").await,
            Some(200),
            "{is_by_the_tool}"
        );
        assert_eq!(serving.died("copied over").code(), Some(1));
        let left = fs::read(place.file("")).unwrap();
        assert_eq!(left, fs::read(&backup).unwrap(), "it is left alone");
    }
}

/// A store of constant size: deleted messages leave room for new ones, and the file keeps its size
/// for weeks.
#[tokio::test]
async fn an_older_copy_of_equal_size_that_is_copied_over_the_database_ends_the_gateway() {
    let place = Place::new();
    assert!(place.start().terminate().0.success());
    Connection::open(place.file(""))
        .unwrap()
        .execute_batch(
            "CREATE TABLE ballast AS SELECT zeroblob(4000000) AS x; DROP TABLE ballast;
             PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
    let mut serving = place.start();
    let move_log = || {
        Connection::open(place.file(""))
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
            .unwrap();
    };
    let post_large = async |id: String| {
        let large = Webhook::with_payload(&id, "x".repeat(20_000));
        let answer = large.request(&place.client, &serving.url).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    };
    for number in 0..SOME {
        post_large(format!("wh_{number}")).await;
    }
    move_log();
    let backup = elsewhere(&place);
    fs::copy(place.file(""), &backup).unwrap();
    for number in 0..SOME {
        post_large(format!("more_{number}")).await;
    }
    move_log();
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(length(&backup), length(&place.file("")));
    // A checkpoint by another program through SQLite is no change of the file.
    assert_eq!(place.post(&serving, "before").await, Some(200));
    fs::copy(&backup, place.file("")).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert_eq!(serving.died("an older copy").code(), Some(1));
    let left = fs::read(place.file("")).unwrap();
    assert_eq!(left, fs::read(&backup).unwrap(), "it is left alone");
}

#[tokio::test]
async fn a_change_of_the_files_is_noticed_while_no_webhook_arrives() {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    File::options()
        .write(true)
        .open(place.file("-wal"))
        .unwrap()
        .set_len(0)
        .unwrap();
    serving.announced("first copy the database, its -wal");
    assert_eq!(serving.died("cut while idle").code(), Some(1));
}

/// Closing the database would move a log with holes into it.
#[tokio::test]
async fn a_log_that_is_cut_off_ends_the_gateway_which_leaves_the_files_as_they_are() {
    for part in [0, 2, 3] {
        let place = Place::new();
        let mut serving = place.start();
        place.post_some(&serving).await;
        let before = fs::read(place.file("")).unwrap();
        let log = File::options()
            .write(true)
            .open(place.file("-wal"))
            .unwrap();
        let length = log.metadata().unwrap().len();
        log.set_len(length * part / 4).unwrap();
        assert_ne!(place.post(&serving, "after").await, Some(200), "{part}");
        assert_eq!(serving.died("cut").code(), Some(1));
        assert_eq!(fs::read(place.file("")).unwrap(), before, "{part}");
    }
}

/// A commit after the cut makes the file long again, so only its content shows the truncation.
#[tokio::test]
async fn a_log_that_is_overwritten_in_place_ends_the_gateway() {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    let log = File::options()
        .write(true)
        .open(place.file("-wal"))
        .unwrap();
    log.write_all_at(&[0; 64], 0).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert_eq!(serving.died("overwritten").code(), Some(1));
}

#[tokio::test]
async fn a_database_that_is_cut_off_ends_the_gateway_which_leaves_the_log_as_it_is() {
    for part in [0, 1] {
        let place = Place::new();
        let mut serving = place.start();
        place.post_some(&serving).await;
        // So that the file has content.
        Connection::open(place.file(""))
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
            .unwrap();
        assert_eq!(place.post(&serving, "other").await, Some(200));
        let log = fs::metadata(place.file("-wal")).unwrap().len();
        let database = File::options().write(true).open(place.file("")).unwrap();
        let length = database.metadata().unwrap().len();
        database.set_len(length * part / 2).unwrap();
        assert_ne!(place.post(&serving, "after").await, Some(200), "{part}");
        assert_eq!(serving.died("cut").code(), Some(1));
        assert_eq!(database.metadata().unwrap().len(), length * part / 2);
        assert!(fs::metadata(place.file("-wal")).unwrap().len() >= log);
    }
}
