//! The stream of pipeline events: what happens is one event, and a subscriber delays nothing.

use jiff::{SignedDuration, Timestamp};
use openai_webhooks::EventType;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::timeout;
use unwrapd::delivery::Next;
use unwrapd::delivery::breaker::{CircuitChange, FAILURES_MAX};
use unwrapd::message::Message;
use unwrapd::pipeline_events::{PipelineEvent, Subscription};
use unwrapd::store::Accepted;

use crate::store_conformance::message;
use crate::support::application::{Answer, Application};
use crate::support::{APP_SECRET, OPENAI_SECRET, PATIENCE, TestGateway, Webhook, destination};

/// A subscriber that keeps all events that it has received.
pub(crate) struct Seen {
    events: Subscription,
    all: Vec<PipelineEvent>,
}

impl Seen {
    pub(crate) fn by(test: &TestGateway) -> Self {
        Self {
            events: test.gateway.events().subscribe(),
            all: Vec::new(),
        }
    }

    /// Waits for the next event of this name.
    pub(crate) async fn next(&mut self, name: &str) -> PipelineEvent {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("no event is missed");
                self.all.push(event.clone());
                if event.name() == name {
                    return event;
                }
            }
        };
        let next = timeout(PATIENCE, next).await;
        next.unwrap_or_else(|_| panic!("no event {name} in {:#?}", self.all))
    }

    /// All events of a gateway that has been stopped.
    pub(crate) async fn all(mut self, test: TestGateway) -> Vec<PipelineEvent> {
        test.stop().await;
        loop {
            match self.events.try_recv() {
                Ok(event) => self.all.push(event),
                Err(TryRecvError::Lagged(missed)) => panic!("{missed} events are missed"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return self.all,
            }
        }
    }
}

/// There must be as many events of each name.
#[track_caller]
pub(crate) fn assert_counts(events: &[PipelineEvent], expected: &[(&str, usize)]) {
    for (name, times) in expected {
        let events_of = events.iter().filter(|event| event.name() == *name);
        assert_eq!(events_of.count(), *times, "{name} in {events:#?}");
    }
}

#[tokio::test]
async fn a_forged_request_is_refused_once_and_stored_in_the_quarantine() {
    let test = TestGateway::start(vec![]).await;
    let mut seen = Seen::by(&test);
    let forged = Webhook::new("wh_1", EventType::BatchCompleted).forged();
    assert_eq!(test.post(&forged).await, 401);
    let PipelineEvent::Refused {
        endpoint,
        status,
        code,
        request,
        reason,
        ..
    } = seen.next("refused").await
    else {
        unreachable!()
    };
    assert_eq!((endpoint.as_deref(), status), (Some("production"), 401));
    assert_eq!((code, request), ("signature_mismatch", None));
    assert!(reason.contains("no signature matches"), "{reason}");
    let url = test.url("nowhere");
    let lost = test.client().post(url).send().await.unwrap();
    assert_eq!(lost.status(), 404);
    let PipelineEvent::Refused {
        endpoint,
        status,
        code,
        request,
        ..
    } = seen.next("refused").await
    else {
        unreachable!()
    };
    assert_eq!((endpoint, status, code), (None, 404, "no_such_path"));
    assert_eq!(request.as_deref(), Some("POST /webhooks/nowhere"));
    let all = seen.all(test).await;
    let expected = [
        ("received", 1),
        ("refused", 2),
        ("quarantined", 1),
        ("verified", 0),
        ("accepted", 0),
    ];
    assert_counts(&all, &expected);
}

#[tokio::test]
async fn a_webhook_is_accepted_once_and_its_copy_is_a_duplicate() {
    let (_app, test) = TestGateway::with_app([]).await;
    let mut seen = Seen::by(&test);
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);
    seen.next("settled").await;
    assert_eq!(test.post(&webhook).await, 200);
    let all = seen.all(test).await;
    let accepted: Vec<_> = all
        .iter()
        .filter_map(|event| match event {
            PipelineEvent::Accepted {
                webhook_id,
                event_type,
                accepted,
                destinations,
                ..
            } => Some((&**webhook_id, &**event_type, *accepted, &**destinations)),
            _ => None,
        })
        .collect();
    let destinations = &["app".to_owned()][..];
    let event = |accepted| ("wh_1", "batch.completed", accepted, destinations);
    assert_eq!(
        accepted,
        [event(Accepted::New), event(Accepted::Duplicate)],
        "{all:#?}"
    );
    let expected = [
        ("received", 2),
        ("verified", 2),
        ("claimed", 1),
        ("attempt_ended", 1),
        ("settled", 1),
    ];
    assert_counts(&all, &expected);
}

