//! A disk that fails while a database is created, opened or migrated.

use rusqlite::{Connection, params};
use rustix::io::Errno;
use tokio::task::JoinSet;

use crate::power;
use crate::rig::Rig;
use crate::shim::{Fault, OPEN, SYNC, TRUNCATE, WRITE};
use crate::webhooks::{self, Destination};

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_105;
/// Number of calls between the failures of two starts.
const STRIDE: usize = 9;
/// Number of concurrent runs, most of which are waiting.
const AT_ONCE: usize = 8;
/// The present schema.
const PRESENT_SCHEMA: &str = include_str!("../../../unwrapd-store/src/sqlite/0001_schema.sql");
/// The marks of the present schema in the file.
const PRESENT_MARKS: &str =
    "PRAGMA application_id = 0x756E7772; PRAGMA user_version = 1; PRAGMA journal_mode = WAL;";
/// The migration of a later version.
const NEXT_SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/next_schema.sql");
/// Number of webhooks stored by the earlier version.
const KEPT_BEFORE: usize = 8;

/// A start fails at its first call to the disk, the next start at a later call, and so on, until
/// one succeeds. After each, the power is cut. From every state, the next start must make an intact
/// database.
async fn the_next_start_goes_well_after(fault: Fault, prepare: fn(&mut Rig)) {
    let mut skips = (0..).step_by(STRIDE);
    let mut have_failed = 0;
    loop {
        let some = skips.by_ref().take(AT_ONCE);
        let some: JoinSet<u64> = some
            .map(|skip| faults_before_a_good_start(fault.clone().after(skip), prepare))
            .collect();
        let faults = some.join_all().await;
        have_failed += faults.iter().filter(|faults| **faults > 0).count();
        if faults.contains(&0) {
            assert!(have_failed > 0, "nothing was made to fail");
            return;
        }
    }
}

async fn faults_before_a_good_start(fault: Fault, prepare: fn(&mut Rig)) -> u64 {
    let mut rig = Rig::before_start(SEED).await;
    prepare(&mut rig);
    rig.shim.inject(&fault);
    if let Err(error) = rig.start_gateway().await {
        let error = error.to_string();
        assert!(error.contains("the store"), "{fault:?}: {error}");
    }
    let faults = rig.shim.counters().faults;
    rig.survives_power_cut().await;
    rig.deliver(1).await;
    assert_eq!(rig.schema_version(), rig.schema_version_expected());
    rig.balances().await;
    faults
}

fn nothing(_: &mut Rig) {}

/// A database of the present schema with undelivered webhooks, for the gateway of a later version.
fn present_schema(rig: &mut Rig) {
    rig.migrate_by(NEXT_SCHEMA);
    let database = Connection::open(rig.database()).unwrap();
    database.execute_batch(PRESENT_SCHEMA).unwrap();
    database.execute_batch(PRESENT_MARKS).unwrap();
    for _ in 0..KEPT_BEFORE {
        let number = rig.ledger.announce();
        rig.ledger.acknowledge(number, 0);
        let id = webhooks::id(number);
        database
            .execute(
                "INSERT INTO message (seq, endpoint, webhook_id, event_type, sent_at, received_at)
                 VALUES (?, 'production', ?, ?, 0, unixepoch() * 1000)",
                params![number + 1, id, webhooks::kind(number)],
            )
            .unwrap();
        database
            .execute(
                "INSERT INTO payload (seq, bytes) VALUES (?, ?)",
                params![number + 1, webhooks::payload(number).as_bytes()],
            )
            .unwrap();
        for (place, destination) in Destination::ALL.into_iter().enumerate() {
            if destination.wants(number) {
                database
                    .execute(
                        "INSERT INTO delivery (id, message, destination, lane, since, due_at)
                         VALUES (?1 * 256 + ?2, ?1, ?3, 'standard', unixepoch() * 1000, 0)",
                        params![number + 1, place, destination.name()],
                    )
                    .unwrap();
            }
        }
    }
    drop(database);
    power::save(&rig.database(), rig.shim.images());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_created_after_the_disk_was_full_at_any_call() {
    the_next_start_goes_well_after(full(), nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_created_after_the_disk_has_failed_at_any_call() {
    the_next_start_goes_well_after(failing(), nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_migrated_after_the_disk_was_full_at_any_call() {
    the_next_start_goes_well_after(full(), present_schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_can_be_migrated_after_the_disk_has_failed_at_any_call() {
    the_next_start_goes_well_after(failing(), present_schema).await;
}

fn full() -> Fault {
    Fault::new(WRITE | TRUNCATE, Errno::NOSPC).torn()
}

fn failing() -> Fault {
    Fault::new(OPEN | WRITE | SYNC | TRUNCATE, Errno::IO)
}
