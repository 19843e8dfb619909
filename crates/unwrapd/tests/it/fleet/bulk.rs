//! Bulk runs of a fleet.

use jiff::Timestamp;
use unwrapd::store::{BulkBegun, BulkState};

use super::*;
use crate::bulk::replay_of_all;

#[tokio::test]
async fn a_run_goes_on_at_another_gateway_when_its_own_has_stopped() {
    const MESSAGES: usize = 20;
    let mut app = Application::start([]).await;
    let [one, other] = two(&[destination("app", &app.url)]).await;
    for number in 0..MESSAGES {
        post(&one, &format!("wh_{number}")).await;
    }
    got(&mut app, MESSAGES).await;
    one.settled().await;
    let now = Timestamp::now();
    let start = replay_of_all("t", now);
    // Without a request, the gateway does not look for it at once.
    let begun = one.gateway.store().begin_bulk_run(&start, now).await;
    assert!(matches!(begun, Ok(BulkBegun::Begun(_))), "{begun:?}");
    one.stop().await;
    let replayed = got(&mut app, MESSAGES).await;
    assert!(replayed.values().all(|times| *times == 1), "{replayed:?}");
    until("it is done", async || {
        let run = other.gateway.store().bulk_run(&start.token).await;
        run.unwrap().unwrap().state == BulkState::Done
    })
    .await;
    other.stop().await;
}
