//! Stores to be copied, filled with all kinds of content, and their dumps.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;
use unwrapd::delivery::response_excerpt::ResponseExcerpt;
use unwrapd::delivery::{Lane, Next};
use unwrapd::message::{Message, Origin};
use unwrapd::store::filter::Filter;
use unwrapd::store::postgres::PostgresStore;
use unwrapd::store::replay::{AsOf, DropRun, Replay, ReplayRun, ReplayStep};
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{
    Attempt, Bounds, BulkAction, BulkEnd, BulkStart, QuarantinedRequest, Store, TrafficCount,
    TrafficKind,
};

use crate::store_conformance::LEASE;
use crate::support::postgres as server;
use crate::support::process::write_config_on;

/// Every table, with the columns that a copy keeps.
const TABLES: &[(&str, &str)] = &[
    (
        "message",
        "seq, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin",
    ),
    ("payload", "seq, bytes"),
    (
        "delivery",
        "id, destination, lane, state, since, due_at, dropped_at, settled_attempt, uncounted_attempts",
    ),
    (
        "attempt",
        "delivery, number, ended_at, took_ms, summary, excerpt",
    ),
    ("traffic", "minute, kind, name, count"),
    ("paused", "destination, paused_at"),
    (
        "quarantine",
        "id, endpoint, received_at, reason, headers, size, body",
    ),
    (
        "replay",
        "id, token, action, request, started_at, last_message, next_message, messages, deliveries, calls, waiting, gone, began_at, planned, ended_at, ending, reason",
    ),
];

/// A file or a schema for a store.
pub(super) enum Home {
    File(PathBuf),
    Schema(String),
}

impl Home {
    pub(super) fn file(folder: &TempDir, name: &str) -> Self {
        Self::File(folder.path().join(name))
    }

    pub(super) fn schema() -> Self {
        Self::Schema(server::shared().schema().schema().to_owned())
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite:{}", path.display()),
            Self::Schema(schema) => server::shared().url("postgres", schema),
        }
    }

    pub(super) async fn open(&self, bounds: &Bounds) -> Arc<dyn Store> {
        match self {
            Self::File(path) => {
                Arc::new(SqliteStore::open(path, bounds, Timestamp::now()).unwrap())
            }
            Self::Schema(schema) => {
                let address = server::shared().address("postgres", schema);
                Arc::new(PostgresStore::open(&address, bounds).await.unwrap())
            }
        }
    }

    /// Everything that a copy keeps, as text.
    pub(super) fn dump(&self) -> String {
        let mut dump = String::new();
        for (table, columns) in TABLES {
            dump.push_str(table);
            dump.push('\n');
            dump += &match self {
                Self::File(path) => dump_file(path, table, columns),
                Self::Schema(schema) => dump_schema(schema, table, columns),
            };
        }
        dump
    }

    pub(super) fn change(&self, sql: &str) {
        match self {
            Self::File(path) => {
                Connection::open(path).unwrap().execute_batch(sql).unwrap();
            }
            Self::Schema(schema) => {
                server::shared().sql(&format!("SET search_path TO {schema}; {sql}"));
            }
        }
    }

    /// Configures a gateway on it, with one destination.
    pub(super) fn configure(&self, folder: &Path, destination: &str) {
        write_config_on(folder, &self.url(), destination, "");
    }
}

