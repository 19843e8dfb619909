//! Promises of the SQLite store beyond the suite that every store passes.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;
use unwrapd::delivery::{Lane, Next};
use unwrapd::message::Message;
use unwrapd::store::{Accepted, Bounds, Settled, Store, StoreError};

use crate::store_conformance::{
    DAY, LEASE, SqlitePlace, accept, at, claim, message, open, prune, settle,
};
use crate::support::PATIENCE;
use crate::support::tally::Counted as _;

#[tokio::test]
async fn leases_of_an_ended_owner_are_due_at_once() {
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
fn a_second_process_is_refused() {
    let place = SqlitePlace::new();
    let _first = place.open();
    let second = open(&place.0.path().join("store.db"));
    let error = second.unwrap_err().to_string();
    assert!(error.contains("another unwrapd is running"), "{error}");
}

/// A child process has copies of all descriptors from its fork to its exec.
#[tokio::test]
async fn a_closed_store_can_be_opened_at_once_while_other_programs_are_started() {
    let place = SqlitePlace::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let starters: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            })
        })
        .collect();
    for _ in 0..100 {
        let store = place.open();
        store.close().await;
    }
    is_over.store(true, Ordering::Relaxed);
    for starter in starters {
        starter.join().unwrap();
    }
}

#[test]
fn a_link_to_the_same_file_leads_to_the_same_lock() {
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

/// While the database cannot be opened, each read waits for its lock, and there is always another
/// read.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_answered_while_dispatchers_ask_a_locked_database_again_and_again() {
    let place = SqlitePlace::new();
    let store = place.open();
    let shell = rusqlite::Connection::open(place.0.path().join("store.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut looks = JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&store);
        looks.spawn(async move {
            loop {
                let claimed = store.claim("app", Lane::Standard, at(0), LEASE, 1).await;
                assert!(claimed.is_ok() || matches!(claimed, Err(StoreError::Unavailable(_))));
            }
        });
    }
    for number in 0..3 {
        let message = message(&format!("wh_{number}"), at(0));
        let answer = timeout(PATIENCE, store.accept(message, vec!["app".into()]));
        let answer = answer.await.expect("it is answered");
        assert!(
            matches!(answer, Err(StoreError::Unavailable(_))),
            "{answer:?}"
        );
    }
    shell.execute_batch("ROLLBACK").unwrap();
    let again = async {
        let message = || message("wh_again", at(0));
        while store.accept(message(), vec!["app".into()]).await.is_err() {}
    };
    timeout(PATIENCE, again).await.expect("it goes on");
    looks.shutdown().await;
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
    std::fs::write(
        &text,
        "not a database, but long enough to be looked at as if it were one; it has more than a \
         hundred bytes of text",
    )
    .unwrap();
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

/// Stores messages `wh_0` and so on without destinations.
pub(crate) async fn accept_many(store: &Arc<dyn Store>, count: usize) {
    let ids: Vec<String> = (0..count).map(|number| format!("wh_{number}")).collect();
    // As many as share a commit.
    for ids in ids.chunks(256) {
        let mut accepted = JoinSet::new();
        for id in ids {
            let (store, message) = (Arc::clone(store), message(id, at(0)));
            accepted.spawn(async move { store.accept(message, vec![]).await });
        }
        for accepted in accepted.join_all().await {
            assert_eq!(accepted, Ok(Accepted::New));
        }
    }
}

fn bytes_in_use(place: &SqlitePlace) -> u64 {
    let connection = rusqlite::Connection::open(place.0.path().join("store.db")).unwrap();
    connection
        .query_row(
            "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
            (),
            |row| row.get(0),
        )
        .unwrap()
}

/// Large enough that a few of them fill a small store.
fn large(id: &str, second: i64) -> Message {
    Message {
        payload: Bytes::from(vec![b'x'; 100_000]),
        ..message(id, at(second))
    }
}

#[tokio::test]
async fn a_step_of_pruning_is_short_however_much_there_is_to_prune() {
    let place = SqlitePlace::new();
    let store = place.open();
    accept_many(&store, 5_000).await;

    let mut messages = 0;
    loop {
        let pruned = store.prune(at(31 * DAY)).await.unwrap();
        assert!(pruned.messages <= 256, "{pruned:?}");
        messages += pruned.messages;
        if !pruned.is_more {
            break;
        }
    }
    assert_eq!(messages, 5_000);
    let tally = store.tally().await;
    assert_eq!(tally.messages, 1, "the newest tells the number of the next");
    store.close().await;
    let blocks: u32 = rusqlite::Connection::open(place.0.path().join("store.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM dedupe_block", (), |row| row.get(0))
        .unwrap();
    assert_eq!(blocks, 1, "the newest tells where the next begins");
}

#[tokio::test]
async fn a_store_near_its_size_prunes_the_oldest_messages_that_wait_for_nothing() {
    let place = SqlitePlace::new();
    let size_max = 4 * 1024 * 1024;
    let store = place.open_within(&Bounds {
        size_max: Some(size_max),
        ..Bounds::default()
    });
    let to_app = || vec!["app".into()];
    store.accept(large("wh_waits", 0), to_app()).await.unwrap();
    for number in 0..100 {
        let accepted = store
            .accept(large(&format!("wh_{number}"), 0), vec![])
            .await;
        assert_eq!(accepted, Ok(Accepted::New), "{number}");
        prune(&store, 1).await;
        assert!(bytes_in_use(&place) < size_max, "{number}");
    }
    let kept = kept(&place);
    assert_eq!(kept.first().unwrap(), "wh_waits", "it was never delivered");
    assert_eq!(kept.last().unwrap(), "wh_99", "the youngest go last");
    assert!(kept.len() > 20, "no more than needed: {kept:?}");
    let accepted = store.accept(large("wh_0", 0), vec![]).await;
    assert_eq!(accepted, Ok(Accepted::Duplicate), "the id is known");
}

#[tokio::test]
async fn a_store_full_of_waiting_deliveries_refuses_until_they_are_delivered() {
    let place = SqlitePlace::new();
    let store = place.open_within(&Bounds {
        size_max: Some(4 * 1024 * 1024),
        ..Bounds::default()
    });
    let accept_until_refused = async |second: i64| {
        for number in 0..100 {
            let message = large(&format!("wh_{second}_{number}"), 0);
            if let Err(error) = store.accept(message, vec!["app".into()]).await {
                return error;
            }
            prune(&store, second).await;
        }
        panic!("it takes everything");
    };
    let full = accept_until_refused(1).await;
    assert!(matches!(full, StoreError::Full(_)), "{full}");
    assert!(full.to_string().contains("`size_max_mb`"), "{full}");
    assert_eq!(store.check_writable(at(1)).await, Err(full));

    for delivery in claim(&store, 1).await.deliveries {
        settle(&store, delivery.id, 1, Next::Delivered).await;
    }
    assert!(prune(&store, 100).await > 0);
    assert_eq!(store.check_writable(at(100)).await, Ok(()));
    accept_until_refused(200).await;
}

/// The ids of the messages that still have their payload, oldest first.
fn kept(place: &SqlitePlace) -> Vec<String> {
    let connection = rusqlite::Connection::open(place.0.path().join("store.db")).unwrap();
    connection
        .prepare("SELECT webhook_id FROM message JOIN payload USING (seq) ORDER BY seq")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Another program blocks the writer, as a disk that hangs does.
struct Held(rusqlite::Connection);

impl Held {
    /// Returns once the writer waits in a commit: then not even a claim is answered.
    async fn writer(place: &SqlitePlace, store: &Arc<dyn Store>) -> Self {
        let other = rusqlite::Connection::open(place.0.path().join("store.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (accepting, message) = (Arc::clone(store), message("wh_held", at(0)));
        tokio::spawn(async move { accepting.accept(message, vec![]).await });
        let is_answered = async || {
            let claimed = store.claim("nobody", Lane::Standard, at(0), LEASE, 1);
            timeout(SOON, claimed).await.is_ok()
        };
        while is_answered().await {}
        Self(other)
    }

    fn let_go(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// Much longer than a free writer takes.
const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn an_abandoned_claim_leases_nothing() {
    let place = SqlitePlace::new();
    let store = place.open();
    accept(&store, "wh_1", 0).await;
    let held = Held::writer(&place, &store).await;
    assert!(timeout(SOON, claim(&store, 1)).await.is_err());
    held.let_go();
    assert_eq!(claim(&store, 1).await.deliveries.len(), 1);
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_counts_when_repeated() {
    let place = SqlitePlace::new();
    let store = place.open();
    accept(&store, "wh_1", 0).await;
    let id = claim(&store, 1).await.deliveries[0].id;
    let held = Held::writer(&place, &store).await;
    assert!(
        timeout(SOON, settle(&store, id, 1, Next::Delivered))
            .await
            .is_err()
    );
    held.let_go();
    for _ in 0..2 {
        assert_eq!(
            settle(&store, id, 1, Next::Delivered).await,
            Settled::Settled
        );
    }
    assert_eq!(store.tally().await.delivered, 1);
}
