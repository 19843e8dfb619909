//! Files that are damaged, emptied or removed while the gateway runs.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::rig::{Rig, move_log};
use crate::shim::{DATABASE, Fault, READ, SYNC, Shim};
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, write_config};
use crate::support::{PATIENCE, Webhook, client};

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_103;
/// Size of the first page of a database, which identifies it. The garbage comes after it.
const HEADER_BYTES: u64 = PAGE_BYTES;
const PAGE_BYTES: u64 = 4096;
const SOME: usize = 40;
/// Size of a payload that fills several pages.
const LARGE_BYTES: usize = 30_000;

/// For a while, the disk returns other bytes than were written.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_reads_as_garbage_is_refused_until_it_reads_well() {
    let mut rig = Rig::start_with_deliveries(SEED, SOME).await;
    move_log(&rig.database());
    rig.close_database().await;
    let garbage = Fault::new(READ, Errno::IO).of_files(DATABASE).garbled();
    rig.shim.inject(&garbage);
    rig.load();
    rig.refuses().await;
    rig.says_why("the file is damaged").await;
    rig.shim.lift();
    rig.acknowledges().await;
    rig.balances().await;
}

/// A gateway that rests after some deliveries, and the file that its database is in as a whole.
async fn with_open_database() -> (Rig, File) {
    let rig = Rig::start_with_deliveries(SEED, SOME).await;
    move_log(&rig.database());
    let database = File::options().write(true).open(rig.database());
    (rig, database.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_acknowledges_nothing() {
    let (rig, database) = with_open_database().await;
    let garbage = database.metadata().unwrap().len() - HEADER_BYTES;
    let garbage = vec![0xA5; usize::try_from(garbage).unwrap()];
    database.write_all_at(&garbage, HEADER_BYTES).unwrap();
    rig.close_database().await;
    acknowledges_nothing(rig, "the file is damaged").await;
}

/// A new database in the place of the old one would accept duplicates as new webhooks.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_database_acknowledges_nothing() {
    let (mut rig, database) = with_open_database().await;
    let acknowledged = rig.ledger.read(|book| book.acknowledged);
    database.set_len(0).unwrap();
    rig.load();
    rig.ends().await;
    assert_eq!(rig.ledger.read(|book| book.acknowledged), acknowledged);
    assert_eq!(database.metadata().unwrap().len(), 0, "it is left alone");
}

async fn acknowledges_nothing(mut rig: Rig, why: &str) {
    let acknowledged = rig.ledger.read(|book| book.acknowledged);
    rig.load();
    rig.refuses().await;
    rig.says_why(why).await;
    assert_eq!(rig.ledger.read(|book| book.acknowledged), acknowledged);
}

/// The database was moved or removed. A file in its place is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_database_ends_the_gateway_and_loses_nothing_when_it_is_back() {
    let mut rig = Rig::start_under_load(SEED).await;
    let (file, elsewhere) = (rig.file(""), rig.file(".elsewhere"));
    std::fs::rename(&file, &elsewhere).unwrap();
    rig.ends().await;
    std::fs::rename(&elsewhere, &file).unwrap();
    rig.start_gateway().await.unwrap();
    rig.acknowledges().await;
    rig.balances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_lock_is_taken_again() {
    let rig = Rig::start_under_load(SEED).await;
    std::fs::remove_file(rig.file(".lock")).unwrap();
    rig.acknowledges().await;
    assert!(rig.file(".lock").exists());
    rig.balances().await;
}

/// Content written to a removed log is lost with the process, so it is saved before the process
/// ends.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_webhooks_survive_the_removal_of_the_log() {
    let mut rig = Rig::start_under_load(SEED).await;
    std::fs::remove_file(rig.file("-wal")).unwrap();
    rig.ends().await;
    rig.start_gateway().await.unwrap();
    rig.acknowledges().await;
    rig.balances().await;
}

/// Accepting a webhook reads no damaged page. Delivering does.
#[tokio::test(flavor = "multi_thread")]
async fn damage_that_only_a_delivery_meets_ends_acknowledging() {
    // The retry comes after the damage is done.
    let mut app = Application::start([Answer::RetryAfter(503, "3")]).await;
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("unwrapd.db");
    write_config(folder.path(), &app.url);
    let shim = Shim::of(folder.path());
    let serving = Serving::start(folder.path(), &shim.environment());
    let client = client();
    let post = async |id: String| {
        let large = Webhook::with_payload(&id, "x".repeat(LARGE_BYTES));
        let answer = large.request(&client, &serving.url).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(post("wh_damaged".into()).await, 200);
    app.next().await;

    let connection = move_log(&database);
    let pages: Vec<u64> = connection
        .prepare("SELECT pageno FROM dbstat WHERE name = 'payload' AND pagetype = 'overflow'")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    drop(connection);
    let file = File::options().write(true).open(&database).unwrap();
    let garbage = vec![0xA5; usize::try_from(PAGE_BYTES).unwrap()];
    for page in pages {
        file.write_all_at(&garbage, (page - 1) * PAGE_BYTES)
            .unwrap();
    }
    shim.inject(&Fault::new(SYNC, Errno::IO).at_most(1));
    // The failing sync is that of this webhook, or that of the record of the failed attempt.
    post("wh_while_the_sync_fails".into()).await;
    assert_eq!(shim.counters().faults, 1);

    // Webhooks are acknowledged until the delivery is retried.
    let refused = async {
        for number in 0.. {
            if post(format!("wh_{number}")).await == 503 {
                return;
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("it is refused");
    // A check of the store may be a second old.
    let damaged = async {
        loop {
            let (_, why) = serving.readyz().await;
            if why.contains("the file is damaged") {
                return;
            }
        }
    };
    timeout(PATIENCE, damaged).await.expect("it says why");
}