/// Both dumps have the form of PostgreSQL's.
fn dump_file(path: &Path, table: &str, columns: &str) -> String {
    let connection = Connection::open(path).unwrap();
    let mut rows = connection
        .prepare(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2"))
        .unwrap();
    let count = rows.column_count();
    let mut rows = rows.query(()).unwrap();
    let mut dump = String::new();
    while let Some(row) = rows.next().unwrap() {
        let values = (0..count).map(|column| match row.get::<_, Value>(column).unwrap() {
            Value::Null => "NULL".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Real(_) => unreachable!(),
            Value::Text(text) => format!("{:?}", text.replace('\0', "\u{FFFD}")),
            Value::Blob(bytes) => hex(&bytes),
        });
        dump += &values.collect::<Vec<_>>().join("|");
        dump.push('\n');
    }
    dump
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn dump_schema(schema: &str, table: &str, columns: &str) -> String {
    // The payload of a pruned message stays until its partition is emptied, but is not referenced.
    let table = match table {
        "payload" => "message JOIN payload USING (partition, seq)",
        table => table,
    };
    // As JSON, so that no text can look like the end of a line.
    let sql = format!(
        "SET search_path TO {schema};
         SELECT jsonb_build_array({columns}) FROM {table} ORDER BY {}",
        columns
            .split(", ")
            .take(2)
            .map(|column| format!(
                "{column}{}",
                if column == "destination" {
                    " COLLATE \"C\""
                } else {
                    ""
                }
            ))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let mut dump = String::new();
    for line in server::shared().sql(&sql).lines() {
        let values: Vec<serde_json::Value> = serde_json::from_str(line).unwrap();
        let values = values.into_iter().map(|value| match value {
            serde_json::Value::Null => "NULL".to_owned(),
            serde_json::Value::String(text) => match text.strip_prefix("\\x") {
                Some(hex) => hex.to_owned(),
                None => format!("{text:?}"),
            },
            other => other.to_string(),
        });
        dump += &values.collect::<Vec<_>>().join("|");
        dump.push('\n');
    }
    dump
}

/// Reports only the difference: a dump has megabytes.
#[track_caller]
pub(super) fn assert_same(dump: &str, expected: &str, case: &str) {
    let mut lines = dump.lines().zip(expected.lines());
    if let Some((line, other)) = lines.find(|(line, other)| line != other) {
        let short = |line: &str| line.chars().take(300).collect::<String>();
        panic!("{case}: {}\n{}", short(line), short(other));
    }
    assert_eq!(dump.len(), expected.len(), "{case}");
}

fn before(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_millisecond(now.as_millisecond() - seconds * 1000).unwrap()
}

pub(super) fn message(id: String, received_at: Timestamp, payload: Vec<u8>) -> Message {
    Message {
        origin: Origin::OpenAi,
        endpoint: "production".into(),
        webhook_id: id,
        event_type: Some("batch.completed".into()),
        sent_at: before(received_at, 1),
        received_at,
        secret: Some(0),
        payload: payload.into(),
    }
}

pub(super) fn run_of_dead(token: &str, limit: usize) -> ReplayRun {
    ReplayRun {
        replay: Replay {
            filter: serde_json::from_str(r#"{"status": ["dead"]}"#).unwrap(),
            to: None,
        },
        token: token.parse().unwrap(),
        as_of: None,
        limit,
    }
}

/// Fills a store with random content of all kinds.
pub(super) async fn fill(home: &Home, seed: u64, now: Timestamp) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let bounds = Bounds {
        retention: Duration::from_secs(1000),
        ..Bounds::default()
    };
    let store = home.open(&bounds).await;
    // Old, settled messages lose their payload, and those beyond the dedupe horizon are deleted.
    for (round, age) in [(0, 8 * 24 * 3600), (1, 5000), (2, 500)] {
        for number in 0..60 {
            let id = format!("wh_{round}_{number}");
            let bytes: Vec<u8> = (0..dice.usize(0..2000)).map(|_| dice.u8(..)).collect();
            let mut message = message(id, before(now, age), bytes);
            message.endpoint = dice.choice(["production", "staging"]).unwrap().into();
            message.event_type = match dice.u8(0..4) {
                0 => None,
                1 => Some("realtime.call.incoming".into()),
                2 => Some("späť\0".into()),
                _ => message.event_type,
            };
            message.secret = dice.bool().then_some(1);
            if dice.bool() {
                message.origin = Origin::Gateway;
            }
            let wanted = ["app", "audit", "späť \"| '"];
            let destinations = wanted.iter().filter(|_| dice.bool());
            let destinations = destinations.map(|&name| name.into()).collect();
            store.accept(message, destinations).await.unwrap();
        }
        for _ in 0..3 {
            settle_some(&store, &mut dice, before(now, age)).await;
        }
        while store.prune(now).await.unwrap().is_more {}
    }
    let as_of = AsOf {
        at: now,
        newest: i64::MAX,
    };
    let drop_some = DropRun {
        filter: Filter::default(),
        as_of,
        after: None,
        limit: 3,
    };
    store.drop_dead(&drop_some, now).await.unwrap();
    let begun = store.replay(&run_of_dead("begun", 1), now.into()).await;
    assert!(matches!(begun, Ok(ReplayStep::More(_))), "{begun:?}");
    let run = run_of_dead("done", 100);
    while let ReplayStep::More(_) = store.replay(&run, now.into()).await.unwrap() {}
    begin_and_end(&store, as_of, "stopped", &BulkEnd::Stopped).await;
    let failed = BulkEnd::Failed("it \0 broke".into());
    begin_and_end(&store, as_of, "failed", &failed).await;
    settle_some(&store, &mut dice, now).await;
    for (number, body) in [None, Some(vec![]), Some(vec![0, 255, b'\\', b'x'])]
        .into_iter()
        .enumerate()
    {
        let quarantined = QuarantinedRequest {
            id: 0,
            endpoint: "production".into(),
            received_at: now,
            reason: format!("the signature {number} is\0not right"),
            headers: vec![("webhook-id".into(), "a \"quoted\" \\ one".into())],
            size: body.as_ref().map(|body| body.len() as u64),
            body: body.map(Bytes::from),
        };
        store.quarantine(quarantined).await.unwrap();
    }
    store.delete_quarantined(1..=1).await.unwrap();
    let counts = (0..100).map(|number| TrafficCount {
        minute: before(now, number * 60),
        kind: dice.choice(TrafficKind::ALL).unwrap(),
        name: dice
            .choice(["app", "production", "späť \"| '"])
            .unwrap()
            .into(),
        count: dice.u64(1..1_000_000),
    });
    store.add_traffic(counts.collect()).await.unwrap();
    store.pause("späť \"| '", now).await.unwrap();
    store.pause("App", now).await.unwrap();
    store.pause("app", now).await.unwrap();
    // Leased when the store is copied.
    store
        .claim("audit", Lane::Standard, now, LEASE, 5)
        .await
        .unwrap();
    store.close().await;
}

async fn begin_and_end(store: &Arc<dyn Store>, as_of: AsOf, token: &str, end: &BulkEnd) {
    let start = BulkStart {
        token: token.parse().unwrap(),
        action: BulkAction::Drop,
        request: Replay::default(),
        as_of,
        planned: Some(7),
    };
    store.begin_bulk_run(&start, as_of.at).await.unwrap();
    let ended = store.end_bulk_run(&start.token, end, as_of.at).await;
    assert!(ended.unwrap().is_some());
}

async fn settle_some(store: &Arc<dyn Store>, dice: &mut fastrand::Rng, at: Timestamp) {
    for destination in ["app", "audit", "späť \"| '"] {
        for lane in Lane::ALL {
            let claimed = store
                .claim(destination, lane, at, Duration::ZERO, 100)
                .await
                .unwrap();
            for delivery in claimed.deliveries {
                let next = match dice.u8(0..5) {
                    0 => continue,
                    1 => Next::Dead,
                    2 => Next::Retry { due_at: at },
                    _ => Next::Delivered,
                };
                let attempt = Attempt {
                    delivery: delivery.id,
                    number: delivery.attempt,
                    ended_at: at,
                    took: Duration::from_millis(dice.u64(0..10_000)),
                    answer: "HTTP 500 \0 \u{1F980}\n|".into(),
                    said: if dice.bool() {
                        ResponseExcerpt::default()
                    } else {
                        ResponseExcerpt::beginning(b"a|b\nc\0")
                    },
                    next,
                };
                store.settle(attempt).await.unwrap();
            }
        }
    }
}
