//! Statements and commits that do not end.

use super::*;

#[tokio::test]
async fn a_database_that_hangs_is_not_waited_for() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    accept(&store, "wh_1", 0).await;
    let schema = schema_of(&place).to_owned();
    let held = tokio::task::spawn_blocking(move || {
        server::shared().sql(&format!(
            "BEGIN; LOCK TABLE {schema}.message; SELECT pg_sleep(9); COMMIT"
        ))
    });
    let refused = loop {
        let id = format!("wh_{:?}", Instant::now());
        match store.accept(message(&id, at(0)), vec![]).await {
            // Not locked yet.
            Ok(_) => sleep(Duration::from_millis(10)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    held.await.unwrap();
    assert_eq!(accept(&store, "wh_2", 0).await, Accepted::New);
}

#[tokio::test]
async fn a_commit_that_hangs_holds_up_no_other() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    let schema = schema_of(&place).to_owned();
    let is_seen = async |what: &str, waits_for: &str| {
        let look = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{schema}%{what}%' AND wait_event = '{waits_for}'"
        );
        let seen = async {
            while server::shared().sql(&look) == "0" {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, seen).await.expect(what);
    };
    // A transaction that stores this id too waits for the one that has inserted it.
    let holds = tokio::task::spawn_blocking({
        let schema = schema.clone();
        move || {
            server::shared().sql(&format!(
                "BEGIN; INSERT INTO {schema}.message (seq, endpoint, webhook_id, sent_at, received_at)
                 VALUES (-1, 'production', 'wh_held', 0, 0); SELECT /* {schema} */ pg_sleep(3); ROLLBACK"
            ))
        }
    });
    is_seen("pg_sleep", "PgSleep").await;
    let hangs = tokio::spawn({
        let store = Arc::clone(&store);
        async move { accept(&store, "wh_held", 0).await }
    });
    is_seen("accept", "transactionid").await;
    assert_eq!(accept(&store, "wh_free", 0).await, Accepted::New);
    assert!(!hangs.is_finished());
    assert_eq!(hangs.await.unwrap(), Accepted::New);
    holds.await.unwrap();
}
