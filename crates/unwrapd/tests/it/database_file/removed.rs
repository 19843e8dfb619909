//! Files of a running gateway that are removed, replaced or moved.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use openai_webhooks::EventType;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Place, elsewhere};
use crate::support::process::{Serving, write_config_on};
use crate::support::{Webhook, client};

/// After `hand` has changed the files, nothing is acknowledged, the process ends, and an operator who
/// follows the log can `mend` them: everything that was acknowledged before is restored.
async fn ends_and_is_saved(what: &str, hand: impl Fn(&Place), mend: impl Fn(&Place)) {
    let (place, mut serving) = Place::in_use().await;
    hand(&place);
    let answer = place.post(&serving, "after").await;
    assert_ne!(answer, Some(200), "{what}");
    let status = serving.died(what);
    assert_eq!(status.code(), Some(1), "{what}");

    mend(&place);
    place.starts_again_whole(what).await;
}

/// The saved file beside the others.
fn saved(place: &Place, is_log: bool) -> PathBuf {
    let mut found = fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(".saved-"))
        .filter(|path| path.to_str().unwrap().ends_with("-wal") == is_log);
    let one = found.next().expect("it is saved");
    assert_eq!(found.next(), None);
    let mode = one.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    one
}

/// Removes the database, or the file beside it.
fn remove(suffix: &str) -> impl Fn(&Place) {
    move |place| fs::remove_file(place.file(suffix)).unwrap()
}

fn give_back_the_saved_store(place: &Place) {
    for suffix in ["", "-wal", "-shm"] {
        drop(fs::remove_file(place.file(suffix)));
    }
    fs::rename(saved(place, true), place.file("-wal")).unwrap();
    fs::rename(saved(place, false), place.file("")).unwrap();
}

#[tokio::test]
async fn a_database_that_is_removed_ends_the_gateway_and_is_saved() {
    ends_and_is_saved("removed", remove(""), give_back_the_saved_store).await;
}

#[tokio::test]
async fn a_store_that_is_removed_as_a_whole_ends_the_gateway_and_is_saved() {
    ends_and_is_saved(
        "all removed",
        |place| {
            for suffix in ["", "-wal", "-shm"] {
                fs::remove_file(place.file(suffix)).unwrap();
            }
        },
        give_back_the_saved_store,
    )
    .await;
}

/// `rm -r` of the folder: only the open files of the process are left.
#[tokio::test]
async fn a_store_that_is_removed_with_its_folder_is_saved() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let store = format!("sqlite:{}", data.join("unwrapd.db").display());
    write_config_on(folder.path(), &store, "http://127.0.0.1:9/", "");
    let mut serving = Serving::start(folder.path(), &[]);
    let client = client();
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let answer = webhook.request(&client, &serving.url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(serving.died("the folder is gone").code(), Some(1));

    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let suffix = if name.ends_with("-wal") { "-wal" } else { "" };
        fs::rename(&path, data.join(format!("unwrapd.db{suffix}"))).unwrap();
    }
    let connection = Connection::open(data.join("unwrapd.db")).unwrap();
    let kept: u32 = connection
        .query_row("SELECT count(*) FROM message", (), |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_database_that_is_replaced_ends_the_gateway_and_is_saved() {
    ends_and_is_saved(
        "replaced",
        |place| {
            fs::write(elsewhere(place), "a restored backup, perhaps").unwrap();
            fs::rename(elsewhere(place), place.file("")).unwrap();
        },
        |place| {
            let text = fs::read_to_string(place.file("")).unwrap();
            assert_eq!(text, "a restored backup, perhaps", "it is left alone");
            give_back_the_saved_store(place);
        },
    )
    .await;
}

#[tokio::test]
async fn a_database_that_is_moved_away_ends_the_gateway_and_is_whole_when_it_is_back() {
    ends_and_is_saved(
        "moved",
        |place| fs::rename(place.file(""), elsewhere(place)).unwrap(),
        |place| fs::rename(elsewhere(place), place.file("")).unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_log_that_is_removed_ends_the_gateway_and_is_put_back() {
    ends_and_is_saved("log removed", remove("-wal"), |_| {}).await;
}

#[tokio::test]
async fn a_log_that_is_replaced_ends_the_gateway_and_is_saved() {
    ends_and_is_saved(
        "log replaced",
        |place| {
            fs::write(elsewhere(place), "another log").unwrap();
            fs::rename(elsewhere(place), place.file("-wal")).unwrap();
        },
        |place| {
            assert_eq!(
                fs::read_to_string(place.file("-wal")).unwrap(),
                "another log"
            );
            fs::remove_file(place.file("-shm")).unwrap();
            let found = fs::read_dir(place.folder.path()).unwrap();
            let saved = found
                .map(|entry| entry.unwrap().path())
                .find(|path| path.to_str().unwrap().contains("-wal.saved-"));
            fs::rename(saved.unwrap(), place.file("-wal")).unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn an_index_that_is_removed_ends_the_gateway_and_the_next_start_rebuilds_it() {
    ends_and_is_saved("index removed", remove("-shm"), |_| {}).await;
}
