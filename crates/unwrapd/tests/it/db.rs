//! `unwrapd db`: the store is checked, copied and shrunk, with and without a running gateway.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use openai_webhooks::EventType;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use unwrapd::delivery::Next;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Accepted, Bounds, Inbox as _};

use crate::sqlite_store::accept_many;
use crate::store_conformance::{
    Place as _, PostgresPlace, SqlitePlace, accept, at, claim, message, settle_each,
};
use crate::support::postgres as server;
use crate::support::process::{Serving, assert_told, told, unwrapd, write_config};
use crate::support::tally::{Counted as _, Tally};
use crate::support::{Webhook, client};

fn db(arguments: &[&str]) -> Output {
    unwrapd().arg("db").args(arguments).output().unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(output)))
}

/// A closed store with a message in every state, and enough old messages to fill a block of ids.
async fn a_store() -> (SqlitePlace, PathBuf) {
    let place = SqlitePlace::new();
    let store = place.open();
    accept_many(&store, 5_000).await;
    for id in ["wh_delivered", "wh_dead", "wh_retried", "wh_waiting"] {
        accept(&store, id, 0).await;
    }
    let claimed = claim(&store, 0).await;
    settle_each(
        &store,
        &claimed,
        [Next::Delivered, Next::Dead, Next::Retry { due_at: at(9) }],
    )
    .await;
    store.close().await;
    let path = place.0.path().join("store.db");
    (place, path)
}

fn change(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    assert!(connection.execute(sql, ()).unwrap() > 0, "{sql}");
}

/// People stop a gateway and move its file to another machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_stopped_leaves_everything_in_one_file() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), "http://127.0.0.1:9/");
    let serving = Serving::start(folder.path(), &[]);
    serving.receive("wh_1", EventType::BatchCompleted).await;
    // Readers are open too.
    let admin = serving.admin.clone();
    let listed = unwrapd()
        .args(["events", "ls", "--admin", &admin])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", told(&listed));
    assert!(serving.terminate().0.success());

    let moved = folder.path().join("moved.db");
    std::fs::copy(folder.path().join("unwrapd.db"), &moved).unwrap();
    let check = db(&["check", moved.to_str().unwrap()]);
    assert!(check.status.success(), "{}", told(&check));
    assert_told(&check, "1 stored");
    assert!(!folder.path().join("unwrapd.db-wal").exists());
}