#[tokio::test]
async fn each_attempt_ends_once_and_is_settled_once() {
    let (_app, test) = TestGateway::with_app([Answer::Status(500), Answer::Status(503)]).await;
    let mut seen = Seen::by(&test);
    test.receive("wh_1", EventType::BatchCompleted).await;
    for (number, status, is_last) in [(1, 500, false), (2, 503, false), (3, 200, true)] {
        let PipelineEvent::AttemptEnded {
            webhook_id,
            destination,
            attempt,
            answer,
            status: answer_status,
            next,
            retry_in,
            ..
        } = seen.next("attempt_ended").await
        else {
            unreachable!()
        };
        assert_eq!((&*webhook_id, &*destination), ("wh_1", "app"));
        assert_eq!(attempt, number);
        assert!(answer.starts_with(&format!("HTTP {status}")), "{answer}");
        assert_eq!(answer_status, Some(status));
        assert_eq!(next == Next::Delivered, is_last);
        assert_eq!(retry_in.is_some(), !is_last);
        let PipelineEvent::Settled { attempt, next, .. } = seen.next("settled").await else {
            unreachable!()
        };
        assert_eq!((attempt, next == Next::Delivered), (number, is_last));
    }
    let all = seen.all(test).await;
    assert_counts(
        &all,
        &["claimed", "attempt_ended", "settled"].map(|name| (name, 3)),
    );
}

#[tokio::test]
async fn a_circuit_opens_once_and_closes_once() {
    let failures = usize::try_from(FAILURES_MAX).unwrap();
    let app = Application::start(vec![Answer::Status(500); failures]).await;
    let mut settings = destination("app", &app.url);
    settings.limits.concurrency = 1;
    let test = TestGateway::start(vec![settings]).await;
    let mut seen = Seen::by(&test);
    for number in 0..failures {
        test.receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    for expected in [CircuitChange::Opens, CircuitChange::Closes] {
        let PipelineEvent::CircuitChanged {
            destination,
            change,
            answer,
        } = seen.next("circuit_changed").await
        else {
            unreachable!()
        };
        assert_eq!((&*destination, change), ("app", expected));
        assert!(answer.unwrap().starts_with("HTTP "));
    }
    let all = seen.all(test).await;
    assert_counts(&all, &[("circuit_changed", 2)]);
    // Each follows the attempt that caused it. The store and the port emit events meanwhile.
    let of_dispatch = ["claimed", "attempt_ended", "circuit_changed"];
    let names = all.iter().map(PipelineEvent::name);
    let names: Vec<_> = names.filter(|name| of_dispatch.contains(name)).collect();
    for pair in names.windows(2) {
        assert!(
            pair[1] != "circuit_changed" || pair[0] == "attempt_ended",
            "{all:#?}"
        );
    }
}

#[tokio::test]
async fn a_pause_and_a_resumption_are_one_event_each_despite_repeated_requests() {
    let (_app, test) = TestGateway::with_app([]).await;
    let seen = Seen::by(&test);
    for verb in ["pause", "pause", "resume", "resume"] {
        test.switch_app(verb).await;
    }
    let all = seen.all(test).await;
    assert_counts(&all, &[("paused", 1), ("resumed", 1)]);
}

#[tokio::test]
async fn a_call_that_is_too_old_expires_once_without_an_attempt() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let mut seen = Seen::by(&test);
    test.switch_app("pause").await;
    let arrived = Timestamp::now() - SignedDuration::from_secs(11);
    let call = Message {
        event_type: Some("realtime.call.incoming".into()),
        ..message("wh_1", arrived)
    };
    let store = test.gateway.store();
    store.accept(call, vec!["app".into()]).await.unwrap();
    test.switch_app("resume").await;
    let PipelineEvent::Settled { next, .. } = seen.next("settled").await else {
        unreachable!()
    };
    assert_eq!(next, Next::Dead);
    let all = seen.all(test).await;
    assert_counts(&all, &[("expired", 1), ("attempt_ended", 0)]);
    assert!(!app.has_more());
}

