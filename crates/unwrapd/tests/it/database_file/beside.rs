//! Programs that use the database through SQLite beside the gateway.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;
use unwrapd::clock::Clock;
use unwrapd::message::Message;
use unwrapd::observe::warnings::Warnings;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Accepted, Bounds, Store, StoreReporter};

use super::{Place, SOME};
use crate::store_conformance::{at, message};
use crate::support::{PATIENCE, until};

const MIB: usize = 1024 * 1024;

/// Commands that people may run beside a gateway do not count as a change of its files.
#[tokio::test]
async fn a_shell_may_move_the_log_and_make_the_database_smaller() {
    let (place, serving) = Place::in_use().await;
    let shell = Connection::open(place.file("")).unwrap();
    shell.busy_timeout(PATIENCE).unwrap();
    let statements = [
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "CREATE TABLE ballast AS SELECT zeroblob(1000000) AS x",
        "PRAGMA wal_checkpoint(RESTART)",
        "DROP TABLE ballast",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ];
    for (number, statement) in statements.into_iter().enumerate() {
        let mut statement = shell.prepare(statement).unwrap();
        let mut rows = statement.query(()).unwrap();
        while rows.next().unwrap().is_some() {}
        assert_eq!(
            place.post(&serving, &format!("shell_{number}")).await,
            Some(200)
        );
        assert_eq!(serving.readyz().await.0, 200);
    }
    // One of two shells truncates the log, and the other restarts it, with its own salt.
    let other = Connection::open(place.file("")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    shell
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .unwrap();
    other
        .execute_batch("CREATE TABLE ballast (x); DROP TABLE ballast")
        .unwrap();
    assert_eq!(place.post(&serving, "shell_other").await, Some(200));
    shell
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .unwrap();
    assert_eq!(place.post(&serving, "shell_last").await, Some(200));
    drop((shell, other));
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(place.kept(), SOME);
}

/// The writes of a shell reach the database later, and the file becomes shorter only then.
#[tokio::test]
async fn a_shell_may_make_the_database_smaller_in_two_steps() {
    let (place, serving) = Place::in_use().await;
    let open = || {
        let connection = Connection::open(place.file("")).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection
    };
    let shell = open();
    let moved = |mode| {
        shell
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(()))
            .unwrap();
    };
    shell
        .execute_batch("CREATE TABLE ballast AS SELECT zeroblob(1000000) AS x")
        .unwrap();
    moved("TRUNCATE");
    assert_eq!(place.post(&serving, "before").await, Some(200));
    shell.execute_batch("DROP TABLE ballast").unwrap();
    assert_eq!(place.post(&serving, "dropped").await, Some(200));
    moved("TRUNCATE");
    let length = || fs::metadata(place.file("")).unwrap().len();
    let long = length();
    // The log restarts with the salt of the other shell, so the gateway checks closely, and knows
    // what was written.
    open().execute_batch("VACUUM").unwrap();
    assert_eq!(place.post(&serving, "made-smaller").await, Some(200));
    assert_eq!(length(), long);
    moved("PASSIVE");
    assert!(length() < long);
    assert_eq!(place.post(&serving, "moved").await, Some(200));
    assert_eq!(serving.readyz().await.0, 200);
}