#[tokio::test]
async fn a_check_passes_a_sound_store_and_names_each_kind_of_damage() {
    let (_place, path) = a_store().await;
    // At present; otherwise its ids may be missing.
    change(&path, "UPDATE message SET received_at = unixepoch() * 1000");
    let file = path.to_str().unwrap();
    let sound = db(&["check", file]);
    assert!(sound.status.success(), "{}", told(&sound));
    assert!(told(&sound).ends_with("\nsound\n"), "{}", told(&sound));
    assert_told(&sound, "5004 stored");
    assert!(db(&["check", "--quick", file]).status.success());

    for (sql, check, complaint) in [
        (
            "DELETE FROM message WHERE webhook_id = 'wh_waiting'",
            "deliveries",
            "belong to no message",
        ),
        (
            "DELETE FROM payload WHERE seq = (SELECT max(seq) FROM message)",
            "deliveries",
            "wait for a payload that is missing",
        ),
        (
            "DELETE FROM delivery WHERE state = 'dead'",
            "deliveries",
            "are missing, but have attempts",
        ),
        (
            "UPDATE message SET webhook_id = 'wh_1' WHERE webhook_id = 'wh_2'",
            "messages",
            "are stored twice",
        ),
        (
            "UPDATE message SET webhook_id = 'wh_other' WHERE webhook_id = 'wh_2'",
            "ids",
            "1 messages are not in the dedupe set",
        ),
        (
            "UPDATE dedupe_block SET first_seq = first_seq + 10",
            "ids",
            "messages are not in the dedupe set",
        ),
    ] {
        let broken = path.with_file_name("broken.db");
        std::fs::copy(&path, &broken).unwrap();
        change(&broken, sql);
        let unsound = db(&["check", broken.to_str().unwrap(), "--output", "json"]);
        assert_eq!(unsound.status.code(), Some(1), "{sql}: {}", told(&unsound));
        let report = json_of(&unsound);
        assert_eq!(report["sound"], json!(false), "{sql}");
        let failed = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["name"] == check)
            .unwrap();
        assert_eq!(failed["ok"], json!(false), "{sql}: {report}");
        let detail = failed["detail"].as_str().unwrap();
        assert!(detail.contains(complaint), "{sql}: {detail}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_unsound_and_a_missing_store_is_not_found() {
    let (place, path) = a_store().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xA5);
    let damaged = place.0.path().join("damaged.db");
    std::fs::write(&damaged, &bytes).unwrap();
    let unsound = db(&["check", damaged.to_str().unwrap()]);
    assert_eq!(unsound.status.code(), Some(1), "{}", told(&unsound));
    assert_told(&unsound, "FAILED");
    assert_told(&unsound, "restore a backup");

    let nothing = place.0.path().join("nothing.db");
    for command in [
        ["check", nothing.to_str().unwrap()],
        ["prune", nothing.to_str().unwrap()],
    ] {
        let missing = db(&command);
        assert_eq!(missing.status.code(), Some(3), "{}", told(&missing));
    }
    assert!(!nothing.exists(), "none was made");
    std::fs::write(&nothing, "").unwrap();
    let empty = db(&["check", nothing.to_str().unwrap()]);
    assert_eq!(empty.status.code(), Some(1), "{}", told(&empty));
    assert_told(&empty, "the file is empty");
    let unconfigured = db(&["check", "--config", "/no/such.toml"]);
    assert_eq!(unconfigured.status.code(), Some(2));
}

#[tokio::test]
async fn a_store_where_nothing_can_be_written_is_checked_and_copied() {
    let (place, path) = a_store().await;
    let folder = place.0.path().join("a b%?#");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("store.db");
    std::fs::copy(&path, &file).unwrap();
    let set_mode = |mode| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o500);
    let checked = db(&["check", file.to_str().unwrap()]);
    let copy = place.0.path().join("copy of a 50%?#.db");
    let copied = db(&[
        "backup",
        copy.to_str().unwrap(),
        "--store",
        file.to_str().unwrap(),
    ]);
    set_mode(0o700);
    assert!(checked.status.success(), "{}", told(&checked));
    assert!(copied.status.success(), "{}", told(&copied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_running_gateway_is_whole_and_works() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), "http://127.0.0.1:9/");
    let serving = Serving::start(folder.path(), &[]);
    let client = client();
    let send = async |ids: std::ops::Range<u32>| {
        for number in ids {
            let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
            let answer = webhook.request(&client, &serving.url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    };
    send(0..100).await;
    let config = folder.path().join("unwrapd.toml");
    let config = config.to_str().unwrap();
    let backup = folder.path().join("backup.db");
    let to = backup.to_str().unwrap().to_owned();
    // While it continues to receive.
    let (copied, ()) = tokio::join!(
        tokio::task::spawn_blocking({
            let (config, to) = (config.to_owned(), to.clone());
            move || db(&["backup", &to, "--config", &config, "--output", "json"])
        }),
        send(100..300)
    );
    let copied = copied.unwrap();
    assert!(copied.status.success(), "{}", told(&copied));
    let messages = json_of(&copied)["messages"].as_u64().unwrap();
    assert!((100..=300).contains(&messages), "{messages}");

    let mode = std::fs::metadata(&backup).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("backup"))
        .collect();
    assert_eq!(left, ["backup.db"], "nothing beside it");

    // Also beside the gateway.
    let checked = db(&["check", "--config", config]);
    assert!(checked.status.success(), "{}", told(&checked));
    let would = db(&["prune", "--dry-run", "--config", config]);
    assert!(would.status.success(), "{}", told(&would));
    let refused = db(&["prune", "--config", config]);
    assert_eq!(refused.status.code(), Some(5), "{}", told(&refused));
    assert_told(&refused, "stop the gateway first");
    drop(serving);

    assert!(db(&["check", &to]).status.success());
    let restored = SqliteStore::open(&backup, &Bounds::default(), jiff::Timestamp::now()).unwrap();
    assert_eq!(restored.tally().await.messages, messages);
    let copy = message("wh_0", jiff::Timestamp::now());
    assert_eq!(restored.accept(copy, vec![]).await, Ok(Accepted::Duplicate));
}

