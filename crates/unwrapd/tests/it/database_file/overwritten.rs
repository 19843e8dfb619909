//! Files of a running gateway that are truncated or overwritten in place.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::{Place, SOME, elsewhere};

/// Size of a body that takes several pages of the database.
const LARGE_BYTES: usize = 20_000;

/// A file that was copied over the database is not touched.
fn assert_is_left_alone(place: &Place, backup: &Path) {
    let left = fs::read(place.file("")).unwrap();
    assert_eq!(left, fs::read(backup).unwrap(), "it is left alone");
}

/// SQLite has it mapped, so a read beyond its end would be a signal that ends the process, which is
/// acceptable.
#[tokio::test]
async fn an_index_that_is_cut_off_ends_the_gateway_and_the_next_start_rebuilds_it() {
    let (place, mut serving) = Place::in_use().await;
    place.writable("-shm").set_len(0).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert!(!serving.died("index cut").success());
    place.starts_again_whole("index cut").await;
}

/// A backup restored with `cp` while the gateway runs: the file, its inode and often its size stay
/// the same.
#[tokio::test]
async fn a_backup_copied_over_the_database_ends_the_gateway_which_moves_nothing_into_it() {
    for is_by_the_tool in [true, false] {
        let (place, mut serving) = Place::in_use().await;
        let backup = elsewhere(&place);
        if is_by_the_tool {
            place.back_up(&backup);
            place.move_log();
        } else {
            place.move_log();
            fs::copy(place.file(""), &backup).unwrap();
            // Enough to make the database grow.
            for number in 0..SOME {
                let id = format!("more_{number}");
                place.post_large(&serving, &id, LARGE_BYTES).await;
            }
            place.move_log();
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
        assert_is_left_alone(&place, &backup);
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
    for number in 0..SOME {
        let id = format!("wh_{number}");
        place.post_large(&serving, &id, LARGE_BYTES).await;
    }
    place.move_log();
    let backup = elsewhere(&place);
    fs::copy(place.file(""), &backup).unwrap();
    for number in 0..SOME {
        let id = format!("more_{number}");
        place.post_large(&serving, &id, LARGE_BYTES).await;
    }
    place.move_log();
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(length(&backup), length(&place.file("")));
    // A checkpoint by another program through SQLite is no change of the file.
    assert_eq!(place.post(&serving, "before").await, Some(200));
    fs::copy(&backup, place.file("")).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert_eq!(serving.died("an older copy").code(), Some(1));
    assert_is_left_alone(&place, &backup);
}

#[tokio::test]
async fn a_change_of_the_files_is_noticed_while_no_webhook_arrives() {
    let (place, mut serving) = Place::in_use().await;
    place.writable("-wal").set_len(0).unwrap();
    serving.announced("first copy the database, its -wal");
    assert_eq!(serving.died("cut while idle").code(), Some(1));
}

/// Closing the database would move a log with holes into it.
#[tokio::test]
async fn a_log_that_is_cut_off_ends_the_gateway_which_leaves_the_files_as_they_are() {
    for part in [0, 2, 3] {
        let (place, mut serving) = Place::in_use().await;
        let before = fs::read(place.file("")).unwrap();
        let log = place.writable("-wal");
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
    let (place, mut serving) = Place::in_use().await;
    let log = place.writable("-wal");
    log.write_all_at(&[0; 64], 0).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert_eq!(serving.died("overwritten").code(), Some(1));
}

#[tokio::test]
async fn a_database_that_is_cut_off_ends_the_gateway_which_leaves_the_log_as_it_is() {
    for part in [0, 1] {
        let (place, mut serving) = Place::in_use().await;
        place.move_log();
        assert_eq!(place.post(&serving, "other").await, Some(200));
        let log = fs::metadata(place.file("-wal")).unwrap().len();
        let database = place.writable("");
        let length = database.metadata().unwrap().len();
        database.set_len(length * part / 2).unwrap();
        assert_ne!(place.post(&serving, "after").await, Some(200), "{part}");
        assert_eq!(serving.died("cut").code(), Some(1));
        assert_eq!(database.metadata().unwrap().len(), length * part / 2);
        assert!(fs::metadata(place.file("-wal")).unwrap().len() >= log);
    }
}
