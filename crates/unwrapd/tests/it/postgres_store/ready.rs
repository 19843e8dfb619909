//! Whether a message could be stored now, and why a connection fails.

use super::*;
use crate::support::postgres::{Pooler, Server};
use crate::support::process::{Serving, write_config_on};
use crate::support::{Webhook, client};

#[tokio::test]
async fn the_store_is_not_writable_while_a_table_that_messages_need_is_locked() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    store.check_writable(at(0)).await.unwrap();
    let schema = schema_of(&place).to_owned();
    for table in ["message", "payload_0", "delivery", "quarantine"] {
        let table = format!("{schema}.{table}");
        let locks = table.clone();
        let held = tokio::task::spawn_blocking(move || {
            server::shared().sql(&format!(
                "BEGIN; LOCK TABLE {locks} IN SHARE MODE; SELECT pg_sleep(8); COMMIT"
            ))
        });
        let deadline = Instant::now() + PATIENCE;
        let refused = loop {
            let began = Instant::now();
            match store.check_writable(at(0)).await {
                // Not locked yet.
                Ok(()) => sleep(Duration::from_millis(10)).await,
                Err(error) => break (error.to_string(), began.elapsed()),
            }
            assert!(Instant::now() < deadline, "{table}: it is ready");
        };
        assert!(refused.0.contains("holds a lock"), "{table}: {refused:?}");
        assert!(refused.1 < Duration::from_secs(5), "{table}: {refused:?}");
        held.await.unwrap();
        store.check_writable(at(0)).await.unwrap();
    }
    let left = server::shared().sql(&format!("SELECT count(*) FROM {schema}.message"));
    assert_eq!(left, "0");
}

#[tokio::test]
async fn the_store_is_not_writable_if_no_message_can_be_inserted() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    let schema = schema_of(&place);
    server::shared().sql(&format!(
        "ALTER TABLE {schema}.message ADD CONSTRAINT nothing CHECK (false) NOT VALID"
    ));
    assert!(store.check_writable(at(0)).await.is_err());
    server::shared().sql(&format!(
        "ALTER TABLE {schema}.message DROP CONSTRAINT nothing"
    ));
    store.check_writable(at(0)).await.unwrap();
}

/// In that mode each of our connections occupies a session of the server permanently.
#[tokio::test]
async fn a_pooler_without_a_free_session_is_named_as_the_cause() {
    let pooler = Pooler::start_as(server::shared(), "session", 1);
    let refused = match open(&pooler.schema()).await {
        Err(refused) => refused,
        // One of these gets the only session.
        Ok(store) => loop {
            let at_once = (0..3).map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.check_writable(at(0)).await })
            });
            let mut refused = None;
            for ready in at_once.collect::<Vec<_>>() {
                refused = ready.await.unwrap().err().or(refused);
            }
            if let Some(refused) = refused {
                break refused;
            }
        },
    };
    let said = refused.to_string();
    assert!(
        said.contains("the connection got no session within 5 s"),
        "{said}"
    );
    assert!(said.contains("in transaction mode"), "{said}");
}

/// With too few connections a gateway stores some webhooks and refuses others, many times a second.
#[tokio::test(flavor = "multi_thread")]
async fn too_few_connections_take_few_lines_of_the_log() {
    let server = Server::start_on_loopback(&[]);
    server.sql("CREATE ROLE poor LOGIN; GRANT CREATE ON DATABASE postgres TO poor");
    let folder = tempfile::TempDir::new().unwrap();
    let store = server.url("poor", "poor");
    write_config_on(folder.path(), &store, "http://127.0.0.1:9/", "");
    let serving = Serving::start(folder.path(), &[]);
    server.sql(
        "ALTER ROLE poor CONNECTION LIMIT 1;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'poor'",
    );
    let mut senders = JoinSet::new();
    for sender in 0..4 {
        let url = serving.url.clone();
        senders.spawn(async move {
            let client = client();
            let began = Instant::now();
            let (mut kept, mut refused) = (0, 0);
            for number in 0.. {
                let id = format!("wh_{sender}_{number}");
                let webhook = Webhook::new(&id, openai_webhooks::EventType::BatchCompleted);
                match webhook
                    .request(&client, &url)
                    .send()
                    .await
                    .unwrap()
                    .status()
                    .as_u16()
                {
                    200 => kept += 1,
                    503 => refused += 1,
                    status => panic!("{status}"),
                }
                if began.elapsed() > Duration::from_secs(8) {
                    break;
                }
            }
            (kept, refused)
        });
    }
    let counts = senders.join_all().await;
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    let lines = log.lines().count();
    assert!(lines < 60, "{counts:?}: {lines} lines: {log}");
}

/// All gateways write into the quarantine one after the other.
#[tokio::test]
async fn requests_that_wait_for_the_quarantine_delay_no_claim() {
    let place = PostgresPlace::new();
    let store = place.open().await;
    let table = format!("'{}.quarantine'::regclass::oid", schema_of(&place));
    let locks =
        format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {table}");
    let there_is = async |more: &str| {
        let sql = format!("{locks} {more}");
        until(more, async || server::shared().sql(&sql) != "0").await;
    };
    let taking =
        format!("BEGIN; SELECT pg_advisory_xact_lock({table}::bigint); SELECT pg_sleep(4); COMMIT");
    let held = tokio::task::spawn_blocking(move || server::shared().sql(&taking));
    there_is("AND granted").await;
    let mut waiting = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        waiting.spawn(async move {
            let quarantined = QuarantinedRequest {
                id: 0,
                endpoint: "production".into(),
                received_at: at(0),
                reason: String::new(),
                headers: Vec::new(),
                size: None,
                body: None,
            };
            store.quarantine(quarantined).await
        });
    }
    there_is("AND NOT granted").await;
    claim(&store, 0).await;
    assert!(!held.is_finished(), "the claim waited for the quarantine");
    held.await.unwrap();
    for written in waiting.join_all().await {
        written.unwrap();
    }
}