#[tokio::test]
async fn a_store_that_refuses_and_recovers_says_so_once_each() {
    let test = TestGateway::start(vec![]).await;
    let mut seen = Seen::by(&test);
    // Another program locks the database for longer than the store waits.
    let lock = rusqlite::Connection::open(test.folder.path().join("unwrapd.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..2 {
        let webhook = Webhook::new(&format!("wh_{number}"), EventType::BatchCompleted);
        assert_eq!(test.post(&webhook).await, 503);
    }
    lock.execute_batch("ROLLBACK").unwrap();
    let webhook = Webhook::new("wh_0", EventType::BatchCompleted);
    let accepted = async { while test.post(&webhook).await != 200 {} };
    timeout(PATIENCE, accepted).await.expect("it is accepted");
    seen.next("store_recovered").await;
    let refusing = |event: &&PipelineEvent| match event {
        PipelineEvent::StoreRefusing { reason } => reason.contains("cannot use "),
        _ => false,
    };
    let written = |event: &&PipelineEvent| match event {
        PipelineEvent::StoreRecovered { reason } => reason.contains("can be written again"),
        _ => false,
    };
    let all = seen.all(test).await;
    assert_eq!(all.iter().filter(refusing).count(), 1, "{all:#?}");
    assert_eq!(all.iter().filter(written).count(), 1, "{all:#?}");
}

/// Otherwise one odd message would look like an outage of the store.
#[tokio::test]
async fn a_store_that_cannot_make_one_change_does_not_refuse_the_others() {
    let test = TestGateway::start(vec![]).await;
    let seen = Seen::by(&test);
    let store = rusqlite::Connection::open(test.folder.path().join("unwrapd.db")).unwrap();
    store
        .execute_batch(
            "CREATE TRIGGER odd BEFORE INSERT ON message WHEN NEW.webhook_id = 'wh_odd'
             BEGIN SELECT RAISE(ABORT, 'odd'); END",
        )
        .unwrap();
    for (id, status) in [("wh_odd", 503), ("wh_1", 200), ("wh_odd", 503)] {
        let webhook = Webhook::new(id, EventType::BatchCompleted);
        assert_eq!(test.post(&webhook).await, status, "{id}");
    }
    let all = seen.all(test).await;
    assert_counts(&all, &[("store_refusing", 0), ("store_recovered", 0)]);
}

#[tokio::test]
async fn a_subscriber_that_never_reads_delays_nothing_and_learns_how_much_it_missed() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let mut idle = test.gateway.events().subscribe();
    // Each is received, verified, accepted, claimed, attempted and settled.
    let webhooks: u64 = 300;
    for number in 0..webhooks {
        test.receive(&format!("wh_{number}"), EventType::BatchCompleted)
            .await;
    }
    for _ in 0..webhooks {
        app.next().await;
    }
    // All of this is done while it has read nothing.
    test.settled().await;
    assert!(!app.has_more());
    test.stop().await;
    let Err(TryRecvError::Lagged(missed)) = idle.try_recv() else {
        panic!("it is told that it missed events");
    };
    let mut left = 0;
    while idle.try_recv().is_ok() {
        left += 1;
    }
    // Each has six of its own, and shares commits with others.
    assert!(missed + left > 6 * webhooks, "{missed} + {left}");
    assert!(left <= 1024, "{left}");
}

#[tokio::test]
async fn no_event_holds_a_payload_a_secret_or_a_signature() {
    let (mut app, test) = TestGateway::with_app([Answer::Status(500)]).await;
    let mut seen = Seen::by(&test);
    let sample = EventType::ResponseFailed.sample();
    let genuine = Webhook::with_payload("wh_1", sample.replace("resp_abc123", "private-payload"));
    let mut forged = genuine.clone();
    forged.payload = forged.payload.replace("private", "changed");
    assert_eq!(test.post(&genuine).await, 200);
    assert_eq!(test.post(&forged).await, 401);
    let not_an_event = Webhook::with_payload("wh_2", r#"{"type": "private-payload"}"#);
    assert_eq!(test.post(&not_an_event).await, 200);
    let mut signatures = vec![genuine.headers.signature.clone()];
    for _ in 0..3 {
        let delivered = app.next().await;
        let signature = delivered.headers["webhook-signature"].to_str().unwrap();
        signatures.push(signature.to_owned());
        seen.next("settled").await;
    }
    let all = format!("{:?}", seen.all(test).await);
    let secrets = [OPENAI_SECRET, APP_SECRET].map(|secret| secret.trim_start_matches("whsec_"));
    let signatures = signatures
        .iter()
        .map(|signature| signature.trim_start_matches("v1,"));
    let hidden = ["private", "changed-payload"].into_iter();
    for hidden in hidden.chain(secrets).chain(signatures) {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
}
