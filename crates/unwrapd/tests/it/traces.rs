//! Traces by OTLP: one for each webhook, across retries, restarts and replays. Without a collector
//! nothing is lost but spans.

mod collector;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openai_webhooks::{EventType, Webhooks};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::time::Instant;
use unwrapd::config::{Config, DestinationSettings, TraceSettings};
use unwrapd::destinations::Kind;
use unwrapd::destinations::command::CommandSettings;
use unwrapd::pipeline_events::{PipelineEvent, SpanLoss};
use unwrapd::route::Patterns;
use unwrapd::store::QuarantinedRequest;

use crate::pipeline_events::{Seen, assert_counts};
use crate::support::application::{Answer, Application, Delivered};
use crate::support::process::{
    Serving, add_to_config, checked, destination_table, write_destinations,
};
use crate::support::{TestGateway, Webhook, client, destination, until};
use collector::{Answer as CollectorAnswer, Collector, Read as _, text};

/// Well below the 10 s after which `docker stop` kills.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Sets the traces of a configuration to this collector.
fn traced(collector: &Collector) -> impl FnOnce(&mut Config) {
    let settings = TraceSettings::new(collector.url.parse().unwrap());
    |config| config.traces = Some(settings)
}

async fn gateway(collector: &Collector, destinations: Vec<DestinationSettings>) -> TestGateway {
    TestGateway::configured(destinations, traced(collector)).await
}

fn webhook(id: &str) -> Webhook {
    Webhook::new(id, EventType::ResponseCompleted)
}

