//! A disk that fails under load: webhooks that cannot be stored are answered with 503, `/readyz`
//! gives the reason, and receiving continues when the cause is gone.

use rustix::io::Errno;

use crate::rig::Rig;
use crate::shim::{Fault, OPEN, SYNC, TRUNCATE, WRITE};

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_101;

/// Under load, every webhook is refused during the fault and received after it. At the end the
/// ledger and the store agree.
async fn is_refused_while_it_lasts(fault: Fault, why: &str) {
    let rig = Rig::start_under_load(SEED).await;
    rig.refuses_under(&fault).await;
    rig.says_why(why).await;
    rig.shim.lift();
    rig.acknowledges().await;
    rig.is_ready().await;
    rig.balances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_refused_while_the_disk_is_full() {
    is_refused_while_it_lasts(Fault::new(WRITE | TRUNCATE, Errno::NOSPC), "full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_refused_while_writes_stop_half_way() {
    is_refused_while_it_lasts(Fault::new(WRITE, Errno::NOSPC).torn(), "full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_refused_while_writes_fail() {
    is_refused_while_it_lasts(Fault::new(WRITE, Errno::IO), "disk I/O error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_refused_while_syncs_fail() {
    is_refused_while_it_lasts(Fault::new(SYNC, Errno::IO), "disk I/O error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_refused_while_the_file_system_is_read_only() {
    let fault = Fault::new(OPEN | WRITE | SYNC | TRUNCATE, Errno::ROFS);
    is_refused_while_it_lasts(fault, "read").await;
}