#[tokio::test]
async fn a_backup_replaces_nothing_unless_told_to_and_never_the_store() {
    let (place, path) = a_store().await;
    let store = path.to_str().unwrap();
    let to = place.0.path().join("backup.db");
    let backup = |to: &Path, more: &[&str]| {
        let mut arguments = vec!["backup", to.to_str().unwrap(), "--store", store];
        arguments.extend(more);
        db(&arguments)
    };
    assert!(backup(&to, &[]).status.success());
    let again = backup(&to, &[]);
    assert_eq!(again.status.code(), Some(2), "{}", told(&again));
    assert_told(&again, "--force");
    assert!(backup(&to, &["--force"]).status.success());

    let itself = place.0.path().join("link.db");
    std::os::unix::fs::symlink(&path, &itself).unwrap();
    for to in [&path, &itself] {
        let refused = backup(to, &["--force"]);
        assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
        assert_told(&refused, "the store itself");
    }

    // The log of another database would be taken for the backup's.
    let used = place.0.path().join("used.db");
    std::fs::write(place.0.path().join("used.db-wal"), "").unwrap();
    assert_eq!(backup(&used, &[]).status.code(), Some(2));
    assert!(!used.exists());

    let nowhere = backup(Path::new("/no/such/folder/backup.db"), &[]);
    assert_eq!(nowhere.status.code(), Some(1), "{}", told(&nowhere));
    assert_told(&nowhere, "the folder /no/such/folder does not exist");
}

#[tokio::test]
async fn old_messages_are_pruned_by_hand_and_the_file_shrinks() {
    let (place, path) = a_store().await;
    let file = path.to_str().unwrap();
    let size = || std::fs::metadata(&path).unwrap().len();
    // Retention is a setting of the gateway, so the command does not guess it.
    let guessed = db(&["prune", file]);
    assert_eq!(guessed.status.code(), Some(2), "{}", told(&guessed));
    assert_told(&guessed, "--config");
    let config = place.0.path().join("unwrapd.toml");
    let prune = |days: u32, more: &[&str]| {
        let text = format!("[store]\nurl = \"sqlite:another.db\"\nretention_days = {days}\n");
        std::fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap();
        db(&[
            &["prune", file, "--config", config, "--output", "json"][..],
            // No gateway has used it for more than a year.
            &["--trust-clock"][..],
            more,
        ]
        .concat())
    };
    for kept in [prune(30, &["--older-than", "20000"]), prune(3650, &[])] {
        assert_eq!(json_of(&kept), json!({ "messages": 0 }));
    }
    let would = prune(30, &["--dry-run"]);
    assert_eq!(
        json_of(&would),
        json!({ "messages": 5_002, "payload_bytes": 5_002 * 8 })
    );
    let before = size();
    let pruned = prune(30, &["--vacuum", "--yes"]);
    let report = json_of(&pruned);
    assert_eq!(report["messages"], json!(5_002), "{}", told(&pruned));
    assert_eq!(report["bytes_after"], json!(size()));
    assert!(size() < before / 2, "{before} to {}", size());

    assert!(db(&["check", file]).status.success());
    let store = place.open();
    let tally = Tally {
        messages: 2,
        pending: 2,
        ..Tally::default()
    };
    assert_eq!(store.tally().await, tally);
    assert_eq!(claim(&store, 9).await.deliveries.len(), 2);
}

