//! A store of an earlier version is migrated, or stays unchanged.
//!
//! `fixtures/schema-NNNN.sql` holds a store of each schema as text: the same messages, in every
//! possible state. `UNWRAPD_WRITE_FIXTURE=1 cargo test -p unwrapd --test it
//! the_present_schema_has_a_fixture` writes the fixture of the present schema. A fixture of a
//! released schema is never changed.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;
use unwrapd::delivery::{Lane, Next};
use unwrapd::message::Message;
use unwrapd::store::sqlite::check;
use unwrapd::store::{Accepted, Bounds};

use crate::store_conformance::{LEASE, SqlitePlace, at, claim, message, settle};
use crate::support::application::Application;
use crate::support::tally::{Counted as _, Tally};
use crate::support::{TestGateway, destination};

/// Each message in the fixtures: its endpoint, its id, its destinations.
const MESSAGES: [(&str, &str, &[&str]); 10] = [
    ("production", "wh_delivered", &["app"]),
    ("production", "wh_dead", &["app"]),
    ("production", "wh_retried", &["app"]),
    ("production", "wh_leased", &["app"]),
    ("production", "wh_waiting", &["app"]),
    ("production", "wh_unwanted", &[]),
    ("production", "wh_no_event", &["app"]),
    ("production", "wh_unicode", &["app", "audit"]),
    ("production", "wh_call", &["app"]),
    ("staging", "wh_waiting", &["audit"]),
];

/// The content of each message on arrival.
fn kept(endpoint: &str, id: &str) -> Message {
    let mut message = message(id, at(0));
    message.endpoint = endpoint.into();
    match id {
        "wh_no_event" => {
            message.event_type = None;
            message.payload = Bytes::new();
        }
        "wh_unicode" => message.payload = Bytes::from(r#"{"ключ":"值🙂"}"#),
        "wh_call" => message.event_type = Some("realtime.call.incoming".into()),
        _ => {}
    }
    message
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures")
}

fn fixture_of(version: u32) -> PathBuf {
    fixtures().join(format!("schema-{version:04}.sql"))
}

/// A store for each fixture, with its version.
fn each_earlier_store() -> Vec<(u32, SqlitePlace)> {
    let mut versions: Vec<u32> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| {
            let number = name
                .strip_prefix("schema-")
                .and_then(|name| name.strip_suffix(".sql"));
            number.unwrap().parse().unwrap()
        })
        .collect();
    versions.sort_unstable();
    assert_eq!(versions[0], 1);
    versions
        .into_iter()
        .map(|version| {
            let place = SqlitePlace::new();
            write_store(version, &place.0.path().join("store.db"));
            (version, place)
        })
        .collect()
}

fn write_store(version: u32, path: &Path) {
    let connection = Connection::open(path).unwrap();
    // As every version of unwrapd does.
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    let text = std::fs::read_to_string(fixture_of(version)).unwrap();
    connection.execute_batch(&text).unwrap();
}

