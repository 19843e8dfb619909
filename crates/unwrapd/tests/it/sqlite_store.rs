//! What the SQLite store promises beyond the suite that every store runs.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinSet;
use unwrapd::delivery::Lane;
use unwrapd::store::{Accepted, StoreError};

use crate::store_conformance::{LEASE, Place as _, SqlitePlace, accept, at, claim, message, open};

#[tokio::test]
async fn what_a_gone_owner_had_leased_is_due_at_once() {
    let place = SqlitePlace::new();
    let store = place.open();
    accept(&store, "wh_1", 0).await;
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
    store.close().await;
    drop(store);

    let store = place.open();
    assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
}

#[test]
fn a_second_process_is_kept_off() {
    let place = SqlitePlace::new();
    let _first = place.open();
    let second = open(&place.0.path().join("store.db"));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another unwrapd is running"), "{error}");
}

#[test]
fn another_way_to_the_same_file_leads_to_the_same_lock() {
    let place = SqlitePlace::new();
    let _first = place.open();
    let link = place.0.path().join("link.db");
    std::os::unix::fs::symlink(place.0.path().join("store.db"), &link).unwrap();
    assert!(open(&link).is_err());
}

#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_its_own_destination_only() {
    let place = SqlitePlace::new();
    let store = place.open();
    accept(&store, "wh_1", 0).await;
    let connection = rusqlite::Connection::open(place.0.path().join("store.db")).unwrap();
    connection
        .execute("UPDATE message SET received_at = 9223372036854775807", ())
        .unwrap();

    let mut asked = JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        asked.spawn(async move {
            let claimed = store.claim("app", Lane::Standard, at(0), LEASE, 1).await;
            let id = format!("wh_other_{number}");
            let accepted = store
                .accept(message(&id, at(0)), vec!["audit".into()])
                .await;
            (claimed.is_err(), accepted)
        });
    }
    for (claim_failed, accepted) in asked.join_all().await {
        assert!(claim_failed);
        assert_eq!(accepted, Ok(Accepted::New));
    }
}

#[test]
fn the_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = SqlitePlace::new();
    let _store = place.open();
    let mode = |name| {
        std::fs::metadata(place.0.path().join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    for name in ["store.db", "store.db-wal", "store.db-shm", "store.db.lock"] {
        assert_eq!(mode(name) & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to be looked at as if it were one; it has more than a hundred bytes of text").unwrap();
    let error = open(&text).unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    assert!(
        std::fs::read_to_string(&text)
            .unwrap()
            .starts_with("not a database")
    );

    let other = folder.path().join("other.db");
    let connection = rusqlite::Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = open(&other).unwrap_err();
    assert!(error.to_string().contains("another application"), "{error}");

    let newer = folder.path().join("newer.db");
    drop(open(&newer).unwrap());
    let connection = rusqlite::Connection::open(&newer).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    let error = open(&newer).unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}
