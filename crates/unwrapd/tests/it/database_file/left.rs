//! The files that the last process has left, and their changes before the next start.

use std::fs::{self, File};

use super::{Place, elsewhere, serve, stderr};

/// SQLite creates a new database then, and removes the log with everything that was acknowledged
/// since the last checkpoint.
#[tokio::test]
async fn a_log_without_its_database_is_left_alone_until_the_database_is_back() {
    for is_emptied in [false, true] {
        let (place, serving) = Place::in_use().await;
        // SIGKILL.
        drop(serving);
        let log = fs::read(place.file("-wal")).unwrap();
        assert!(!log.is_empty());
        fs::rename(place.file(""), elsewhere(&place)).unwrap();
        if is_emptied {
            File::create(place.file("")).unwrap();
        }

        let start = serve(place.folder.path(), |_| {});
        assert_eq!(start.status.code(), Some(1));
        let text = stderr(&start);
        assert!(text.contains("unwrapd.db-wal is still there"), "{text}");
        assert!(text.contains("put the database back"), "{text}");
        assert_eq!(fs::read(place.file("-wal")).unwrap(), log);

        fs::rename(elsewhere(&place), place.file("")).unwrap();
        place.starts_again_whole("the database is back").await;
    }
}

/// A process that is killed, or ended by the system, cannot report it.
#[tokio::test]
async fn a_start_says_that_the_last_process_did_not_close_the_store() {
    let (place, serving) = Place::in_use().await;
    drop(serving);
    let (status, log) = place.start().terminate();
    assert!(status.success());
    assert!(log.contains("the last process left its log"), "{log}");
    let (_, log) = place.start().terminate();
    assert!(!log.contains("the last process left its log"), "{log}");
}
