//! The quarantine is filled from outside with the largest bodies that it stores, and then listed by
//! many streams that read no response.
#![allow(
    clippy::print_stderr,
    reason = "the numbers stand in the documentation"
)]

use openai_webhooks::EventType;
use tokio::task::JoinSet;

use super::{HTTP2_WINDOW, headed, http2};
use crate::support::process::Serving;
use crate::support::{Webhook, address_of, client, until};

/// Largest body that the quarantine stores.
const BODY_BYTES: usize = 64 * 1024;
/// Number of forged requests: fewer than the quarantine holds.
const FORGED: usize = 60;
const CONNECTIONS: usize = 16;
const STREAMS: usize = 100;
/// Maximum growth of the memory in KiB: pages for the requests in progress, and the state of 1,600
/// streams. Without bounds it took 2.4 GB.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_quarantine_full_of_large_bodies_take_little_memory() {
    let (_folder, serving) = Serving::start_alone();
    let client = client();
    for number in 0..FORGED {
        let mut forged = Webhook::with_payload(&format!("wh_{number}"), "x".repeat(BODY_BYTES));
        forged.payload.replace_range(..1, "y");
        let answer = forged.request(&client, &serving.url).send().await.unwrap();
        assert_eq!(answer.status(), 401);
    }
    let address = address_of(&serving.admin);
    let list = format!("{}/api/v1/quarantine", serving.admin);
    until("all are kept", async || {
        let listed = client.get(&list).send().await.unwrap();
        let listed: serde_json::Value =
            serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
        listed["requests"].as_array().unwrap().len() == FORGED
    })
    .await;
    let before = serving.peak_memory_kib();
    let threads_before = serving.threads();

    let mut streams = JoinSet::new();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let stalled = http2(address, 1).await;
        for number in 0..STREAMS {
            let stalled = stalled.clone();
            streams.spawn(async move {
                // Every other one reads a single request with its body.
                let path = match number % 2 {
                    0 => "/api/v1/quarantine".to_owned(),
                    _ => format!("/api/v1/quarantine/{}?payload=true", 1 + number % FORGED),
                };
                headed(&stalled, &http::Method::GET, &path).await
            });
        }
        held.push(stalled);
    }
    // Meanwhile genuine webhooks are accepted, and health checks are answered.
    let readyz = format!("{}/readyz", serving.admin);
    let mut answers = Vec::new();
    for number in 0.. {
        let webhook = Webhook::new(&format!("wh_honest_{number}"), EventType::BatchCompleted);
        let answer = webhook.request(&client, &serving.url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let ready = client.get(&readyz).send().await.unwrap();
        assert_eq!(ready.status(), 200);
        while let Some(answer) = streams.try_join_next() {
            answers.push(answer.unwrap());
        }
        if answers.len() == CONNECTIONS * STREAMS {
            break;
        }
    }
    let refused = answers.iter().filter(|answer| answer.status() == 503);
    let refused = refused.count();
    let (peak, threads) = (serving.peak_memory_kib(), serving.threads());
    eprintln!(
        "{} requests, {refused} refused: memory {} -> {} MiB, threads {threads_before} -> {threads}",
        answers.len(),
        before / 1024,
        peak / 1024
    );
    assert!(refused > 0, "more were asked at once than are taken");
    assert!(peak - before < GROWTH_KIB_MAX, "{before} -> {peak} KiB");
    assert!(
        threads < threads_before + 32,
        "{threads_before} -> {threads}"
    );
    drop((answers, held));
    let (status, log) = serving.terminate();
    assert!(status.success(), "{log}");
}

/// Requests to a wrong path, from many connections with the maximum number of streams.
#[tokio::test(flavor = "multi_thread")]
async fn streams_with_unread_answers_take_little_memory_of_the_public_port() {
    const CONNECTIONS: usize = 150;
    let (_folder, serving) = Serving::start_alone();
    let address = serving.address();
    let before = serving.peak_memory_kib();
    let mut streams = JoinSet::new();
    for _ in 0..CONNECTIONS {
        streams.spawn(async move {
            let stalled = http2(address, 0).await;
            let mut held = Vec::new();
            for _ in 0..STREAMS {
                let mut stream = stalled.clone().ready().await?;
                let request = http::Request::get("http://t/nowhere").body(()).unwrap();
                held.push(stream.send_request(request, true)?.0.await?);
            }
            Ok::<_, h2::Error>((stalled, held))
        });
    }
    let client = client();
    let (mut kept, mut ended) = (Vec::new(), 0);
    for number in 0.. {
        let webhook = Webhook::new(&format!("wh_honest_{number}"), EventType::BatchCompleted);
        let answer = webhook.request(&client, &serving.url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        while let Some(stream) = streams.try_join_next() {
            match stream.unwrap() {
                Ok(stream) => kept.push(stream),
                Err(_) => ended += 1,
            }
        }
        if streams.is_empty() {
            break;
        }
    }
    let peak = serving.peak_memory_kib();
    eprintln!(
        "{CONNECTIONS} connections with {STREAMS} streams, {ended} ended: memory {} -> {} MiB",
        before / 1024,
        peak / 1024
    );
    assert!(peak - before < GROWTH_KIB_MAX, "{before} -> {peak} KiB");
    // Once their streams are gone, nothing counts them: a connection may stay open.
    drop(kept);
    let honest = http2(address, HTTP2_WINDOW).await;
    for _ in 0..1_000 {
        drop(headed(&honest, &http::Method::GET, "/nowhere").await);
    }
    assert!(serving.terminate().0.success());
}
