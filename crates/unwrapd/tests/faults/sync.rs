//! Only what a sync has brought to the disk is kept: the power is cut after syncs that failed, and the books must balance.

use rustix::io::Errno;

use crate::rig::Rig;
use crate::shim::{Fault, SYNC};

/// Any; each test has a run of its own.
const SEED: u64 = 20_260_102;

/// After a failed sync, what was written looks as if it were kept: the page cache shows it, and the next sync succeeds without it.
/// It must not be acknowledged as a duplicate, nor may anything that is kept rest on it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_sync_did_not_keep_is_not_acknowledged() {
    let mut rig = Rig::start_under_load(SEED).await;
    rig.shim.inject(&Fault::new(SYNC, Errno::IO));
    rig.refuses().await;
    rig.shim.lift();
    rig.acknowledges().await;
    rig.cut_power().await;
    rig.start_gateway().await.unwrap();
    rig.balances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_acknowledged() {
    let mut rig = Rig::start_under_load(SEED).await;
    for _ in 0..3 {
        rig.acknowledges().await;
        rig.cut_power().await;
        rig.start_gateway().await.unwrap();
    }
    rig.balances().await;
}

/// A commit that the process died in is found in the log when it starts again; nobody has synced it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_synced_when_the_process_died_is_not_acknowledged() {
    let mut rig = Rig::start_under_load(SEED).await;
    rig.shim.inject(&Fault::new(SYNC, Errno::IO));
    rig.refuses().await;
    rig.kill().await;
    rig.shim.lift();
    rig.shim.lose_what_is_not_synced();
    rig.start_gateway().await.unwrap();
    rig.acknowledges().await;
    rig.cut_power().await;
    rig.start_gateway().await.unwrap();
    rig.balances().await;
}
