//! Bulk runs: replays, and drops of dead letters, that gateways carry on.

use std::sync::Arc;

use tokio::task::JoinSet;
use unwrapd::delivery::Next;
use unwrapd::store::replay::{AsOf, Counts, Replay, ReplayRun, ReplayStep, Token};
use unwrapd::store::{
    BULK_RUNS_MAX, BulkAction, BulkBegun, BulkEnd, BulkRun, BulkStart, BulkState, Store,
};

use super::replay::{accept_as, due, found, replay_of, settle_all};
use super::{Place, PostgresPlace, SqlitePlace, at};

every_store!(;
    a_bulk_run_goes_on_where_it_was_after_opening_again,
    a_bulk_drop_by_many_at_once_drops_and_counts_each_dead_letter_once,
    a_stopped_run_changes_nothing_more,
    a_failed_run_shows_its_reason,
    few_runs_are_in_progress,
    gateways_carry_on_the_run_of_a_client,
    a_token_belongs_to_one_run,
);

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn start(name: &str, action: BulkAction, filter: &str) -> BulkStart {
    BulkStart {
        token: token(name),
        action,
        request: replay_of(filter),
        as_of: AsOf {
            at: at(20),
            newest: i64::MAX,
        },
        planned: Some(5),
    }
}

/// The replay of all messages under the token `t`, as a client makes it.
fn of_client(limit: usize) -> ReplayRun {
    ReplayRun {
        replay: Replay::default(),
        token: token("t"),
        as_of: None,
        limit,
    }
}

async fn begun(store: &Arc<dyn Store>, start: &BulkStart) -> BulkRun {
    match store.begin_bulk_run(start, at(20)).await.unwrap() {
        BulkBegun::Begun(run) => *run,
        other => panic!("{other:?}"),
    }
}

async fn step(store: &Arc<dyn Store>, name: &str) -> Option<ReplayStep> {
    let token = token(name);
    let step = store.bulk_step(&token, 2, at(21).into()).await;
    step.unwrap()
}

async fn finish(store: &Arc<dyn Store>, name: &str) -> Counts {
    loop {
        match step(store, name).await {
            Some(ReplayStep::More(_)) => {}
            Some(ReplayStep::Done(replayed)) => return replayed.counts,
            other => panic!("{other:?}"),
        }
    }
}

async fn run_of(store: &Arc<dyn Store>, name: &str) -> BulkRun {
    store.bulk_run(&token(name)).await.unwrap().unwrap()
}

/// The runs that this gateway carries on.
async fn taken(store: &Arc<dyn Store>) -> Vec<String> {
    let taken = store.take_bulk_runs().await.unwrap().into_iter();
    taken.map(|(token, _)| token.as_str().to_owned()).collect()
}

/// A store with five deliveries that have ended.
async fn five(place: &dyn Place, next: Next) -> Arc<dyn Store> {
    let store = place.open().await;
    for number in 0..5 {
        let id = format!("wh_{number}");
        accept_as(&store, &id, "batch.completed", number, &["app"]).await;
    }
    settle_all(&store, "app", 10, next).await;
    store
}

async fn a_bulk_run_goes_on_where_it_was_after_opening_again(place: &dyn Place) {
    let store = five(place, Next::Delivered).await;
    let asked = start("t", BulkAction::Replay, "{}");
    let run = begun(&store, &asked).await;
    assert_eq!(
        (run.state, run.is_background, run.planned, run.began_at),
        (BulkState::Running, true, Some(5), at(20))
    );
    assert_eq!(run.request, asked.request);
    let first = step(&store, "t").await;
    assert!(matches!(first, Some(ReplayStep::More(_))), "{first:?}");
    assert_eq!(run_of(&store, "t").await.counts.deliveries, 2);
    assert_eq!(taken(&store).await, ["t"]);
    store.close().await;
    drop(store);

    let store = place.open().await;
    let expected = (token("t"), BulkAction::Replay);
    assert_eq!(store.take_bulk_runs().await.unwrap(), [expected]);
    assert_eq!(finish(&store, "t").await.deliveries, 5);
    let run = run_of(&store, "t").await;
    assert_eq!((run.state, run.ended_at), (BulkState::Done, Some(at(21))));
    assert_eq!(begun(&store, &asked).await, run, "and it is not run again");
    assert_eq!(taken(&store).await, [""; 0]);
    assert_eq!(due(&store, "app", 30).await.len(), 5);
}

