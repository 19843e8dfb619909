//! The gateway prunes old content by itself.

use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Bounds, Store};

use crate::sqlite_store::accept_many;
use crate::store_conformance::{DAY, at, message};
use crate::support::tally::Counted as _;
use crate::support::{PATIENCE, TestGateway};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_prunes_old_messages_and_no_others() {
    let folder = TempDir::new().unwrap();
    let now = Timestamp::now();
    assert!(now > at(40 * DAY), "what `at` gives is long ago");
    let path = folder.path().join("unwrapd.db");
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&path, &Bounds::default(), now).unwrap());
    accept_many(&store, 1_000).await;
    let waiting = message("wh_waits", at(0));
    store.accept(waiting, vec!["nobody".into()]).await.unwrap();
    let young = message("wh_young", now);
    store.accept(young, vec![]).await.unwrap();
    store.close().await;
    drop(store);

    let test = TestGateway::start_in(folder, vec![]).await;
    let forgotten = async {
        while test.gateway.store().tally().await.messages > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
    let tally = test.gateway.store().tally().await;
    assert_eq!((tally.messages, tally.pending), (2, 1));
    test.stop().await;
}
