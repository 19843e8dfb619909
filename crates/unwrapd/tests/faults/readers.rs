//! Programs that read the database while the gateway dies and starts, on a disk that loses unsynced
//! writes.

use rusqlite::{Connection, OpenFlags};
use rustix::io::Errno;

use crate::rig::Rig;
use crate::shim::{DATABASE, Fault, SYNC};

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_107;
const SOME: usize = 40;
const ROUNDS: usize = 3;

/// A program that only reads: it writes nothing, not even when it ends.
fn reader(rig: &Rig) -> Connection {
    let reader =
        Connection::open_with_flags(rig.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    begin(&reader);
    reader
}

fn begin(reader: &Connection) {
    reader.execute_batch("BEGIN").unwrap();
    reader
        .query_row("SELECT count(*) FROM message", (), |_| Ok(()))
        .unwrap();
}

/// The reader comes after the death of the process. It reads the log again, including the commit
/// during which the process died, which was not synced. It also prevents the checkpoint when the
/// gateway starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_not_synced_is_not_acknowledged_beside_a_reader() {
    let mut rig = Rig::start_under_load(SEED).await;
    // Some faults come when nothing can be lost, so there are several rounds.
    for _ in 0..ROUNDS {
        rig.dies_unsynced().await;
        let reader = reader(&rig);
        rig.start_gateway().await.unwrap();
        rig.acknowledges().await;
        rig.kill().await;
        drop(reader);
        rig.survives_power_cut().await;
        rig.acknowledges().await;
    }
    rig.balances().await;
}

/// A disk failed for a while beside a reader, and then every webhook was refused until the reader
/// ended.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_accepted_again_beside_a_reader_when_the_disk_works() {
    let mut rig = Rig::start_under_load(SEED).await;
    let reader = reader(&rig);
    rig.refuses_under(&Fault::new(SYNC, Errno::IO)).await;
    rig.shim.lift();
    rig.acknowledges().await;
    rig.kill().await;
    drop(reader);
    rig.balances_after_power_cut().await;
}

/// SQLite moves a part of the log without syncing the database, and records in the index, which a
/// reader keeps, that it is moved. If the sync of the rest fails, nothing moves that part again.
#[tokio::test(flavor = "multi_thread")]
async fn frames_moved_before_a_sync_failed_are_moved_again_beside_a_reader() {
    let mut rig = Rig::start_with_deliveries(SEED, SOME).await;
    let reader = reader(&rig);
    rig.deliver(SOME).await;
    rig.kill().await;
    // Moves the frames that the reader sees, and no more.
    rig.start_gateway().await.unwrap();
    rig.kill().await;
    reader.execute_batch("COMMIT").unwrap();
    let fault = Fault::new(SYNC, Errno::IO).of_files(DATABASE);
    rig.shim.inject(&fault);
    rig.start_gateway().await.unwrap_err();
    assert!(rig.shim.counters().faults > 0);
    rig.shim.lift();
    rig.shim.lose_what_is_not_synced();
    rig.start_gateway().await.unwrap();
    rig.deliver(1).await;
    rig.kill().await;
    drop(reader);
    rig.balances_after_power_cut().await;
}