async fn a_bulk_drop_by_many_at_once_drops_and_counts_each_dead_letter_once(place: &dyn Place) {
    let store = five(place, Next::Dead).await;
    begun(
        &store,
        &start("t", BulkAction::Drop, r#"{"status":["dead"]}"#),
    )
    .await;
    // Died after the moment of the run.
    accept_as(&store, "wh_late", "batch.completed", 6, &["app"]).await;
    settle_all(&store, "app", 21, Next::Dead).await;
    let mut runs = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        runs.spawn(async move { finish(&store, "t").await });
    }
    for counts in runs.join_all().await {
        assert_eq!(counts.deliveries, 5);
    }
    assert_eq!(found(&store, r#"{"status":["dropped"]}"#).await.len(), 5);
    assert_eq!(found(&store, r#"{"status":["dead"]}"#).await, ["wh_late"]);
}

async fn a_stopped_run_changes_nothing_more(place: &dyn Place) {
    let store = five(place, Next::Delivered).await;
    begun(&store, &start("t", BulkAction::Replay, "{}")).await;
    step(&store, "t").await;
    let stopped = store
        .end_bulk_run(&token("t"), &BulkEnd::Stopped, at(22))
        .await;
    let stopped = stopped.unwrap().unwrap();
    assert_eq!(
        (stopped.state, stopped.counts.deliveries, stopped.ended_at),
        (BulkState::Stopped, 2, Some(at(22)))
    );
    for _ in 0..2 {
        match step(&store, "t").await {
            Some(ReplayStep::Ended(replayed)) => assert_eq!(replayed.counts, stopped.counts),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken(&store).await, [""; 0]);
    let run = of_client(9);
    let replayed = store.replay(&run, at(23).into()).await.unwrap();
    assert!(matches!(replayed, ReplayStep::Ended(_)), "{replayed:?}");
    assert_eq!(due(&store, "app", 30).await.len(), 2);

    // The first end counts, and an unknown token has none.
    let failed = BulkEnd::Failed("too late".into());
    let again = store.end_bulk_run(&token("t"), &failed, at(24)).await;
    assert_eq!(again.unwrap(), Some(stopped));
    let unknown = store
        .end_bulk_run(&token("u"), &BulkEnd::Stopped, at(24))
        .await;
    assert_eq!(unknown.unwrap(), None);
    assert_eq!(step(&store, "u").await, None);
}

async fn a_failed_run_shows_its_reason(place: &dyn Place) {
    let store = place.open().await;
    begun(&store, &start("t", BulkAction::Replay, "{}")).await;
    let failed = BulkEnd::Failed("it \"broke\"".into());
    store
        .end_bulk_run(&token("t"), &failed, at(22))
        .await
        .unwrap();
    let run = run_of(&store, "t").await;
    assert_eq!(run.state, BulkState::Failed);
    assert_eq!(run.reason.as_deref(), Some("it \"broke\""));
}

async fn few_runs_are_in_progress(place: &dyn Place) {
    let store = place.open().await;
    let asked = |number: usize| start(&format!("t{number}"), BulkAction::Replay, "{}");
    for number in 0..BULK_RUNS_MAX {
        begun(&store, &asked(number)).await;
    }
    let one_more = store.begin_bulk_run(&asked(9), at(20)).await.unwrap();
    assert_eq!(one_more, BulkBegun::TooMany);
    assert_eq!(store.bulk_run(&token("t9")).await.unwrap(), None);
    // One that runs already may be asked for again.
    begun(&store, &asked(0)).await;
    finish(&store, "t1").await;
    begun(&store, &asked(9)).await;
    let listed = store.list_bulk_runs(3).await.unwrap().into_iter();
    let listed: Vec<String> = listed.map(|run| String::from(run.token)).collect();
    assert_eq!(listed, ["t9", "t3", "t2"]);
    assert_eq!(taken(&store).await, ["t0", "t2", "t3", "t9"]);
}

async fn gateways_carry_on_the_run_of_a_client(place: &dyn Place) {
    let store = five(place, Next::Delivered).await;
    let run = of_client(2);
    let first = store.replay(&run, at(20).into()).await.unwrap();
    assert!(matches!(first, ReplayStep::More(_)), "{first:?}");
    let known = run_of(&store, "t").await;
    assert_eq!(
        (known.state, known.is_background, known.planned),
        (BulkState::Running, false, None)
    );
    assert_eq!(taken(&store).await, [""; 0]);
    let known = begun(&store, &start("t", BulkAction::Replay, "{}")).await;
    assert_eq!((known.is_background, known.planned), (true, Some(5)));
    assert_eq!(taken(&store).await, ["t"]);
    // Its client may go on beside them.
    store.replay(&run, at(21).into()).await.unwrap();
    assert_eq!(finish(&store, "t").await.deliveries, 5);
    assert_eq!(due(&store, "app", 30).await.len(), 5);
}

async fn a_token_belongs_to_one_run(place: &dyn Place) {
    let store = five(place, Next::Dead).await;
    let drops = start("t", BulkAction::Drop, r#"{"until":"1d"}"#);
    begun(&store, &drops).await;
    // As a time, its `until` is another one with each request.
    let again = start("t", BulkAction::Drop, r#"{"until":"2d"}"#);
    begun(&store, &again).await;
    for other in [
        start("t", BulkAction::Drop, r#"{"endpoint":["staging"]}"#),
        start("t", BulkAction::Replay, r#"{"until":"1d"}"#),
    ] {
        let refused = store.begin_bulk_run(&other, at(20)).await.unwrap();
        assert_eq!(refused, BulkBegun::AnotherRun);
    }
    let run = ReplayRun {
        replay: drops.request,
        token: token("t"),
        as_of: None,
        limit: 2,
    };
    let refused = store.replay(&run, at(21).into()).await.unwrap();
    assert_eq!(refused, ReplayStep::AnotherReplay);
}

#[tokio::test]
#[cfg_attr(
    not(feature = "server-tests"),
    ignore = "needs PostgreSQL: run scripts/test"
)]
async fn the_run_of_a_gateway_that_is_gone_is_taken_over_by_exactly_one() {
    let place = PostgresPlace::new();
    let place: &dyn Place = &place;
    let (one, two, three) = (place.open().await, place.open().await, place.open().await);
    begun(&one, &start("t", BulkAction::Replay, "{}")).await;
    for (store, expected) in [(&two, &[][..]), (&one, &["t"][..]), (&three, &[][..])] {
        assert_eq!(taken(store).await, expected);
    }
    one.close().await;
    let (by_two, by_three) = tokio::join!(taken(&two), taken(&three));
    assert_eq!(by_two.len() + by_three.len(), 1);
    for (store, before) in [(&two, by_two), (&three, by_three)] {
        assert_eq!(taken(store).await, before);
    }
}
