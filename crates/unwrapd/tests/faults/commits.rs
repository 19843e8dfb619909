//! Commits that are slow or fail, and the answers that their callers get.

use std::time::Duration;

use openai_webhooks::EventType;
use rustix::io::Errno;
use tokio::task::JoinSet;

use crate::openai;
use crate::rig::Rig;
use crate::shim::{Fault, LOG, SYNC, WRITE};
use crate::support::Webhook;

/// An arbitrary seed; each test has its own run.
const SEED: u64 = 20_260_104;
/// Number of concurrent requests.
const CROWD: usize = 64;
/// Maximum number of commits for these requests if they share commits: one for the first, one for
/// those that arrive meanwhile, and some for a busy machine.
const SHARED_COMMITS_MAX: u64 = 8;
const SLOW: Duration = Duration::from_millis(200);
/// Number of concurrent copies of a webhook.
const COPIES: usize = 8;
const DOUBLED_WEBHOOKS: usize = 40;
/// Percentage of writes and syncs of the log that fail. A commit makes about twenty, so nearly half
/// of the commits fail.
const FAILING_PERCENT: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_a_slow_disk_share_a_sync_and_a_lone_one_waits_for_no_other() {
    let rig = Rig::start(SEED).await;
    // The first sync of a log also writes its header.
    assert_eq!(post(&rig, "wh_first").await, 200);
    rig.shim.slow_down(SLOW);

    let before = rig.shim.counters().syncs;
    assert_eq!(post(&rig, "wh_alone").await, 200);
    assert_eq!(rig.shim.counters().syncs - before, 1);

    let mut answers = JoinSet::new();
    for number in 0..CROWD {
        answers.spawn(unwanted(&format!("wh_crowd_{number}"), &rig).send());
    }
    for answer in answers.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let commits = rig.shim.counters().syncs - before - 1;
    assert!(commits <= SHARED_COMMITS_MAX, "{commits} commits");
}

/// With `fdatasync`, which SQLite must be configured to use, a commit avoids the journal of the
/// file system.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_bytes_and_not_for_the_times_of_files() {
    let rig = Rig::start(SEED).await;
    assert_eq!(post(&rig, "wh_first").await, 200);
    assert_eq!(post(&rig, "wh_second").await, 200);
    let counters = rig.shim.counters();
    assert!(counters.syncs > 0, "{counters:?}");
    assert_eq!(counters.times_synced, 0, "{counters:?}");
}

/// The sync is delayed while the original and its copies wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_shares_the_fate_of_its_uncommitted_original() {
    let rig = Rig::start(SEED).await;
    for (is_kept, expected) in [(false, 503), (true, 200)] {
        let id = format!("wh_{expected}");
        rig.shim.hold();
        let held = rig.shim.counters().held;
        let mut answers = JoinSet::new();
        answers.spawn(unwanted(&id, &rig).send());
        rig.shim
            .until("the original is written", |now| now.held > held)
            .await;
        for _ in 0..COPIES {
            answers.spawn(unwanted(&id, &rig).send());
        }
        if !is_kept {
            rig.shim.inject(&Fault::new(SYNC, Errno::IO));
        }
        assert!(
            answers.try_join_next().is_none(),
            "answered before it is kept"
        );
        rig.shim.let_go();
        for answer in answers.join_all().await {
            assert_eq!(answer.unwrap().status(), expected);
        }
        rig.shim.lift();
        // For as long as the failed attempt took, every request gets the same error at once.
        while rig.readyz().await.0 != 200 {}
    }
    assert_eq!(rig.count("wh_200"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_sent_while_commits_fail_are_acknowledged_only_if_one_is_stored() {
    let rig = Rig::start(SEED).await;
    let fault = Fault::new(WRITE | SYNC, Errno::IO).of_files(LOG);
    rig.shim.inject(&fault.at_random(FAILING_PERCENT).torn());
    let mut doors = rig.doors.subscribe();
    for _ in 0..DOUBLED_WEBHOOKS {
        let number = rig.ledger.next(false).await.unwrap();
        while rig
            .ledger
            .read(|book| book.webhooks[number].acknowledged_in.is_none())
        {
            openai::post(&rig.ledger, &mut doors, &rig.client, number, COPIES).await;
        }
    }
    assert!(rig.ledger.read(|book| book.refused) > 0);
    rig.balances_after_power_cut().await;
}

async fn post(rig: &Rig, id: &str) -> u16 {
    unwanted(id, rig).send().await.unwrap().status().as_u16()
}

/// An event that no destination wants: it needs no commit but its own.
fn unwanted(id: &str, rig: &Rig) -> reqwest::RequestBuilder {
    let url = rig.doors.borrow()[0].url.clone();
    Webhook::new(id, EventType::ResponseCancelled).request(&rig.client, &url)
}