fn version_of(path: &Path) -> u32 {
    let connection = Connection::open(path).unwrap();
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

/// The definitions of the schema, in any order.
fn schema_of(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type, name")
        .unwrap();
    let created = statement.query_map((), |row| row.get(0)).unwrap();
    created.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_database_of_each_earlier_schema_opens_and_delivers() {
    let fresh = SqlitePlace::new();
    drop(fresh.open());
    let present = schema_of(&fresh.0.path().join("store.db"));
    for (version, place) in each_earlier_store() {
        let store = place.open();
        let tally = Tally {
            messages: 10,
            pending: 8,
            delivered: 1,
            dead: 1,
        };
        assert_eq!(store.tally().await, tally, "{version}");
        for (endpoint, id, _) in MESSAGES {
            let copy = store.accept(kept(endpoint, id), vec![]).await;
            assert_eq!(copy, Ok(Accepted::Duplicate), "{version}: {endpoint} {id}");
        }

        let mut delivered = Vec::new();
        for (destination, lane) in [
            ("app", Lane::Standard),
            ("app", Lane::Call),
            ("audit", Lane::Standard),
        ] {
            let claimed = store.claim(destination, lane, at(100), LEASE, 100).await;
            for delivery in claimed.unwrap().deliveries {
                let id = delivery.message.webhook_id.as_str();
                let mut expected = kept(&delivery.message.endpoint, id);
                // The secret that verified it was not always recorded.
                expected.secret = delivery.message.secret;
                assert_eq!(delivery.message, expected, "{version}");
                assert_eq!(delivery.since, at(0), "{version}");
                if id == "wh_retried" {
                    assert_eq!(delivery.attempt, 2, "{version}");
                }
                let settled = settle(&store, delivery.id, delivery.attempt, Next::Delivered);
                assert_eq!(
                    settled.await,
                    unwrapd::store::Settled::Settled,
                    "{version}: {id}"
                );
                delivered.push(format!("{id} to {destination}"));
            }
        }
        delivered.sort();
        let mut expected: Vec<String> = MESSAGES
            .iter()
            .filter(|(_, id, _)| !matches!(*id, "wh_delivered" | "wh_dead"))
            .flat_map(|(_, id, wanted)| wanted.iter().map(move |name| format!("{id} to {name}")))
            .collect();
        expected.sort();
        assert_eq!(delivered, expected, "{version}");
        store.close().await;

        let path = place.0.path().join("store.db");
        assert_eq!(schema_of(&path), present, "{version}");
        for found in check(&path, Bounds::default().dedupe, false, at(0)).unwrap() {
            assert!(found.result.is_ok(), "{version}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_gateway_delivers_messages_that_an_earlier_version_stored() {
    for (version, _) in each_earlier_store() {
        let folder = TempDir::new().unwrap();
        write_store(version, &folder.path().join("unwrapd.db"));
        let mut app = Application::start([]).await;
        let test = TestGateway::start_in(folder, vec![destination("app", &app.url)]).await;
        let mut left = vec![
            "wh_leased",
            "wh_no_event",
            "wh_retried",
            "wh_unicode",
            "wh_waiting",
        ];
        while !left.is_empty() {
            let delivery = app.next().await;
            let id = delivery.webhook_id();
            assert_eq!(delivery.payload, kept("production", id).payload, "{id}");
            assert!(delivery.verified().is_ok());
            left.retain(|waiting| *waiting != id);
        }
        test.stop().await;
        assert!(!app.has_more(), "a call that is long over does not ring");
    }
}

#[tokio::test]
async fn the_present_schema_has_a_fixture() {
    let place = SqlitePlace::new();
    let path = place.0.path().join("store.db");
    let store = place.open();
    for (endpoint, id, wanted) in &MESSAGES[..4] {
        let wanted = wanted.iter().map(|&name| name.into()).collect();
        store.accept(kept(endpoint, id), wanted).await.unwrap();
    }
    for delivery in claim(&store, 0).await.deliveries {
        let next = match delivery.message.webhook_id.as_str() {
            "wh_delivered" => Next::Delivered,
            "wh_dead" => Next::Dead,
            "wh_retried" => Next::Retry { due_at: at(9) },
            _ => continue,
        };
        settle(&store, delivery.id, 1, next).await;
    }
    for (endpoint, id, wanted) in &MESSAGES[4..] {
        let wanted = wanted.iter().map(|&name| name.into()).collect();
        store.accept(kept(endpoint, id), wanted).await.unwrap();
    }
    store.close().await;

    let version = version_of(&path);
    let file = fixture_of(version);
    if std::env::var_os("UNWRAPD_WRITE_FIXTURE").is_some() {
        std::fs::write(&file, dump(&path)).unwrap();
    }
    let how = "write it with UNWRAPD_WRITE_FIXTURE=1, or, if it was released, leave the schema and add a migration";
    assert!(file.exists(), "{} is missing: {how}", file.display());
    let place = SqlitePlace::new();
    let then = place.0.path().join("store.db");
    write_store(version, &then);
    assert_eq!(
        schema_of(&then),
        schema_of(&path),
        "schema {version} is not what {} holds: {how}",
        file.display()
    );
}

/// The whole database as SQL.
fn dump(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map((), |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let mut lines = Vec::new();
    for mark in ["application_id", "user_version"] {
        let value: i64 = connection
            .pragma_query_value(None, mark, |row| row.get(0))
            .unwrap();
        lines.push(format!("PRAGMA {mark} = {value};"));
    }
    lines.extend(
        texts("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"),
    );
    for table in texts(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid",
    ) {
        let columns = texts(&format!(
            "SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"
        ));
        let columns = columns.join(" || ', ' || ");
        lines.extend(texts(&format!(
            "SELECT 'INSERT INTO {table} VALUES (' || {columns} || ');' FROM {table}"
        )));
    }
    lines.join("\n") + "\n"
}

/// The migration of a later version (`UNWRAPD_NEXT_MIGRATION`), which these tests interrupt.
#[cfg(feature = "crash-points")]
mod interrupted {
    use unwrapd::store::Lifecycle as _;
    use unwrapd::store::sqlite::SqliteStore;

    use super::*;
    use crate::support::process::{Serving, unwrapd, write_config};
    use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE};

    const NEXT_SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/next_schema.sql");

    /// A store of the present schema, too large for a migration in memory.
    fn present_store() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("unwrapd.db");
        write_store(1, &path);
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "WITH RECURSIVE series (value) AS (SELECT 101 UNION ALL SELECT value + 1 FROM series LIMIT 1000)
                 INSERT INTO payload SELECT value, zeroblob(4000) FROM series;
                 INSERT INTO message (seq, endpoint, webhook_id, sent_at, received_at)
                 SELECT seq, 'production', 'wh_' || seq, 0, 0 FROM payload WHERE seq > 100;",
            )
            .unwrap();
        (folder, path)
    }

    /// The output of a gateway of the later version that fails to start on the store.
    async fn serve_the_next_version(
        folder: &Path,
        shell: &str,
        environment: &[(&str, &str)],
    ) -> String {
        write_config(folder, "http://127.0.0.1:9/");
        let ended = tokio::process::Command::new("sh")
            .args(["-c", &format!("{shell} exec \"$0\" serve --config \"$1\"")])
            .arg(unwrapd().get_program())
            .arg(folder.join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .env("APP_WEBHOOK_SECRET", APP_SECRET)
            .env("UNWRAPD_NEXT_MIGRATION", NEXT_SCHEMA)
            .env_remove("UNWRAPD_LOG")
            .envs(environment.iter().copied())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(PATIENCE, ended)
            .await
            .unwrap()
            .unwrap();
        assert!(!ended.status.success());
        String::from_utf8(ended.stderr).unwrap()
    }

    /// Checks that the store has the present schema and is intact.
    async fn is_as_before(path: &Path) {
        assert_eq!(version_of(path), 1);
        for found in check(path, Bounds::default().dedupe, false, at(0)).unwrap() {
            assert!(found.result.is_ok(), "{found:?}");
        }
        let store = SqliteStore::open(path, &Bounds::default(), at(0)).unwrap();
        let tally = store.tally().await;
        assert_eq!((tally.messages, tally.pending), (1010, 8));
        store.close().await;
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_store_as_it_was() {
        let (folder, path) = present_store();
        // Blocks the last statement of the migration.
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE of_the_next_version (x)")
            .unwrap();
        drop(connection);
        let before = dump(&path);
        let complaint = serve_the_next_version(folder.path(), "", &[]).await;
        assert!(complaint.contains("from schema 1 to 2"), "{complaint}");
        assert!(complaint.contains("is unchanged"), "{complaint}");
        assert_eq!(dump(&path), before);
        is_as_before(&path).await;
    }

    #[tokio::test]
    async fn a_disk_that_is_full_in_the_middle_of_a_migration_leaves_the_store_as_it_was() {
        let (folder, path) = present_store();
        // No file may exceed 5 MiB, which is too little for the log of the migration.
        let limited = "trap '' XFSZ; ulimit -f 10000;";
        let complaint = serve_the_next_version(folder.path(), limited, &[]).await;
        assert!(complaint.contains("from schema 1 to 2"), "{complaint}");
        assert!(complaint.contains("is unchanged"), "{complaint}");
        is_as_before(&path).await;
    }

    #[tokio::test]
    async fn a_kill_in_the_middle_of_a_migration_leaves_the_store_as_it_was() {
        let (folder, path) = present_store();
        let killed = [("UNWRAPD_CRASH_AT", "migrated")];
        let complaint = serve_the_next_version(folder.path(), "", &killed).await;
        assert!(
            complaint.contains("migrating the store from schema 1"),
            "{complaint}"
        );
        is_as_before(&path).await;
    }

    #[tokio::test]
    async fn the_next_version_migrates_the_store_and_the_present_one_then_refuses_it() {
        let (folder, path) = present_store();
        write_config(folder.path(), "http://127.0.0.1:9/");
        let next = [("UNWRAPD_NEXT_MIGRATION", NEXT_SCHEMA)];
        let (ended, said) = Serving::start(folder.path(), &next).terminate();
        assert!(ended.success(), "{said}");
        assert!(said.contains("the store was migrated"), "{said}");
        assert_eq!(version_of(&path), 2);
        let refused = SqliteStore::open(&path, &Bounds::default(), at(0)).unwrap_err();
        assert!(refused.to_string().contains("newer version"), "{refused}");
    }
}
