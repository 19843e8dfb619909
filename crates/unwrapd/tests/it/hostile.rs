//! A hostile network: many slow and silent clients, endless bodies, and malformed HTTP. Good
//! webhooks arrive meanwhile and are all accepted, bad connections end, and the memory of the
//! process stays bounded.
//!
//! `scripts/hostile-test` runs it with many more clients.
#![allow(
    clippy::print_stderr,
    reason = "a run at full size tells what memory it took"
)]

mod malformed;
mod siege;

use std::time::Duration;

use openai_webhooks::EventType;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::Webhook;
use crate::support::wire::{head, send, statuses, until_closed};
use siege::{Siege, size};

/// Number of good webhooks that must be accepted during an attack.
const GOOD: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_lock_no_client_out() {
    const PLACES: usize = 768;
    let crowd = size(1_000, 10_000);
    let siege = Siege::begin_with_connections(PLACES);
    let mut connections = JoinSet::new();
    for n in 0..crowd {
        let mut stream = TcpStream::connect(siege.address).await.unwrap();
        let begin = match n % 4 {
            0 => "",
            1 => "POST /webhooks/production HTTP/1.1\r\nhost: x",
            2 => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            // A complete request, and then silence.
            _ => "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        };
        connections.spawn(async move {
            // The connection may be evicted at once.
            drop(stream.write_all(begin.as_bytes()).await);
            until_closed(stream).await;
        });
    }
    siege.good_get_through(GOOD).await;
    for _ in PLACES..crowd {
        connections.join_next().await.unwrap().unwrap();
    }
    drop(connections);
    siege.end(&format!("{crowd} idle connections")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_drip_lock_no_other_out() {
    const DRIP: Duration = Duration::from_secs(1);
    let crowd = size(200, 1_000);
    let places = size(128, 768);
    let siege = Siege::begin_with_connections(places);
    let mut clients = JoinSet::new();
    for n in 0..crowd {
        let address = siege.address;
        clients.spawn(async move {
            // A client that was evicted comes again.
            loop {
                let webhook = Webhook::new(&format!("wh_drip_{n}"), EventType::BatchFailed);
                let head = head(&webhook, "content-length: 1000000\r\n");
                let begin = if n % 2 == 0 { &head } else { &head[..50] };
                let mut stream = send(address, begin).await;
                let mut drops = tokio::time::interval(DRIP);
                loop {
                    drops.tick().await;
                    if stream.write_all(b"x").await.is_err() {
                        break;
                    }
                }
            }
        });
    }
    siege.good_get_through(3 * GOOD).await;
    drop(clients);
    siege.end(&format!("{crowd} clients that drip")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_gigabyte_is_cut_off_at_the_limit() {
    const GIGABYTE: usize = 1 << 30;
    /// The limit, plus the buffers of both systems, plus a margin.
    const TAKEN_MAX: usize = 32 * 1024 * 1024;
    let siege = Siege::begin("");
    let mut senders = JoinSet::new();
    for n in 0..8 {
        let webhook = Webhook::new(&format!("wh_huge_{n}"), EventType::BatchFailed);
        let head = head(&webhook, "transfer-encoding: chunked\r\n");
        let address = siege.address;
        senders.spawn(async move {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let mut stream = send(address, head).await;
            let mut sent = 0;
            while sent < GIGABYTE && stream.write_all(chunk.as_bytes()).await.is_ok() {
                sent += chunk.len();
            }
            assert!(sent < TAKEN_MAX, "{sent} bytes were taken");
            // The response may be lost with the connection.
            let answer = statuses(&until_closed(stream).await);
            assert!(answer.is_empty() || answer == [413], "{answer:?}");
        });
    }
    // One byte each: keeping them must not cost more than their size.
    for n in 0..2 {
        let webhook = Webhook::new(&format!("wh_grain_{n}"), EventType::BatchFailed);
        let head = head(&webhook, "transfer-encoding: chunked\r\n");
        let grains = "1\r\nx\r\n".repeat(unwrapd::receive::BODY_BYTES_MAX - 1);
        let address = siege.address;
        senders.spawn(async move {
            let stream = send(address, head + &grains).await;
            assert_eq!(statuses(&until_closed(stream).await), [408]);
        });
    }
    siege.good_get_through(GOOD).await;
    senders.join_all().await;
    siege.end("bodies of a gigabyte").await;
}