/// The ids of the trace and of the root of a webhook at `production`.
fn ids(webhook_id: &str) -> (Vec<u8>, Vec<u8>) {
    let hash = Sha256::digest(format!("production/{webhook_id}"));
    (hash[..16].to_vec(), hash[16..24].to_vec())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn traceparent(delivered: &Delivered) -> &str {
    delivered.headers["traceparent"].to_str().unwrap()
}

/// The `traceparent` of what a span calls.
fn traceparent_of(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

#[tokio::test]
async fn a_webhook_is_one_trace_of_its_request_and_its_attempt() {
    let mut collector = Collector::start([]).await;
    let mut app = Application::start([]).await;
    let test = gateway(&collector, vec![destination("app", &app.url)]).await;
    let before = unix_nano();
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    let delivered = app.next().await;
    let posted = collector.next().await;
    assert_eq!(posted.headers["content-type"], "application/x-protobuf");
    let resource = posted.request.resource_spans[0].resource.clone().unwrap();
    let about = |key| text(&resource.attributes, key);
    assert_eq!(about("service.name"), "unwrapd");
    assert_eq!(about("service.version"), env!("CARGO_PKG_VERSION"));
    let port = test.gateway.public().port();
    assert!(about("service.instance.id").ends_with(&format!(":{port}")));
    collector.wait_for(4).await;
    test.stop().await;
    let after = unix_nano();

    let spans = collector.spans();
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let (trace, root) = ids("wh_1");
    for span in &spans {
        assert_eq!(span.trace_id, trace, "{span:#?}");
        assert!(!span.is_error(), "{span:#?}");
        assert!(before <= span.start_time_unix_nano, "{span:#?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.end_time_unix_nano <= after, "{span:#?}");
    }
    let one = |name: &str| named(&spans, name)[0];
    let [receive, verify, commit, attempt] =
        ["receive production", "verify", "commit", "attempt app"].map(one);
    assert_eq!(receive.span_id, root);
    assert!(receive.parent_span_id.is_empty());
    for child in [verify, commit, attempt] {
        assert_eq!(child.parent_span_id, root, "{child:#?}");
        assert_ne!(child.span_id, root);
    }
    let order = [
        receive.start_time_unix_nano,
        verify.start_time_unix_nano,
        verify.end_time_unix_nano,
        commit.start_time_unix_nano,
        commit.end_time_unix_nano,
        receive.end_time_unix_nano,
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert!(commit.start_time_unix_nano <= attempt.start_time_unix_nano);

    assert_eq!(receive.kind(), SpanKind::Server);
    assert_eq!(attempt.kind(), SpanKind::Client);
    for (span, key, value) in [
        (receive, "unwrapd.endpoint", "production"),
        (receive, "unwrapd.webhook_id", "wh_1"),
        (receive, "unwrapd.event_type", "response.completed"),
        (receive, "unwrapd.resource", "resp_abc123"),
        (receive, "unwrapd.destinations", "app"),
        (receive, "unwrapd.outcome", "new"),
        (receive, "http.request.method", "POST"),
        (receive, "http.response.status_code", "200"),
        (attempt, "unwrapd.destination", "app"),
        (attempt, "unwrapd.webhook_id", "wh_1"),
        (attempt, "unwrapd.attempt", "1"),
        (attempt, "unwrapd.lane", "standard"),
        (attempt, "unwrapd.outcome", "delivered"),
        (attempt, "http.request.method", "POST"),
        (attempt, "http.response.status_code", "200"),
        (attempt, "server.address", "127.0.0.1"),
    ] {
        assert_eq!(span.attribute(key), value, "{key}");
    }
    // The application continues the trace below the attempt.
    assert_eq!(traceparent(&delivered), traceparent_of(attempt));
}

#[tokio::test]
async fn a_failed_attempt_is_an_error_and_the_next_one_a_span_of_its_own() {
    let mut collector = Collector::start([]).await;
    let mut app = Application::start([Answer::Status(500)]).await;
    let test = gateway(&collector, vec![destination("app", &app.url)]).await;
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    let delivered = [app.next().await, app.next().await];
    test.settled().await;
    test.stop().await;
    let spans = collector.spans();
    let attempts = named(&spans, "attempt app");
    let [failed, last] = attempts[..] else {
        panic!("{attempts:#?}");
    };
    assert!(failed.is_error() && !last.is_error());
    assert_eq!(failed.status.as_ref().unwrap().message, "HTTP 500");
    assert_eq!(failed.attribute("error.type"), "500");
    assert_eq!(failed.attribute("http.response.status_code"), "500");
    assert_eq!(failed.attribute("unwrapd.outcome"), "retry");
    assert_eq!(last.attribute("unwrapd.attempt"), "2");
    assert!(failed.end_time_unix_nano <= last.start_time_unix_nano);
    for (attempt, delivered) in attempts.iter().zip(&delivered) {
        assert_eq!(attempt.parent_span_id, ids("wh_1").1);
        assert_eq!(traceparent(delivered), traceparent_of(attempt));
    }
}

#[tokio::test]
async fn a_trace_goes_on_after_a_restart_and_in_a_replay() {
    let mut collector = Collector::start([]).await;
    let mut app = Application::start([]).await;
    let destinations = || vec![destination("app", &app.url)];
    let test = gateway(&collector, destinations()).await;
    test.switch_app("pause").await;
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    let folder = test.stop().await;
    // A stop exports what has ended.
    assert_eq!(collector.spans().len(), 3);

    let test = TestGateway::configured_in(folder, destinations(), traced(&collector)).await;
    test.switch_app("resume").await;
    let first = app.next().await;
    test.settled().await;
    let replay = json!({"filter": {}, "token": "t1"});
    assert_eq!(test.ask("replays", &replay).await.0, 200);
    let again = app.next().await;
    test.settled().await;
    test.stop().await;
    let spans = collector.spans();
    let (trace, root) = ids("wh_1");
    assert!(spans.iter().all(|span| span.trace_id == trace));
    assert_eq!(named(&spans, "receive production")[0].span_id, root);
    let attempts = named(&spans, "attempt app");
    assert_eq!(attempts.len(), 2, "{spans:#?}");
    for (attempt, delivered) in attempts.iter().zip([&first, &again]) {
        assert_eq!(attempt.parent_span_id, root);
        assert_eq!(traceparent(delivered), traceparent_of(attempt));
    }
    assert_ne!(attempts[0].span_id, attempts[1].span_id);
}

/// Otherwise anyone could write into the trace of a webhook whose id they know.
#[tokio::test]
async fn a_refused_request_has_no_span_and_a_copy_has_its_own() {
    let mut collector = Collector::start([]).await;
    let test = gateway(&collector, vec![]).await;
    let mut forged = webhook("wh_1");
    forged.payload.push(' ');
    assert_eq!(test.post(&forged).await, 401);
    for _ in 0..2 {
        assert_eq!(test.post(&webhook("wh_2")).await, 200);
    }
    test.stop().await;
    let spans = collector.spans();
    let (trace, root) = ids("wh_2");
    assert!(spans.iter().all(|span| span.trace_id == trace));
    let requests = named(&spans, "receive production");
    let [first, copy] = requests[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!((&first.span_id, &copy.parent_span_id), (&root, &root));
    assert_ne!(copy.span_id, root);
    assert_eq!(copy.attribute("unwrapd.outcome"), "duplicate");
    for step in ["verify", "commit"] {
        let parents = named(&spans, step);
        let parents: Vec<_> = parents.iter().map(|span| &span.parent_span_id).collect();
        assert_eq!(parents, [&root, &copy.span_id], "{step}");
    }
}

#[tokio::test]
async fn a_request_that_waited_in_the_quarantine_is_the_root_of_its_trace() {
    let mut collector = Collector::start([]).await;
    let mut app = Application::start([]).await;
    let wrong = Webhooks::new("whsec_////////////////////////////////").unwrap();
    let destinations = || vec![destination("app", &app.url)];
    let test = TestGateway::start_proving(wrong, TempDir::new().unwrap(), destinations()).await;
    assert_eq!(test.post(&webhook("wh_1")).await, 401);
    let store = test.gateway.store().clone();
    until("it is in the quarantine", async || {
        let waiting: Vec<QuarantinedRequest> = store.read_quarantined(0, 1).await.unwrap();
        !waiting.is_empty()
    })
    .await;
    drop(store);
    let folder = test.stop().await;

    let test = TestGateway::configured_in(folder, destinations(), traced(&collector)).await;
    test.gateway.quarantine().retry(None).await.unwrap();
    let delivered = app.next().await;
    test.settled().await;
    test.stop().await;
    let spans = collector.spans();
    let root = named(&spans, "receive production")[0];
    assert_eq!(root.span_id, ids("wh_1").1);
    assert_eq!(root.attribute("unwrapd.quarantine"), "true");
    assert_eq!(root.attribute("http.response.status_code"), "");
    assert!(named(&spans, "verify").is_empty(), "{spans:#?}");
    let attempt = named(&spans, "attempt app")[0];
    assert_eq!(attempt.parent_span_id, root.span_id);
    assert_eq!(traceparent(&delivered), traceparent_of(attempt));
}

#[tokio::test]
async fn a_command_gets_the_trace_in_its_environment() {
    let mut collector = Collector::start([]).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("traceparent");
    let command = CommandSettings {
        program: "sh".into(),
        arguments: vec![
            "-c".into(),
            "printf %s \"$TRACEPARENT\" > \"$0\"; exit 3".into(),
            file.to_str().unwrap().into(),
        ],
    };
    let mut settings = DestinationSettings::of("app", Kind::Command(command));
    settings.limits.retry.attempts_max = Some(1);
    let test = gateway(&collector, vec![settings]).await;
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    test.settled().await;
    test.stop().await;
    let spans = collector.spans();
    let attempt = named(&spans, "attempt app")[0];
    let got = std::fs::read_to_string(file).unwrap();
    assert_eq!(got, traceparent_of(attempt));
    assert_eq!(attempt.kind(), SpanKind::Internal);
    assert_eq!(attempt.status.as_ref().unwrap().message, "exit 3");
    assert_eq!(attempt.attribute("unwrapd.outcome"), "dead");
    assert_eq!(attempt.attribute("server.address"), "");
}

#[tokio::test]
async fn without_a_collector_no_trace_is_sent_to_an_application() {
    let mut app = Application::start([]).await;
    let test = TestGateway::start(vec![destination("app", &app.url)]).await;
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    assert!(!app.next().await.headers.contains_key("traceparent"));
    test.stop().await;
}

/// No webhook brought it, so there is no trace to continue.
#[tokio::test]
async fn an_event_of_the_gateway_itself_has_no_trace() {
    let mut collector = Collector::start([]).await;
    let mut app = Application::start([Answer::Status(200), Answer::Status(410)]).await;
    let mut pager = Application::start([]).await;
    let alerted = DestinationSettings {
        events: Patterns::parse(["unwrapd.*"]).unwrap(),
        ..destination("pager", &pager.url)
    };
    let test = gateway(&collector, vec![destination("app", &app.url), alerted]).await;
    assert_eq!(test.ask("destinations/app/test", &json!({})).await.0, 200);
    assert!(!app.next().await.headers.contains_key("traceparent"));
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    let alert = pager.next().await;
    assert!(alert.webhook_id().starts_with("wh_unwrapd_"));
    assert!(!alert.headers.contains_key("traceparent"));
    test.settled().await;
    test.stop().await;
    let spans = collector.spans();
    assert!(named(&spans, "attempt pager").is_empty(), "{spans:#?}");
}

#[tokio::test]
async fn a_trace_that_is_not_sampled_tells_the_application_so() {
    let mut collector = Collector::start([]).await;
    let mut app = Application::start([]).await;
    let mut settings = TraceSettings::new(collector.url.parse().unwrap());
    settings.sample = 0.0;
    let destinations = vec![destination("app", &app.url)];
    let test = TestGateway::configured(destinations, |config| config.traces = Some(settings)).await;
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    let delivered = app.next().await;
    let trace = hex(&ids("wh_1").0);
    assert!(traceparent(&delivered).starts_with(&format!("00-{trace}-")));
    assert!(traceparent(&delivered).ends_with("-00"));
    test.settled().await;
    test.stop().await;
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn spans_wait_for_a_collector_that_is_unavailable_for_a_moment() {
    let unavailable = [503, 429].map(CollectorAnswer::Status);
    let mut collector = Collector::start(unavailable).await;
    let test = gateway(&collector, vec![]).await;
    let seen = Seen::by(&test);
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    collector.wait_for(3).await;
    assert_counts(&seen.all(test).await, &[("spans_lost", 0)]);
    assert_eq!(collector.spans().len(), 3);
}

#[tokio::test]
async fn a_collector_that_demands_an_endless_wait_loses_one_batch_only() {
    let endless = CollectorAnswer::Later("18446744073709551615");
    let mut collector = Collector::start([endless]).await;
    let test = gateway(&collector, vec![]).await;
    let mut seen = Seen::by(&test);
    assert_eq!(test.post(&webhook("wh_1")).await, 200);
    seen.next("spans_lost").await;
    assert_eq!(test.post(&webhook("wh_2")).await, 200);
    collector.wait_for(3).await;
}

#[tokio::test]
async fn spans_that_the_collector_does_not_take_are_counted() {
    let answers = [CollectorAnswer::Status(400), CollectorAnswer::Rejects(2)];
    let collector = Collector::start(answers).await;
    let test = gateway(&collector, vec![]).await;
    let mut seen = Seen::by(&test);
    for (id, lost, expected, cause) in [
        ("wh_1", 3, SpanLoss::NotSent, "it answers HTTP 400"),
        ("wh_2", 2, SpanLoss::Rejected, "the collector rejected them"),
    ] {
        assert_eq!(test.post(&webhook(id)).await, 200);
        let PipelineEvent::SpansLost {
            spans,
            loss,
            reason,
            repeats,
        } = seen.next("spans_lost").await
        else {
            unreachable!()
        };
        assert_eq!((spans, loss, repeats), (lost, expected, Some(1)));
        assert!(reason.contains(cause), "{reason}");
        // The text of a collector is not repeated.
        assert!(!reason.contains("hidden"), "{reason}");
        let metrics = client().get(format!("{}/metrics", test.admin())).send();
        let metrics = metrics.await.unwrap().text().await.unwrap();
        let line = format!(
            "unwrapd_spans_lost_total{{reason=\"{}\"}} {lost}\n",
            expected.as_str()
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_costs_a_warning_and_no_webhook() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mut silent = Collector::start([CollectorAnswer::Hang; 10]).await;
    for (url, is_silent) in [(dead, false), (silent.url.clone(), true)] {
        let mut app = Application::start([]).await;
        let folder = TempDir::new().unwrap();
        let tables = destination_table("app", &app.url, "");
        write_destinations(folder.path(), &tables);
        add_to_config(folder.path(), &format!("[traces]\nurl = \"{url}\"\n"));
        let serving = Serving::start(folder.path(), &[]);
        for number in 0..20 {
            assert_eq!(serving.post(&webhook(&format!("wh_{number}"))).await, 200);
        }
        for _ in 0..20 {
            app.next().await;
        }
        if is_silent {
            silent.next().await;
        }
        let began = Instant::now();
        let (status, log) = tokio::task::block_in_place(|| serving.terminate());
        assert!(status.success(), "{log}");
        assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
        let lost = "spans of traces were lost: cannot send them to";
        assert_eq!(log.matches(lost).count(), 1, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_for_the_collector_is_secret() {
    let mut collector = Collector::start([CollectorAnswer::Status(401)]).await;
    let folder = TempDir::new().unwrap();
    write_destinations(folder.path(), "");
    std::fs::write(folder.path().join("tenant"), "hidden-tenant\n").unwrap();
    add_to_config(
        folder.path(),
        &format!(
            "[traces]\nurl = \"{}/?token=hidden-query\"\n\
             headers = {{ authorization = {{ env = \"OTLP_TOKEN\" }}, x-scope-orgid = {{ file = \"tenant\" }} }}\n",
            collector.url
        ),
    );
    let environment = [
        ("OTLP_TOKEN", "Bearer hidden-token"),
        ("UNWRAPD_LOG", "trace,unwrapd=trace"),
    ];
    let mut serving = Serving::start(folder.path(), &environment);
    assert_eq!(serving.post(&webhook("wh_1")).await, 200);
    let posted = collector.next().await;
    assert_eq!(posted.headers["authorization"], "Bearer hidden-token");
    assert_eq!(posted.headers["x-scope-orgid"], "hidden-tenant");
    let warning = serving.announced("spans of traces were lost");
    assert!(warning.contains("it answers HTTP 401"), "{warning}");
    let config = client().get(format!("{}/api/v1/config", serving.admin));
    let config = config.send().await.unwrap().text().await.unwrap();
    assert!(config.contains("headers.authorization"), "{config}");
    assert!(config.contains("the environment variable OTLP_TOKEN"));
    let (_, log) = tokio::task::block_in_place(|| serving.terminate());
    for text in [warning, config, log] {
        assert!(!text.contains("hidden"), "{text}");
    }
}

#[tokio::test]
async fn the_traces_of_a_changed_configuration_begin_after_a_restart() {
    let folder = TempDir::new().unwrap();
    write_destinations(folder.path(), "");
    add_to_config(folder.path(), "[traces]\nurl = \"http://127.0.0.1:4318\"\n");
    let (code, told) = checked(folder.path());
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("traces        http://127.0.0.1:4318\n"),
        "{told}"
    );
    let mut serving = Serving::start(folder.path(), &[]);
    add_to_config(folder.path(), "sample = 0.5\n");
    serving.signal(rustix::process::Signal::HUP);
    serving.announced("[traces] sample has changed; restart the gateway");
    write_destinations(folder.path(), "");
    serving.signal(rustix::process::Signal::HUP);
    serving.announced("[traces] url has changed; restart the gateway");
}
