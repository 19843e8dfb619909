//! Replaying stored messages, and dropping dead letters.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use unwrapd::delivery::{Lane, Next};
use unwrapd::message::Message;
use unwrapd::store::filter::{Filter, Status};
use unwrapd::store::replay::{
    AsOf, Counts, DropRun, Plan, Replay, ReplayRun, ReplayStep, Replayed,
};
use unwrapd::store::{Bounds, MessagePage, Page, Settled, Store, StoreError};

use super::{Attempt, LEASE, Place, PostgresPlace, SqlitePlace, at, attempt, claim_up_to, message};
use crate::support::tally::Counted as _;

every_store!(;
    a_plan_counts_and_changes_nothing,
    a_plan_whose_time_is_over_counts_some_and_selects_all,
    a_replay_makes_ended_and_waiting_deliveries_due_and_leaves_leased_ones,
    the_same_token_twice_delivers_once,
    a_token_that_was_used_for_something_else_is_refused,
    a_replay_goes_on_where_it_was_after_opening_again,
    a_replay_requested_by_many_at_once_delivers_once,
    a_delivery_that_dies_again_is_not_replayed_again_by_the_same_token,
    a_message_that_arrives_after_the_plan_or_the_beginning_takes_no_part,
    ages_count_from_the_first_use_of_the_token,
    a_destination_that_is_newer_than_a_message_gets_its_own_delivery,
    a_replayed_delivery_starts_its_deadline_and_its_back_off_again,
    a_late_settlement_of_before_the_replay_changes_nothing,
    a_dropped_dead_letter_stays_dropped_and_visible,
    a_replay_leaves_room_for_new_messages,
    a_time_far_away_is_no_problem,
);

pub(super) fn filter(json: &str) -> Filter {
    serde_json::from_str(json).unwrap()
}

pub(super) fn replay_of(json: &str) -> Replay {
    Replay {
        filter: filter(json),
        to: None,
    }
}

pub(super) async fn accept_as(
    store: &Arc<dyn Store>,
    id: &str,
    event_type: &str,
    second: i64,
    destinations: &[&str],
) {
    let message = Message {
        event_type: Some(event_type.into()),
        ..message(id, at(second))
    };
    let destinations = destinations.iter().map(|&name| name.into()).collect();
    store.accept(message, destinations).await.unwrap();
}

/// Claims due deliveries of `destination` and settles them.
pub(super) async fn settle_all(
    store: &Arc<dyn Store>,
    destination: &str,
    second: i64,
    next: Next,
) -> usize {
    let mut settled = 0;
    for lane in Lane::ALL {
        let claimed = store
            .claim(destination, lane, at(second), LEASE, 100_000)
            .await
            .unwrap();
        settled += claimed.deliveries.len();
        for delivery in claimed.deliveries {
            let attempt = Attempt {
                answer: "HTTP 500".into(),
                ..attempt(delivery.id, delivery.attempt, at(second), next)
            };
            assert_eq!(store.settle(attempt).await.unwrap(), Settled::Settled);
        }
    }
    settled
}

pub(super) async fn due(store: &Arc<dyn Store>, destination: &str, second: i64) -> Vec<String> {
    let mut ids = Vec::new();
    for lane in Lane::ALL {
        let claimed = store
            .claim(destination, lane, at(second), LEASE, 100_000)
            .await
            .unwrap();
        ids.extend(
            claimed
                .deliveries
                .into_iter()
                .map(|delivery| delivery.message.webhook_id),
        );
    }
    ids.sort();
    ids
}

async fn step(
    store: &Arc<dyn Store>,
    replay: &Replay,
    token: &str,
    second: i64,
    limit: usize,
) -> ReplayStep {
    let run = ReplayRun {
        replay: replay.clone(),
        token: token.parse().unwrap(),
        as_of: None,
        limit,
    };
    store.replay(&run, at(second).into()).await.unwrap()
}

/// Runs all steps of a replay.
pub(super) async fn run(
    store: &Arc<dyn Store>,
    replay: &Replay,
    token: &str,
    second: i64,
) -> Counts {
    loop {
        match step(store, replay, token, second, 3).await {
            ReplayStep::More(_) => {}
            ReplayStep::Done(replayed) => return replayed.counts,
            ReplayStep::Ended(_) | ReplayStep::AnotherReplay => panic!("{token}"),
        }
    }
}

pub(super) async fn found(store: &Arc<dyn Store>, json: &str) -> Vec<String> {
    let page = Page::new(None, 500);
    let found = store
        .list_messages(&filter(json), at(0), page)
        .await
        .unwrap();
    assert_eq!(found.next, None);
    ids(&found)
}