#[test]
fn a_store_in_postgresql_is_left_to_its_own_tools() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("unwrapd.toml");
    // The password of a database that is not opened is not needed.
    let text = "[store]\nurl = \"postgres://me@db/events\"\npassword = { env = \"NO_SUCH\" }\n";
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    for command in [&["backup", "copy.db"][..], &["prune"]] {
        let refused = db(&[command, &["--config", config]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
        assert_told(&refused, "pg_dump");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(feature = "server-tests"),
    ignore = "needs PostgreSQL: run scripts/test"
)]
async fn a_check_passes_a_sound_store_in_postgresql_and_names_each_kind_of_damage() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("unwrapd.toml");
    let server = server::shared();
    let check = |schema: &str| {
        let url = server.url("postgres", schema);
        std::fs::write(&config, format!("[store]\nurl = \"{url}\"\n")).unwrap();
        let config = config.to_str().unwrap();
        db(&["check", "--config", config, "--output", "json"])
    };
    for (sql, name, complaint) in [
        ("SELECT 1", "", ""),
        (
            "TRUNCATE payload_0",
            "messages",
            "3 have lost their payload",
        ),
        (
            "UPDATE current_partition SET partition = 1",
            "messages",
            "3 have their payload in a partition that will be filled again",
        ),
        (
            "DELETE FROM message WHERE webhook_id = 'wh_waiting'",
            "deliveries",
            "1 belong to no message",
        ),
        (
            "UPDATE message SET partition = NULL WHERE webhook_id = 'wh_waiting'",
            "deliveries",
            "1 wait for a payload that is missing",
        ),
        (
            "UPDATE delivery SET state = 'lost' WHERE state = 'dead'",
            "deliveries",
            "1 have an unknown state or lane",
        ),
        (
            "UPDATE delivery SET ready_at = due_at - 1 WHERE state = 'waiting'",
            "deliveries",
            "1 may be claimed before they are due",
        ),
        (
            "DELETE FROM delivery WHERE state = 'dead'",
            "deliveries",
            "1 are missing, but have attempts",
        ),
    ] {
        let place = PostgresPlace::new();
        let schema = place.0.schema();
        assert_eq!(
            check(schema).status.code(),
            Some(3),
            "none is there, and none is made"
        );
        let store = place.open().await;
        for id in ["wh_delivered", "wh_dead", "wh_waiting"] {
            accept(&store, id, 0).await;
        }
        let claimed = claim(&store, 0).await;
        settle_each(&store, &claimed, [Next::Delivered, Next::Dead]).await;
        // Beside the gateway.
        server.sql(&format!("SET search_path TO {schema}; {sql}"));
        let checked = check(schema);
        let report = json_of(&checked);
        assert_eq!(report["sound"], json!(name.is_empty()), "{report}");
        assert_eq!(checked.status.success(), name.is_empty(), "{report}");
        for found in report["checks"].as_array().unwrap() {
            let is_wrong = found["name"] == name;
            assert_eq!(found["ok"], json!(!is_wrong), "{sql}: {report}");
            let detail = found["detail"].as_str().unwrap();
            assert!(!is_wrong || detail == complaint, "{sql}: {detail}");
        }
        store.close().await;
        if name.is_empty() {
            let named = db(&["check", &server.url("postgres", schema)]);
            assert!(named.status.success(), "{}", told(&named));
            let absent = db(&["check", &server.url("postgres", "nothing_is_here")]);
            assert_eq!(absent.status.code(), Some(3), "{}", told(&absent));
        }
    }
    let refused = db(&["check", "postgres://me:hunter2@db/events"]);
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    assert!(!told(&refused).contains("hunter2"), "{}", told(&refused));
}
