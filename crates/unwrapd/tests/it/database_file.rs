//! Other programs and the files of the SQLite store: second names, removal, replacement,
//! truncation, and long readers.

mod beside;
mod left;
mod names;
mod overwritten;
mod permissions;
mod removed;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openai_webhooks::EventType;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::process::{Serving, unwrapd, write_config};
use crate::support::{APP_SECRET, OPENAI_SECRET, Webhook, client};

/// Number of webhooks acknowledged before the change.
const SOME: usize = 20;

struct Place {
    folder: TempDir,
    client: reqwest::Client,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        // No server listens there, so all deliveries wait.
        write_config(folder.path(), "http://127.0.0.1:9/");
        Self {
            folder,
            client: client(),
        }
    }

    /// A place with a gateway that has acknowledged [`SOME`] webhooks.
    async fn in_use() -> (Self, Serving) {
        let place = Self::new();
        let serving = place.start();
        place.post_some(&serving).await;
        (place, serving)
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("unwrapd.db{suffix}"))
    }

    /// The file, open for another program that writes into it.
    fn writable(&self, suffix: &str) -> File {
        File::options().write(true).open(self.file(suffix)).unwrap()
    }

    fn start(&self) -> Serving {
        Serving::start(self.folder.path(), &[])
    }

    fn begin_to_start(&self) -> Serving {
        Serving::begin_to_start(self.folder.path())
    }

    /// `None`: there was no answer.
    async fn post(&self, serving: &Serving, id: &str) -> Option<u16> {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        let answer = webhook.request(&self.client, &serving.url).send().await;
        Some(answer.ok()?.status().as_u16())
    }

    /// Starts a gateway, which still knows everything that was acknowledged.
    async fn starts_again_whole(&self, case: &str) {
        let serving = self.start();
        assert_eq!(self.post(&serving, "wh_0").await, Some(200), "{case}");
        assert!(serving.terminate().0.success(), "{case}");
        assert_eq!(self.kept(), SOME, "{case}");
    }

    async fn post_some(&self, serving: &Serving) {
        for number in 0..SOME {
            let status = self.post(serving, &format!("wh_{number}")).await;
            assert_eq!(status, Some(200));
        }
    }

    /// Posts a webhook with a body of this many bytes, which must be accepted.
    async fn post_large(&self, serving: &Serving, id: &str, bytes: usize) {
        let large = Webhook::with_payload(id, "x".repeat(bytes));
        let answer = large.request(&self.client, &serving.url).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    }

    /// Moves the log into the database, so that its file has content.
    fn move_log(&self) {
        Connection::open(self.file(""))
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))
            .unwrap();
    }

    /// Runs `db backup`, which must succeed.
    fn back_up(&self, backup: &Path) {
        let output = unwrapd()
            .args(["db", "backup"])
            .arg(backup)
            .arg("--store")
            .arg(self.file(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Number of the first webhooks that a start finds.
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

    /// A long read transaction, for SQLite in another program.
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

/// Runs `serve` on the configuration in the folder, and waits for its end.
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

fn elsewhere(place: &Place) -> PathBuf {
    place.folder.path().join("elsewhere")
}
