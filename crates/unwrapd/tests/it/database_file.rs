//! A hand on the files of the SQLite store: second names, removal, replacement, cuts, and readers that stay.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openai_webhooks::EventType;
use rusqlite::Connection;
use tempfile::TempDir;
use unwrapd::clock::Clock;
use unwrapd::message::Message;
use unwrapd::observe::warnings::Warnings;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Accepted, Bounds, Store, StoreError};

use crate::store_conformance::{at, message, open};
use crate::support::process::{Serving, unwrapd, write_config, write_config_on};
use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE, Webhook, client};

/// Webhooks that are acknowledged before the hand.
const SOME: usize = 20;
const MIB: usize = 1024 * 1024;

struct Place {
    folder: TempDir,
    client: reqwest::Client,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        // Nobody listens there: everything waits.
        write_config(folder.path(), "http://127.0.0.1:9/");
        Self {
            folder,
            client: client(),
        }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("unwrapd.db{suffix}"))
    }

    fn start(&self) -> Serving {
        Serving::start(self.folder.path(), &[])
    }

    /// `None`: there was no answer.
    async fn post(&self, serving: &Serving, id: &str) -> Option<u16> {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        let answer = webhook.request(&self.client, &serving.url).send().await;
        Some(answer.ok()?.status().as_u16())
    }

    async fn post_some(&self, serving: &Serving) {
        for number in 0..SOME {
            let status = self.post(serving, &format!("wh_{number}")).await;
            assert_eq!(status, Some(200));
        }
    }

    async fn readyz(&self, serving: &Serving) -> (u16, String) {
        let answer = self.client.get(&serving.admin).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// How many of the first webhooks are kept, as a start finds them.
    fn kept(&self) -> usize {
        let connection = Connection::open(self.file("")).unwrap();
        connection
            .query_row(
                "SELECT count(*) FROM message WHERE webhook_id GLOB 'wh_[0-9]*'",
                (),
                |row| row.get(0),
            )
            .unwrap()
    }

    /// A read transaction that lasts, in a program of its own as far as SQLite is concerned.
    fn reader(&self) -> Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let reader = Connection::open_with_flags(self.file(""), flags).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        reader
            .query_row("SELECT count(*) FROM message", (), |_| Ok(()))
            .unwrap();
        reader
    }
}