pub(super) fn ids(found: &MessagePage) -> Vec<String> {
    found
        .messages
        .iter()
        .map(|kept| kept.webhook_id.clone())
        .collect()
}

/// Three messages for `app`: delivered, dead, waiting; one without a destination.
async fn four(place: &dyn Place) -> Arc<dyn Store> {
    let store = place.open().await;
    accept_as(&store, "wh_delivered", "batch.completed", 1, &["app"]).await;
    settle_all(&store, "app", 10, Next::Delivered).await;
    accept_as(&store, "wh_dead", "batch.failed", 2, &["app"]).await;
    settle_all(&store, "app", 11, Next::Dead).await;
    accept_as(&store, "wh_waiting", "batch.expired", 3, &["app"]).await;
    accept_as(&store, "wh_unwanted", "batch.expired", 4, &[]).await;
    store
}

async fn a_plan_whose_time_is_over_counts_some_and_selects_all(place: &dyn Place) {
    const MESSAGES: usize = 1_500;
    let store = place.open().await;
    for first in (0..MESSAGES).step_by(500) {
        let mut accepted = JoinSet::new();
        for number in first..first + 500 {
            let store = Arc::clone(&store);
            let id = format!("wh_{number}");
            accepted.spawn(async move {
                accept_as(&store, &id, "batch.failed", 1, &["app"]).await;
            });
        }
        accepted.join_all().await;
    }
    let everything = Replay::default();
    let whole = store.plan(&everything, at(2)).await.unwrap();
    assert_eq!(whole.counts.waiting, MESSAGES as u64);
    let in_time = store
        .plan_within(&everything, at(2), Duration::from_secs(3_600))
        .await
        .unwrap();
    assert!(in_time.is_whole);
    assert_eq!(in_time.plan, whole);
    let some = store
        .plan_within(&everything, at(2), Duration::ZERO)
        .await
        .unwrap();
    assert!(!some.is_whole);
    assert_eq!(some.plan.as_of, whole.as_of);
    let counted = some.plan.counts.waiting;
    assert!(0 < counted && counted < MESSAGES as u64, "{counted}");
}