/// A backup, a check or a shell prevented every start until it ended.
#[tokio::test]
async fn a_reader_does_not_keep_the_gateway_from_starting() {
    let (place, serving) = Place::in_use().await;
    let reader = place.reader();
    assert_eq!(place.post(&serving, "behind-the-reader").await, Some(200));
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");

    let serving = place.start();
    assert_eq!(place.post(&serving, "beside-the-reader").await, Some(200));
    // SIGKILL.
    drop(serving);
    let serving = place.start();
    assert_eq!(place.post(&serving, "behind-the-reader").await, Some(200));
    let seen: usize = reader
        .query_row("SELECT count(*) FROM message", (), |row| row.get(0))
        .unwrap();
    assert_eq!(seen, SOME, "the reader sees what it saw");
    drop(reader);
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");
    let connection = Connection::open(place.file("")).unwrap();
    let all: usize = connection
        .query_row("SELECT count(*) FROM message", (), |row| row.get(0))
        .unwrap();
    assert_eq!(all, SOME + 2, "each once");
    let sound: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

/// A start that finds the database locked has written nothing, and need not write the whole log
/// again because of a reader.
#[tokio::test]
async fn a_shell_that_writes_for_long_beside_a_reader_only_delays() {
    let (place, serving) = Place::in_use().await;
    let reader = place.reader();
    for number in 0..100 {
        let id = format!("large_{number}");
        place.post_large(&serving, &id, MIB - 1000).await;
    }
    let shell = Connection::open(place.file("")).unwrap();
    for number in 0..2 {
        shell.execute_batch("BEGIN IMMEDIATE").unwrap();
        for refused in 0..3 {
            let id = format!("refused_{number}_{refused}");
            assert_eq!(place.post(&serving, &id).await, Some(503));
        }
        shell.execute_batch("ROLLBACK").unwrap();
        let id = format!("accepted_{number}");
        assert_eq!(place.post(&serving, &id).await, Some(200));
    }
    drop((reader, shell));
    let (status, log) = serving.terminate();
    assert!(status.success());
    assert!(log.contains("another process uses the database"), "{log}");
    assert!(!log.contains("to the disk again"), "{log}");
    assert_eq!(place.kept(), SOME);
}

/// A shell that writes, one that locks the whole file, and one that reads a file in another journal
/// mode. Each prevented a start.
#[tokio::test]
async fn a_start_waits_for_a_program_that_locks_the_database() {
    for (before, lock) in [
        ("", "BEGIN IMMEDIATE"),
        ("", "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE"),
        (
            "PRAGMA journal_mode = DELETE",
            "BEGIN; SELECT * FROM message",
        ),
    ] {
        let (place, serving) = Place::in_use().await;
        assert!(serving.terminate().0.success());
        let shell = Connection::open(place.file("")).unwrap();
        shell.execute_batch(before).unwrap();
        shell.execute_batch(lock).unwrap();
        let mut starting = place.begin_to_start();
        starting.announced("no webhook is received until then");
        drop(shell);
        let serving = starting.started();
        assert_eq!(place.post(&serving, "wh_0").await, Some(200), "{lock}");
        assert!(serving.terminate().0.success(), "{lock}");
        assert_eq!(place.kept(), SOME, "{lock}");
    }
}

async fn accept_large(store: &Arc<dyn Store>, id: &str) {
    let large = Message {
        payload: Bytes::from(vec![b'x'; MIB]),
        ..message(id, at(0))
    };
    assert_eq!(store.accept(large, vec![]).await, Ok(Accepted::New));
}

#[tokio::test]
async fn a_forgotten_reader_is_warned_of_and_the_log_shrinks_when_it_is_gone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let warnings = Warnings::default();
    let store: Arc<dyn Store> = Arc::new(
        SqliteStore::open_with(
            &path,
            &Bounds::default(),
            &Clock::simulated(at(0)),
            &warnings,
            &StoreReporter::default(),
        )
        .unwrap(),
    );
    accept_large(&store, "first").await;
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader
        .query_row("SELECT count(*) FROM message", (), |_| Ok(()))
        .unwrap();
    for number in 0..80 {
        accept_large(&store, &format!("wh_{number}")).await;
    }
    until("it warns", async || !warnings.all().is_empty()).await;
    let text = warnings.all().concat();
    assert!(
        text.contains("MiB") && text.contains("read transaction"),
        "{text}"
    );
    let log = folder.path().join("store.db-wal");
    assert!(log.metadata().unwrap().len() > 80 * MIB as u64);

    drop(reader);
    until("it warns no more", async || warnings.all().is_empty()).await;
    assert_eq!(log.metadata().unwrap().len(), 0);
    accept_large(&store, "last").await;
    store.close().await;
}
