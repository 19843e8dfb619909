//! Only synced data survives: the power is cut after failed syncs, and the ledger and the store
//! must agree.

use rustix::io::Errno;

use crate::rig::Rig;
use crate::shim::{Fault, SYNC};

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_102;

/// After a failed sync, written data seems to be stored: the page cache shows it, and the next sync
/// succeeds without it. Such a webhook must not be acknowledged as a duplicate, and no stored data
/// may depend on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_lost_by_a_failed_sync_is_not_acknowledged() {
    let rig = Rig::start_under_load(SEED).await;
    rig.refuses_under(&Fault::new(SYNC, Errno::IO)).await;
    rig.shim.lift();
    rig.acknowledges().await;
    rig.balances_after_power_cut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_acknowledged() {
    let mut rig = Rig::start_under_load(SEED).await;
    for _ in 0..3 {
        rig.acknowledges().await;
        rig.survives_power_cut().await;
    }
    rig.balances().await;
}

/// After a restart, the log has the commit during which the process died, which was not synced.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_not_synced_when_the_process_died_is_not_acknowledged() {
    let mut rig = Rig::start_under_load(SEED).await;
    rig.dies_unsynced().await;
    rig.start_gateway().await.unwrap();
    rig.acknowledges().await;
    rig.balances_after_power_cut().await;
}
