//! The gateway forgets by itself what it has kept long enough.

use jiff::Timestamp;
use tempfile::TempDir;
use unwrapd::store::Bounds;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Accepted, Store as _};

use crate::store_conformance::{DAY, at, message};
use crate::support::{PATIENCE, TestGateway};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_forgets_what_is_old_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let now = Timestamp::now();
    assert!(now > at(40 * DAY), "what `at` gives is long ago");
    let store = SqliteStore::open(
        &folder.path().join("unwrapd.db"),
        &Bounds::default(),
        Timestamp::now(),
    )
    .unwrap();
    for number in 0..1_000 {
        let old = message(&format!("wh_{number}"), at(0));
        assert_eq!(store.accept(old, vec![]).await, Ok(Accepted::New));
    }
    let waiting = message("wh_waits", at(0));
    store.accept(waiting, vec!["nobody".into()]).await.unwrap();
    let young = message("wh_young", now);
    store.accept(young, vec![]).await.unwrap();
    store.close().await;
    drop(store);

    let test = TestGateway::start_in(folder, vec![]).await;
    let forgotten = async {
        while test.gateway.store().tally().await.unwrap().messages > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
    let tally = test.gateway.store().tally().await.unwrap();
    assert_eq!((tally.messages, tally.pending), (2, 1));
    test.stop().await;
}