/// Starts `serve` on the configuration in the folder, and waits for it to end.
fn serve(folder: &Path, prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = unwrapd();
    command
        .args(["serve", "--config"])
        .arg(folder.join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET);
    prepare(&mut command);
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Snapshots by `cp -al` make them. Two gateways on two names destroyed the file.
#[tokio::test]
async fn a_database_with_two_names_is_refused_at_the_start_and_while_it_runs() {
    let place = Place::new();
    let serving = place.start();
    place.post_some(&serving).await;
    let snapshot = Place::new();
    fs::hard_link(place.file(""), snapshot.file("")).unwrap();

    assert_eq!(place.post(&serving, "other_1").await, Some(503));
    let (status, text) = place.readyz(&serving).await;
    assert!(status == 503 && text.contains("hard links"), "{text}");

    let second = serve(snapshot.folder.path(), |_| {});
    assert_eq!(second.status.code(), Some(1));
    let text = stderr(&second);
    assert!(
        text.contains("hard links") && text.contains("-samefile"),
        "{text}"
    );

    fs::remove_file(snapshot.file("")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while place.post(&serving, "other_1").await != Some(200) {
        assert!(Instant::now() < deadline, "it goes on");
    }
    let (status, _) = serving.terminate();
    assert!(status.success());
    assert_eq!(place.kept(), SOME);
}

/// Another path to the same inode, without a second name: a bind mount of the file.
#[cfg(target_os = "linux")]
#[test]
fn the_lock_is_on_the_file_itself_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let _store = open(&path).unwrap();
    let database = File::open(&path).unwrap();
    let error = database.try_lock().unwrap_err();
    assert!(matches!(error, fs::TryLockError::WouldBlock), "{error}");
}

/// What is done to the files, and what an operator then does, as the log advises.
type Hand = fn(&Place);

/// Nothing is acknowledged after the hand, the process ends, and all that was acknowledged before is there again.
async fn ends_and_is_saved(what: &str, hand: Hand, mend: Hand) {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    hand(&place);
    let answer = place.post(&serving, "after").await;
    assert_ne!(answer, Some(200), "{what}");
    let status = serving.died(what);
    assert_eq!(status.code(), Some(1), "{what}");

    mend(&place);
    let serving = place.start();
    assert_eq!(place.post(&serving, "wh_0").await, Some(200), "{what}");
    let (status, _) = serving.terminate();
    assert!(status.success(), "{what}");
    assert_eq!(place.kept(), SOME, "{what}");
}

/// The file beside the others that was saved.
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

fn elsewhere(place: &Place) -> PathBuf {
    place.folder.path().join("elsewhere")
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
    ends_and_is_saved(
        "removed",
        |place| fs::remove_file(place.file("")).unwrap(),
        give_back_the_saved_store,
    )
    .await;
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

/// `rm -r` of the folder: nothing is left but what the process has open.
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

#[test]
fn a_backup_is_not_written_to_stdout_or_over_the_store() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("store.db");
    drop(open(&store).unwrap());
    for (target, said) in [("-", "stdout"), ("store.db-wal", "of the store itself")] {
        let output = unwrapd()
            .current_dir(folder.path())
            .args(["db", "backup", target, "--store", "store.db"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{target}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!folder.path().join(target).exists(), "{target}");
    }
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
    ends_and_is_saved(
        "log removed",
        |place| fs::remove_file(place.file("-wal")).unwrap(),
        |_| {},
    )
    .await;
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
async fn an_index_that_is_removed_ends_the_gateway_and_the_next_start_makes_it_anew() {
    ends_and_is_saved(
        "index removed",
        |place| fs::remove_file(place.file("-shm")).unwrap(),
        |_| {},
    )
    .await;
}

/// SQLite has it mapped: reading behind its end would be a signal that ends the process, and that is as well.
#[tokio::test]
async fn an_index_that_is_cut_off_ends_the_gateway_and_the_next_start_makes_it_anew() {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    let index = File::options().write(true).open(place.file("-shm"));
    index.unwrap().set_len(0).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert!(!serving.died("index cut").success());
    let serving = place.start();
    assert_eq!(place.post(&serving, "wh_0").await, Some(200));
    assert!(serving.terminate().0.success());
    assert_eq!(place.kept(), SOME);
}

/// The restoring of a backup with `cp`, while the gateway runs: the file, its inode and often its size stay the same.
#[tokio::test]
async fn a_backup_copied_over_the_database_ends_the_gateway_which_moves_nothing_into_it() {
    for is_by_the_tool in [true, false] {
        let place = Place::new();
        let mut serving = place.start();
        // So that there is something in the file.
        let move_log = || {
            Connection::open(place.file(""))
                .unwrap()
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
                .unwrap();
        };
        place.post_some(&serving).await;
        let backup = elsewhere(&place);
        if is_by_the_tool {
            let output = unwrapd()
                .args(["db", "backup"])
                .arg(&backup)
                .arg("--store")
                .arg(place.file(""))
                .output()
                .unwrap();
            assert!(output.status.success());
            move_log();
        } else {
            move_log();
            fs::copy(place.file(""), &backup).unwrap();
            // Enough for the database to grow.
            for number in 0..SOME {
                let id = format!("more_{number}");
                let large = Webhook::with_payload(&id, "x".repeat(20_000));
                let answer = large.request(&place.client, &serving.url).send().await;
                assert_eq!(answer.unwrap().status(), 200);
            }
            move_log();
            // As large as the database, by chance.
            let length = fs::metadata(place.file("")).unwrap().len();
            let copy = File::options().write(true).open(&backup).unwrap();
            copy.set_len(length).unwrap();
        }
        assert_eq!(place.post(&serving, "before").await, Some(200));
        fs::copy(&backup, place.file("")).unwrap();
        assert_ne!(
            place.post(&serving, "after").await,
            Some(200),
            "{is_by_the_tool}"
        );
        assert_eq!(serving.died("copied over").code(), Some(1));
        let left = fs::read(place.file("")).unwrap();
        assert_eq!(left, fs::read(&backup).unwrap(), "it is left alone");
    }
}

/// While nobody posts, the gateway notices too.
#[tokio::test]
async fn a_hand_on_the_files_is_noticed_while_nothing_arrives() {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    File::options()
        .write(true)
        .open(place.file("-wal"))
        .unwrap()
        .set_len(0)
        .unwrap();
    serving.announced("first copy the database, its -wal");
    assert_eq!(serving.died("cut while idle").code(), Some(1));
}

/// To close the database would be to move a log with holes into it.
#[tokio::test]
async fn a_log_that_is_cut_off_ends_the_gateway_which_leaves_the_files_as_they_are() {
    for part in [0, 2, 3] {
        let place = Place::new();
        let mut serving = place.start();
        place.post_some(&serving).await;
        let before = fs::read(place.file("")).unwrap();
        let log = File::options()
            .write(true)
            .open(place.file("-wal"))
            .unwrap();
        let length = log.metadata().unwrap().len();
        log.set_len(length * part / 4).unwrap();
        assert_ne!(place.post(&serving, "after").await, Some(200), "{part}");
        assert_eq!(serving.died("cut").code(), Some(1));
        assert_eq!(fs::read(place.file("")).unwrap(), before, "{part}");
    }
}

/// A commit behind the cut makes the file long again: only its content tells.
#[tokio::test]
async fn a_log_that_is_overwritten_in_place_ends_the_gateway() {
    let place = Place::new();
    let mut serving = place.start();
    place.post_some(&serving).await;
    let log = File::options()
        .write(true)
        .open(place.file("-wal"))
        .unwrap();
    log.write_all_at(&[0; 64], 0).unwrap();
    assert_ne!(place.post(&serving, "after").await, Some(200));
    assert_eq!(serving.died("overwritten").code(), Some(1));
}

#[tokio::test]
async fn a_database_that_is_cut_off_ends_the_gateway_which_leaves_the_log_as_it_is() {
    for part in [0, 1] {
        let place = Place::new();
        let mut serving = place.start();
        place.post_some(&serving).await;
        // So that there is something in the file.
        Connection::open(place.file(""))
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
            .unwrap();
        assert_eq!(place.post(&serving, "other").await, Some(200));
        let log = fs::metadata(place.file("-wal")).unwrap().len();
        let database = File::options().write(true).open(place.file("")).unwrap();
        let length = database.metadata().unwrap().len();
        database.set_len(length * part / 2).unwrap();
        assert_ne!(place.post(&serving, "after").await, Some(200), "{part}");
        assert_eq!(serving.died("cut").code(), Some(1));
        assert_eq!(database.metadata().unwrap().len(), length * part / 2);
        assert!(fs::metadata(place.file("-wal")).unwrap().len() >= log);
    }
}

/// What people may do beside a gateway is no hand on its files.
#[tokio::test]
async fn a_shell_may_move_the_log_and_make_the_database_smaller() {
    let place = Place::new();
    let serving = place.start();
    place.post_some(&serving).await;
    let shell = Connection::open(place.file("")).unwrap();
    shell.busy_timeout(PATIENCE).unwrap();
    let statements = [
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "CREATE TABLE ballast AS SELECT zeroblob(1000000) AS x",
        "PRAGMA wal_checkpoint(RESTART)",
        "DROP TABLE ballast",
        "VACUUM",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ];
    for (number, statement) in statements.into_iter().enumerate() {
        let mut statement = shell.prepare(statement).unwrap();
        let mut rows = statement.query(()).unwrap();
        while rows.next().unwrap().is_some() {}
        assert_eq!(
            place.post(&serving, &format!("shell_{number}")).await,
            Some(200)
        );
        assert_eq!(place.readyz(&serving).await.0, 200);
    }
    // Of two shells one cuts the log off, and the other begins it anew, with a salt of its own.
    let other = Connection::open(place.file("")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    shell
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .unwrap();
    other
        .execute_batch("CREATE TABLE ballast (x); DROP TABLE ballast")
        .unwrap();
    assert_eq!(place.post(&serving, "shell_other").await, Some(200));
    shell
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .unwrap();
    assert_eq!(place.post(&serving, "shell_last").await, Some(200));
    drop((shell, other));
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(place.kept(), SOME);
}

/// What a shell has written reaches the database later, and the file becomes shorter only then.
#[tokio::test]
async fn a_shell_may_make_the_database_smaller_in_two_steps() {
    let place = Place::new();
    let serving = place.start();
    place.post_some(&serving).await;
    let open = || {
        let connection = Connection::open(place.file("")).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection
    };
    let shell = open();
    let moved = |mode| {
        shell
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(()))
            .unwrap();
    };
    shell
        .execute_batch("CREATE TABLE ballast AS SELECT zeroblob(1000000) AS x")
        .unwrap();
    moved("TRUNCATE");
    assert_eq!(place.post(&serving, "before").await, Some(200));
    shell.execute_batch("DROP TABLE ballast").unwrap();
    assert_eq!(place.post(&serving, "dropped").await, Some(200));
    moved("TRUNCATE");
    let length = || fs::metadata(place.file("")).unwrap().len();
    let long = length();
    // The log begins anew, with a salt of the other shell. So the gateway looks closely, and knows what was written.
    open().execute_batch("VACUUM").unwrap();
    assert_eq!(place.post(&serving, "made-smaller").await, Some(200));
    assert_eq!(length(), long);
    moved("PASSIVE");
    assert!(length() < long);
    assert_eq!(place.post(&serving, "moved").await, Some(200));
    assert_eq!(place.readyz(&serving).await.0, 200);
}

/// A backup, a check or a shell kept every start off until it ended.
#[tokio::test]
async fn a_reader_does_not_keep_the_gateway_from_starting() {
    let place = Place::new();
    let serving = place.start();
    place.post_some(&serving).await;
    let reader = place.reader();
    assert_eq!(place.post(&serving, "behind-the-reader").await, Some(200));
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");

    let serving = place.start();
    assert_eq!(place.post(&serving, "beside-the-reader").await, Some(200));
    // SIGKILL.
    drop(serving);
    let serving = place.start();
    assert_eq!(place.post(&serving, "behind-the-reader").await, Some(200));
    let seen: usize = reader
        .query_row("SELECT count(*) FROM message", (), |row| row.get(0))
        .unwrap();
    assert_eq!(seen, SOME, "the reader sees what it saw");
    drop(reader);
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");
    let connection = Connection::open(place.file("")).unwrap();
    let all: usize = connection
        .query_row("SELECT count(*) FROM message", (), |row| row.get(0))
        .unwrap();
    assert_eq!(all, SOME + 2, "each once");
    let sound: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

async fn accept_large(store: &Arc<dyn Store>, id: &str) {
    let large = Message {
        payload: Bytes::from(vec![b'x'; MIB]),
        ..message(id, at(0))
    };
    assert_eq!(store.accept(large, vec![]).await, Ok(Accepted::New));
}

#[tokio::test]
async fn a_forgotten_reader_is_warned_of_and_the_log_shrinks_when_it_is_gone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let warnings = Warnings::default();
    let store: Arc<dyn Store> = Arc::new(
        SqliteStore::open_with(
            &path,
            &Bounds::default(),
            &Clock::simulated(at(0)),
            &warnings,
        )
        .unwrap(),
    );
    accept_large(&store, "first").await;
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader
        .query_row("SELECT count(*) FROM message", (), |_| Ok(()))
        .unwrap();
    for number in 0..80 {
        accept_large(&store, &format!("wh_{number}")).await;
    }
    until(|| !warnings.all().is_empty()).await;
    let text = warnings.all().concat();
    assert!(
        text.contains("MiB") && text.contains("read transaction"),
        "{text}"
    );
    let log = folder.path().join("store.db-wal");
    assert!(log.metadata().unwrap().len() > 80 * MIB as u64);

    drop(reader);
    until(|| warnings.all().is_empty()).await;
    assert_eq!(log.metadata().unwrap().len(), 0);
    accept_large(&store, "last").await;
    store.close().await;
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Someone who is not root, as far as the system is concerned.
const NOBODY: u32 = 65_534;

/// Runs `serve` as someone to whom modes of files matter.
fn serve_as_nobody(folder: &Path) -> String {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        let output = serve(folder, |_| {});
        assert_eq!(output.status.code(), Some(1));
        return stderr(&output);
    }
    // The binary may be where only root comes.
    let tools = TempDir::new().unwrap();
    fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = tools.path().join("unwrapd");
    fs::copy(env!("CARGO_BIN_EXE_unwrapd"), &binary).unwrap();
    let output = Command::new(binary)
        .args(["serve", "--config"])
        .arg(folder.join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .env("NO_COLOR", "1")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

#[test]
fn a_permission_that_is_missing_is_said_with_who_which_path_and_what_to_do() {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let user = if rustix::process::geteuid().is_root() {
        NOBODY.to_string()
    } else {
        rustix::process::geteuid().to_string()
    };

    // The folder is not writable.
    let place = Place::new();
    mode(place.folder.path(), 0o555);
    let text = serve_as_nobody(place.folder.path());
    let who = format!("(user {user}, ");
    assert!(text.contains(&who), "{text}");
    assert!(
        text.contains("may not create a file in the folder"),
        "{text}"
    );
    assert!(text.contains("chown"), "{text}");

    // The database is not writable.
    let place = Place::new();
    drop(open(&place.file("")).unwrap());
    mode(place.folder.path(), 0o777);
    mode(&place.file(".lock"), 0o666);
    mode(&place.file(""), 0o444);
    let text = serve_as_nobody(place.folder.path());
    assert!(
        text.contains(&who) && text.contains("may not read and write this file"),
        "{text}"
    );
    assert!(text.contains("unwrapd.db: this process"), "{text}");

    // A log that someone else left.
    mode(&place.file(""), 0o666);
    fs::write(place.file("-wal"), "").unwrap();
    mode(&place.file("-wal"), 0o400);
    let text = serve_as_nobody(place.folder.path());
    assert!(text.contains("unwrapd.db-wal: this process"), "{text}");
    mode(place.folder.path(), 0o755);
}

#[test]
fn a_path_that_leads_to_no_file_is_said_with_a_remedy() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing/store.db");
    let error = open(&missing).unwrap_err().to_string();
    assert!(error.contains("does not exist; create it"), "{error}");
    let error = open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("this is a folder"), "{error}");
    assert!(matches!(error, StoreError::Unavailable(_)));
}