async fn a_plan_counts_and_changes_nothing(place: &dyn Place) {
    let store = four(place).await;
    accept_as(&store, "wh_call", "live.call.incoming", 5, &["app"]).await;
    let call = store
        .claim("app", Lane::Call, at(6), LEASE, 1)
        .await
        .unwrap();
    super::settle(&store, call.deliveries[0].id, 1, Next::Dead).await;
    let tally = store.tally().await;

    let plan = store
        .plan(
            &replay_of(r#"{"webhook_id":["wh_dead","wh_none"]}"#),
            at(20),
        )
        .await
        .unwrap();
    assert_eq!(plan.unknown, ["wh_none"]);
    assert_eq!(plan.counts.deliveries, 1);
    let plan = store.plan(&Replay::default(), at(20)).await.unwrap();
    let expected = Plan {
        unrouted: 0,
        as_of: AsOf {
            at: at(20),
            newest: plan.as_of.newest,
        },
        counts: Counts {
            messages: 3,
            deliveries: 3,
            calls: 1,
            waiting: 1,
            gone: 0,
        },
        oldest: Some(at(1)),
        newest: Some(at(5)),
        destinations: [("app".to_owned(), 3)].into(),
        unknown: vec![],
    };
    assert_eq!(plan, expected);
    assert_eq!(store.tally().await, tally);
    assert_eq!(due(&store, "app", 20).await, ["wh_waiting"]);
}

async fn a_replay_makes_ended_and_waiting_deliveries_due_and_leaves_leased_ones(place: &dyn Place) {
    let store = four(place).await;
    accept_as(&store, "wh_leased", "batch.expired", 5, &["app"]).await;
    let claimed = claim_up_to(&store, 20, 2).await;
    let leased = &claimed.deliveries[1];
    assert_eq!(leased.message.webhook_id, "wh_leased");
    let waiting = &claimed.deliveries[0];
    super::settle(
        &store,
        waiting.id,
        waiting.attempt,
        Next::Retry { due_at: at(90) },
    )
    .await;

    let ReplayStep::Done(replayed) = step(&store, &Replay::default(), "t1", 30, 500).await else {
        panic!("it has more");
    };
    let counts = Counts {
        messages: 2,
        deliveries: 2,
        waiting: 2,
        ..Counts::default()
    };
    let app = ("app".to_owned(), Lane::Standard);
    assert_eq!(
        replayed,
        Replayed {
            counts,
            due: [app].into()
        }
    );
    assert_eq!(
        due(&store, "app", 29).await,
        [""; 0],
        "not before it was replayed"
    );
    assert_eq!(
        due(&store, "app", 30).await,
        ["wh_dead", "wh_delivered", "wh_waiting"]
    );
    assert_eq!(
        super::settle(&store, leased.id, 1, Next::Delivered).await,
        Settled::Settled
    );
    assert_eq!(store.tally().await.pending, 3);
}

async fn the_same_token_twice_delivers_once(place: &dyn Place) {
    let store = four(place).await;
    let first = run(&store, &replay_of(r#"{"status":["dead"]}"#), "t1", 20).await;
    assert_eq!(first.deliveries, 1);
    assert_eq!(due(&store, "app", 20).await, ["wh_dead", "wh_waiting"]);
    assert_eq!(settle_all(&store, "app", 100, Next::Dead).await, 2);
    let second = run(&store, &replay_of(r#"{"status":["dead"]}"#), "t1", 200).await;
    assert_eq!(second, first);
    assert_eq!(due(&store, "app", 1000).await, [""; 0]);
    assert_eq!(
        run(&store, &replay_of(r#"{"status":["dead"]}"#), "t2", 200)
            .await
            .deliveries,
        2
    );
}

async fn a_token_that_was_used_for_something_else_is_refused(place: &dyn Place) {
    let store = four(place).await;
    let dead = replay_of(r#"{"status":["dead"]}"#);
    run(&store, &dead, "t1", 20).await;
    let elsewhere = Replay {
        to: Some("audit".into()),
        ..dead.clone()
    };
    for other in [Replay::default(), elsewhere] {
        assert_eq!(
            step(&store, &other, "t1", 21, 9).await,
            ReplayStep::AnotherReplay
        );
    }
    assert_eq!(due(&store, "audit", 30).await, [""; 0]);
}

async fn a_replay_goes_on_where_it_was_after_opening_again(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..10 {
        accept_as(&store, &format!("wh_{number}"), "batch.failed", 1, &["app"]).await;
    }
    settle_all(&store, "app", 2, Next::Delivered).await;
    let step = step(&store, &Replay::default(), "t1", 10, 4).await;
    let ReplayStep::More(replayed) = step else {
        panic!("{step:?}")
    };
    assert_eq!(replayed.counts.deliveries, 4);
    assert_eq!(settle_all(&store, "app", 11, Next::Delivered).await, 4);
    store.close().await;
    drop(store);

    let store = place.open().await;
    assert_eq!(
        run(&store, &Replay::default(), "t1", 20).await.deliveries,
        10
    );
    assert_eq!(
        due(&store, "app", 20).await,
        ["wh_4", "wh_5", "wh_6", "wh_7", "wh_8", "wh_9"]
    );
}

pub(super) async fn a_replay_requested_by_many_at_once_delivers_once(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..40 {
        accept_as(&store, &format!("wh_{number}"), "batch.failed", 1, &["app"]).await;
    }
    settle_all(&store, "app", 2, Next::Delivered).await;
    let mut runs = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        runs.spawn(async move { run(&store, &Replay::default(), "t1", 10).await });
    }
    for counts in runs.join_all().await {
        assert_eq!(counts.deliveries, 40);
    }
    assert_eq!(store.tally().await.pending, 40);
    assert_eq!(settle_all(&store, "app", 10, Next::Delivered).await, 40);
}

async fn a_delivery_that_dies_again_is_not_replayed_again_by_the_same_token(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..4 {
        accept_as(&store, &format!("wh_{number}"), "batch.failed", 1, &["app"]).await;
    }
    settle_all(&store, "app", 2, Next::Dead).await;
    let dead = replay_of(r#"{"status":["dead"]}"#);
    loop {
        let step = step(&store, &dead, "t1", 10, 1).await;
        settle_all(&store, "app", 10, Next::Dead).await;
        if let ReplayStep::Done(replayed) = step {
            assert_eq!(replayed.counts.deliveries, 4);
            return;
        }
    }
}

async fn a_message_that_arrives_after_the_plan_or_the_beginning_takes_no_part(place: &dyn Place) {
    let store = four(place).await;
    let everything = Replay::default();
    let plan = store.plan(&everything, at(20)).await.unwrap();
    accept_as(&store, "wh_after_the_plan", "batch.failed", 1, &["app"]).await;
    settle_all(&store, "app", 21, Next::Dead).await;
    let planned = ReplayRun {
        replay: everything.clone(),
        token: "t1".parse().unwrap(),
        as_of: Some(plan.as_of),
        limit: 1,
    };
    let planned = store.replay(&planned, at(22).into()).await.unwrap();
    assert!(matches!(planned, ReplayStep::More(_)), "{planned:?}");
    let begun = step(&store, &everything, "t2", 22, 1).await;
    assert!(matches!(begun, ReplayStep::More(_)), "{begun:?}");
    accept_as(
        &store,
        "wh_after_the_beginning",
        "batch.failed",
        1,
        &["app"],
    )
    .await;
    settle_all(&store, "app", 23, Next::Dead).await;

    run(&store, &everything, "t1", 24).await;
    let t1 = due(&store, "app", 24).await;
    assert!(!t1.contains(&"wh_after_the_plan".to_owned()), "{t1:?}");
    run(&store, &everything, "t2", 25).await;
    assert_eq!(due(&store, "app", 25).await, ["wh_after_the_plan"]);
}

async fn ages_count_from_the_first_use_of_the_token(place: &dyn Place) {
    let store = place.open().await;
    for second in [0, 10, 20] {
        accept_as(
            &store,
            &format!("wh_{second}"),
            "batch.failed",
            second,
            &["app"],
        )
        .await;
    }
    settle_all(&store, "app", 30, Next::Dead).await;
    let recent = replay_of(r#"{"since":"15s"}"#);
    let first = step(&store, &recent, "t1", 25, 1).await;
    assert!(matches!(first, ReplayStep::More(_)), "{first:?}");
    run(&store, &recent, "t1", 4000).await;
    assert_eq!(due(&store, "app", 5000).await, ["wh_10", "wh_20"]);
}

async fn a_destination_that_is_newer_than_a_message_gets_its_own_delivery(place: &dyn Place) {
    let store = four(place).await;
    let to_audit = Replay {
        to: Some("audit".into()),
        filter: Filter::default(),
    };
    let plan = store.plan(&to_audit, at(20)).await.unwrap();
    assert_eq!(plan.destinations, [("audit".to_owned(), 4)].into());
    assert_eq!(run(&store, &to_audit, "t1", 20).await, plan.counts);
    assert_eq!(due(&store, "app", 20).await, ["wh_waiting"]);
    assert_eq!(settle_all(&store, "audit", 100, Next::Delivered).await, 4);
    assert_eq!(run(&store, &to_audit, "t1", 200).await, plan.counts);
    assert_eq!(due(&store, "audit", 200).await, [""; 0]);

    let dead = Replay {
        to: Some("spare".into()),
        filter: filter(r#"{"status":["dead"]}"#),
    };
    assert_eq!(run(&store, &dead, "t2", 200).await.deliveries, 1);
    assert_eq!(due(&store, "spare", 200).await, ["wh_dead"]);
}

async fn a_replayed_delivery_starts_its_deadline_and_its_back_off_again(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "batch.failed", 1, &["app"]).await;
    settle_all(&store, "app", 2, Next::Retry { due_at: at(3) }).await;
    settle_all(&store, "app", 4, Next::Dead).await;
    run(&store, &Replay::default(), "t1", 500).await;
    let claimed = claim_up_to(&store, 500, 1).await;
    let delivery = &claimed.deliveries[0];
    assert_eq!((delivery.attempt, delivery.uncounted_attempts), (3, 2));
    assert_eq!(delivery.since, at(500));
}

async fn a_late_settlement_of_before_the_replay_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    accept_as(&store, "wh_1", "batch.failed", 1, &["app"]).await;
    let late = claim_up_to(&store, 1, 1).await;
    settle_all(&store, "app", 100, Next::Dead).await;
    run(&store, &Replay::default(), "t1", 200).await;
    let late = late.deliveries[0].id;
    assert_eq!(
        super::settle(&store, late, 1, Next::Delivered).await,
        Settled::Fenced
    );
    assert_eq!(due(&store, "app", 200).await, ["wh_1"]);
}

pub(super) async fn a_dropped_dead_letter_stays_dropped_and_visible(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..7 {
        let destination = if number == 6 { "audit" } else { "app" };
        accept_as(
            &store,
            &format!("wh_{number}"),
            "batch.failed",
            number,
            &[destination],
        )
        .await;
    }
    settle_all(&store, "app", 10, Next::Dead).await;
    settle_all(&store, "audit", 10, Next::Dead).await;
    let as_of = store.plan(&Replay::default(), at(20)).await.unwrap().as_of;
    accept_as(&store, "wh_later", "batch.failed", 21, &["app"]).await;
    settle_all(&store, "app", 22, Next::Dead).await;

    let mut drop_run = DropRun {
        filter: filter(r#"{"destination":["app"]}"#),
        as_of,
        after: None,
        limit: 2,
    };
    let mut dropped = 0;
    loop {
        let step = store.drop_dead(&drop_run, at(30)).await.unwrap();
        dropped += step.deliveries;
        assert!(step.deliveries <= 2);
        drop_run.after = step.next;
        if drop_run.after.is_none() {
            break;
        }
    }
    assert_eq!(dropped, 6);
    assert_eq!(store.tally().await.dead, 2);
    let destination_counts = store.destination_counts().await.unwrap();
    let dead = destination_counts
        .iter()
        .map(|standing| (standing.destination.as_str(), standing.dead));
    assert_eq!(dead.collect::<Vec<_>>(), [("app", 1), ("audit", 1)]);
    store.close().await;
    drop(store);

    let store = place.open().await;
    drop_run.limit = 100;
    let again = store.drop_dead(&drop_run, at(31)).await.unwrap();
    assert_eq!(again.deliveries, 0);
    assert_eq!(
        found(&store, r#"{"status":["dead"]}"#).await,
        ["wh_later", "wh_6"]
    );
    let kept = store.get_message("wh_0", false).await.unwrap().remove(0);
    assert_eq!(kept.deliveries[0].status, Status::Dropped);
    assert_eq!(kept.deliveries[0].at, at(30));
    assert_eq!(
        run(&store, &Replay::default(), "t1", 40).await.deliveries,
        2
    );
    let asked_for = replay_of(r#"{"status":["dropped"],"webhook_id":["wh_0"]}"#);
    assert_eq!(run(&store, &asked_for, "t2", 40).await.deliveries, 1);
    assert_eq!(due(&store, "app", 40).await, ["wh_0", "wh_later"]);
}

#[tokio::test]
async fn messages_without_payload_are_counted_and_not_replayed() {
    let place = SqlitePlace::new();
    let store = four(&place).await;
    let connection = rusqlite::Connection::open(place.0.path().join("store.db")).unwrap();
    let removed = connection
        .execute(
            "DELETE FROM payload WHERE seq = (SELECT seq FROM message WHERE webhook_id = 'wh_dead')",
            (),
        )
        .unwrap();
    assert_eq!(removed, 1);
    let expected = Counts {
        messages: 1,
        deliveries: 1,
        waiting: 1,
        gone: 1,
        calls: 0,
    };
    assert_eq!(
        store.plan(&Replay::default(), at(20)).await.unwrap().counts,
        expected
    );
    assert_eq!(run(&store, &Replay::default(), "t1", 20).await, expected);
    assert_eq!(due(&store, "app", 20).await, ["wh_delivered", "wh_waiting"]);
    assert_eq!(
        store.get_message("wh_dead", true).await.unwrap()[0].bytes,
        None
    );
}

async fn a_replay_leaves_room_for_new_messages(place: &dyn Place) {
    let bounds = Bounds {
        undelivered_max: 10,
        ..Bounds::default()
    };
    let store = place.open_within(&bounds).await;
    for number in 0..8 {
        accept_as(&store, &format!("wh_{number}"), "batch.failed", 1, &["app"]).await;
    }
    settle_all(&store, "app", 2, Next::Dead).await;
    let replay = Replay::default();
    let run_of_all = ReplayRun {
        replay: replay.clone(),
        token: "t1".parse().unwrap(),
        as_of: None,
        limit: 100,
    };
    let first = store.replay(&run_of_all, at(3).into()).await.unwrap();
    let ReplayStep::More(replayed) = first else {
        panic!("{first:?}")
    };
    assert_eq!(replayed.counts.deliveries, 5);
    let full = store.replay(&run_of_all, at(3).into()).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    accept_as(&store, "wh_new", "batch.failed", 1, &["app"]).await;

    assert_eq!(settle_all(&store, "app", 4, Next::Delivered).await, 6);
    assert_eq!(run(&store, &replay, "t1", 5).await.deliveries, 8);
    assert_eq!(settle_all(&store, "app", 6, Next::Delivered).await, 3);
}

async fn a_time_far_away_is_no_problem(place: &dyn Place) {
    let store = place.open().await;
    super::accept(&store, "wh_1", 0).await;
    let page = Page::new(Some(i64::MAX), usize::MAX);
    let asked = filter(r#"{"since":"-009999-01-02T01:59:59Z","until":"9999-12-30T22:00:00Z"}"#);
    let found = store
        .list_messages(&asked, Timestamp::MAX, page)
        .await
        .unwrap();
    assert_eq!(ids(&found), ["wh_1"]);
}
