//! A disk that fails while a database is made, opened or migrated.

use rusqlite::{Connection, params};
use rustix::io::Errno;
use tokio::task::JoinSet;

use crate::power;
use crate::rig::Rig;
use crate::shim::{Fault, OPEN, SYNC, TRUNCATE, WRITE};
use crate::webhooks::{self, Destination};

/// Any; each test has a run of its own.
const SEED: u64 = 20_260_105;
/// Each start is stopped so many calls after the one before.
const STRIDE: usize = 9;
/// Most of them are waiting for something.
const AT_ONCE: usize = 8;
/// The first schema there was,
const FIRST_SCHEMA: &str = include_str!("../../src/store/sqlite/0001_way.sql");
/// and how it says whose it is.
const FIRST_MARKS: &str =
    "PRAGMA application_id = 0x756E7772; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;";
/// Webhooks kept by the version before.
const KEPT_BEFORE: usize = 8;

/// A start fails at its first call to the disk, at a later one, and so on, until one does not fail; the power is cut after each.
/// Whatever is left, the next start makes a good database of it.
async fn the_next_start_goes_well_after(fault: Fault, prepare: fn(&Rig)) {
    let mut skips = (0..).step_by(STRIDE);
    let mut have_failed = 0;
    loop {
        let some = skips.by_ref().take(AT_ONCE);
        let some: JoinSet<u64> = some
            .map(|skip| {
                let fault = Fault {
                    skip,
                    ..fault.clone()
                };
                faults_before_a_good_start(fault, prepare)
            })
            .collect();
        let faults = some.join_all().await;
        have_failed += faults.iter().filter(|faults| **faults > 0).count();
        if faults.contains(&0) {
            assert!(have_failed > 0, "nothing was made to fail");
            return;
        }
    }
}

async fn faults_before_a_good_start(fault: Fault, prepare: fn(&Rig)) -> u64 {
    let mut rig = Rig::before_start(SEED).await;
    prepare(&rig);
    rig.shim.inject(&fault);
    if let Err(error) = rig.start_gateway().await {
        let error = error.to_string();
        assert!(error.contains("the store"), "{fault:?}: {error}");
    }
    let faults = rig.shim.counters().faults;
    rig.cut_power().await;
    rig.start_gateway().await.unwrap();
    rig.deliver(1).await;
    rig.balances().await;
    faults
}

fn nothing(_: &Rig) {}

/// A database of the first schema with webhooks that are still to be delivered.
fn first_schema(rig: &Rig) {
    let database = Connection::open(rig.database()).unwrap();
    database.execute_batch(FIRST_SCHEMA).unwrap();
    database.execute_batch(FIRST_MARKS).unwrap();
    for _ in 0..KEPT_BEFORE {
        let number = rig.ledger.announce();
        rig.ledger.acknowledge(number, 0);
        let id = webhooks::id(number);
        database
            .execute(
                "INSERT INTO message VALUES (?, 'production', ?, ?, 0, unixepoch() * 1000, ?)",
                params![
                    number + 1,
                    id,
                    webhooks::kind(number),
                    webhooks::payload(number).as_bytes()
                ],
            )
            .unwrap();
        database
            .execute("INSERT INTO seen VALUES ('production', ?, 0)", [id])
            .unwrap();
        for destination in Destination::ALL {
            if destination.wants(number) {
                database
                    .execute(
                        "INSERT INTO delivery (message, destination, lane, due_at) VALUES (?, ?, 'standard', 0)",
                        params![number + 1, destination.name()],
                    )
                    .unwrap();
            }
        }
    }
    drop(database);
    power::save(&rig.database(), rig.shim.images());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_made_after_the_disk_was_full_at_any_call() {
    the_next_start_goes_well_after(full(), nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_made_after_the_disk_has_failed_at_any_call() {
    the_next_start_goes_well_after(failing(), nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_migrated_after_the_disk_was_full_at_any_call() {
    the_next_start_goes_well_after(full(), first_schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_migrated_after_the_disk_has_failed_at_any_call() {
    the_next_start_goes_well_after(failing(), first_schema).await;
}

fn full() -> Fault {
    Fault {
        torn: true,
        ..Fault::new(WRITE | TRUNCATE, Errno::NOSPC)
    }
}

fn failing() -> Fault {
    Fault::new(OPEN | WRITE | SYNC | TRUNCATE, Errno::IO)
}
