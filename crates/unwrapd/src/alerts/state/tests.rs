use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A clock of the test.
struct Time(Now);

impl Time {
    fn start() -> Self {
        Self(Now {
            wall: Timestamp::UNIX_EPOCH,
            monotonic: Instant::now(),
        })
    }

    fn advance(&mut self, by: Duration) -> Now {
        self.0.wall += by;
        self.0.monotonic += by;
        self.0
    }
}

fn circuit(change: CircuitChange) -> PipelineEvent {
    PipelineEvent::CircuitChanged {
        destination: "app".into(),
        change,
        answer: Some("500".into()),
    }
}

fn dead(event_type: &str) -> PipelineEvent {
    PipelineEvent::Expired {
        webhook_id: "wh_1".into(),
        event_type: event_type.into(),
        destination: "app".into(),
        attempt: 1,
        repeats: None,
        trace: None,
    }
}

fn types(alerts: &[Alert]) -> Vec<AlertType> {
    alerts.iter().map(|alert| alert.kind).collect()
}

#[test]
fn a_destination_that_flaps_is_told_once_an_hour_and_at_last_as_it_is() {
    let (mut state, mut time) = (State::default(), Time::start());
    let mut told = Vec::new();
    // Down and up every minute for two hours, and down at the end.
    for minute in 0..=120 {
        let change = if minute % 2 == 0 {
            CircuitChange::Opens
        } else {
            CircuitChange::Closes
        };
        let now = time.advance(MINUTE);
        state.observe(&circuit(change), now);
        told.extend(state.take_due(now));
    }
    let downs = types(&told)
        .iter()
        .filter(|kind| **kind == AlertType::DestinationDown)
        .count();
    let ups = told.len() - downs;
    assert!(
        (2..=3).contains(&downs) && (2..=3).contains(&ups),
        "{told:#?}"
    );
    let now = time.advance(TELL_EVERY);
    told.extend(state.take_due(now));
    assert_eq!(told.last().unwrap().kind, AlertType::DestinationDown);
    assert_eq!(state.next_due(now), None);
}

/// Of two gateways, one finds a destination down, and the other finds it up again.
#[test]
fn a_change_is_told_by_the_gateway_that_found_it() {
    let (mut finder, mut prober) = (State::default(), State::default());
    let mut time = Time::start();
    let found_elsewhere = |change| PipelineEvent::CircuitChanged {
        destination: "app".into(),
        change,
        answer: None,
    };
    let now = time.advance(MINUTE);
    finder.observe(&circuit(CircuitChange::Opens), now);
    prober.observe(&found_elsewhere(CircuitChange::Opens), now);
    assert_eq!(types(&finder.take_due(now)), [AlertType::DestinationDown]);
    assert_eq!(prober.take_due(now), []);
    let now = time.advance(MINUTE);
    prober.observe(&circuit(CircuitChange::Closes), now);
    finder.observe(&found_elsewhere(CircuitChange::Closes), now);
    assert_eq!(types(&prober.take_due(now)), [AlertType::DestinationUp]);
    assert_eq!(finder.take_due(now), []);
}

#[test]
fn a_destination_that_a_reload_replaced_is_told_up_and_a_removed_one_is_not() {
    let (mut state, mut time) = (State::default(), Time::start());
    let now = time.advance(MINUTE);
    state.observe(&circuit(CircuitChange::Opens), now);
    assert_eq!(types(&state.take_due(now)), [AlertType::DestinationDown]);
    state.sync(&[("app".into(), true)].into(), now);
    assert_eq!(state.take_due(now), []);
    state.sync(&[("app".into(), false)].into(), now);
    assert_eq!(types(&state.take_due(now)), [AlertType::DestinationUp]);
    let now = time.advance(TELL_EVERY);
    state.observe(&circuit(CircuitChange::Opens), now);
    state.sync(&BTreeMap::new(), now);
    assert_eq!(state.take_due(now), []);
}

#[test]
fn dead_letters_within_an_hour_are_one_alert_with_their_number() {
    let (mut state, mut time) = (State::default(), Time::start());
    let now = time.advance(MINUTE);
    assert!(state.observe(&dead("realtime.call.incoming"), now));
    let first = state.take_due(now);
    assert_eq!(first[0].count, Some(1));
    for _ in 0..41 {
        let now = time.advance(MINUTE);
        state.observe(&dead("realtime.call.incoming"), now);
        assert_eq!(state.take_due(now), []);
    }
    let due = state.next_due(time.0).unwrap();
    let now = time.advance(due - time.0.monotonic);
    assert_eq!(state.take_due(now)[0].count, Some(41));
}

#[test]
fn what_waits_for_its_hour_is_due_when_the_gateway_stops() {
    let (mut state, mut time) = (State::default(), Time::start());
    state.set_silence([("production".into(), 10 * MINUTE)], time.0);
    for change in [CircuitChange::Opens, CircuitChange::Closes] {
        let now = time.advance(MINUTE);
        state.observe(&circuit(change), now);
        state.observe(&dead("batch.completed"), now);
        state.take_due(now);
    }
    let now = time.advance(MINUTE);
    state.observe(&circuit(CircuitChange::Opens), now);
    assert_eq!(state.take_due(now), []);
    state.end_waits();
    let due = state.take_due(now);
    assert_eq!(
        types(&due),
        [AlertType::DestinationDown, AlertType::DeliveryDead]
    );
    assert_eq!(due[1].count, Some(1));
}

#[test]
fn a_dead_letter_of_an_alert_makes_no_alert() {
    let (mut state, mut time) = (State::default(), Time::start());
    let now = time.advance(MINUTE);
    state.observe(&dead("unwrapd.destination.down"), now);
    assert_eq!(state.take_due(now), []);
}

#[test]
fn the_store_accepts_again_only_when_every_cause_is_gone() {
    let (mut state, mut time) = (State::default(), Time::start());
    let refusing = |reason: &str| PipelineEvent::StoreRefusing {
        reason: reason.into(),
    };
    let recovered = |reason: &str| PipelineEvent::StoreRecovered {
        reason: reason.into(),
    };
    let now = time.advance(MINUTE);
    state.observe(&refusing("the disk is full"), now);
    state.observe(&refusing("the disk does not answer"), now);
    assert_eq!(types(&state.take_due(now)), [AlertType::StoreRefusing]);
    state.observe(&recovered("the disk answers"), now);
    assert_eq!(state.take_due(now), []);
    state.observe(&recovered("the disk has room"), now);
    assert_eq!(types(&state.take_due(now)), [AlertType::StoreAccepting]);
}

#[test]
fn an_endpoint_is_silent_once_until_a_webhook_comes() {
    let (mut state, mut time) = (State::default(), Time::start());
    state.set_silence([("production".into(), 10 * MINUTE)], time.0);
    let begun = time.0.wall;
    let due = state.next_due(time.0).unwrap();
    let now = time.advance(due - time.0.monotonic);
    let silent = state.take_due(now);
    assert_eq!(types(&silent), [AlertType::EndpointSilent]);
    assert_eq!(silent[0].since, begun);
    let now = time.advance(600 * MINUTE);
    assert_eq!((state.take_due(now), state.next_due(now)), (vec![], None));
    let verified = PipelineEvent::Verified {
        endpoint: "production".into(),
        webhook_id: "wh_1".into(),
        event_type: "batch.completed".into(),
        lateness: None,
    };
    state.observe(&verified, now);
    assert_eq!(state.take_due(now), []);
    let now = time.advance(10 * MINUTE);
    assert_eq!(types(&state.take_due(now)), [AlertType::EndpointSilent]);
}
