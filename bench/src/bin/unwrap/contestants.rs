//! The measured libraries. Each does the same work, as its documentation shows.

use std::hint::black_box;
use std::time::Instant;

use async_openai::types::webhooks::WebhookEvent;
use http::HeaderMap;
use openai_webhooks::{UnwrapWebhookEvent, Webhooks};
use serde::Deserialize;
use sha2::block_api::compress256;

use crate::allocations;
use crate::request::{Request, SECRET};
use crate::sdk::Sdk;
use crate::walk::Walk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContestantId {
    Sha256,
    SerdeJsonWalk,
    OursVerify,
    Ours,
    AsyncOpenai,
    Svix,
    StandardWebhooks,
    Node,
    Python,
}

pub struct Contestant {
    pub id: ContestantId,
    pub run: Box<Run>,
    /// Minimum time of the calls of a round. A process needs more than a function, to outweigh the
    /// cost of a process switch.
    pub seconds_a_round: f64,
}

/// Makes a number of calls with the same request; returns nanoseconds per call.
type Run = dyn FnMut(&Request, u32) -> f64;

pub fn in_rust() -> Vec<Contestant> {
    let ours = our_webhooks();
    let ours_too = ours.clone();
    let svix = svix::webhooks::Webhook::new(SECRET).expect("a valid secret");
    let standard = standardwebhooks::Webhook::new(SECRET).expect("a valid secret");
    vec![
        sha256(),
        function(ContestantId::SerdeJsonWalk, |request| {
            let text = std::str::from_utf8(request.body.as_bytes()).expect("UTF-8");
            black_box(serde_json::from_str::<Walk>(text).expect("JSON"));
        }),
        function(ContestantId::OursVerify, move |request| {
            let verified = ours.verify_signature_at(&request.body, &request.headers, request.now);
            black_box(verified.expect("authentic"));
        }),
        function(ContestantId::Ours, move |request| {
            black_box(unwrap(&ours_too, request));
        }),
        function(ContestantId::AsyncOpenai, |request| {
            black_box(async_openai(request));
        }),
        function(ContestantId::Svix, move |request| {
            svix.verify(request.body.as_bytes(), &request.headers)
                .expect("authentic");
            black_box(NaiveEvent::read(request));
        }),
        function(ContestantId::StandardWebhooks, move |request| {
            standard
                .verify(request.body.as_bytes(), &request.headers)
                .expect("authentic");
            black_box(NaiveEvent::read(request));
        }),
    ]
}

impl From<Sdk> for Contestant {
    fn from(mut sdk: Sdk) -> Self {
        Self {
            id: sdk.id,
            run: Box::new(move |request, calls| sdk.nanoseconds_a_call(request, calls)),
            seconds_a_round: 0.020,
        }
    }
}

pub fn our_allocations(body: fn() -> String) -> f64 {
    let webhooks = our_webhooks();
    let request = Request::signed_now(body());
    allocations::during(|| unwrap(&webhooks, &request)) as f64
}

fn our_webhooks() -> Webhooks {
    Webhooks::new(SECRET).expect("a valid secret")
}

fn unwrap(webhooks: &Webhooks, request: &Request) -> UnwrapWebhookEvent {
    webhooks
        .unwrap_at(&request.body, &request.headers, request.now)
        .expect("authentic")
}

fn async_openai(request: &Request) -> WebhookEvent {
    async_openai::webhooks::Webhooks::build_event(
        std::str::from_utf8(request.body.as_bytes()).expect("UTF-8"),
        text(&request.headers, "webhook-signature"),
        text(&request.headers, "webhook-timestamp"),
        text(&request.headers, "webhook-id"),
        SECRET,
    )
    .expect("authentic")
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers[name].to_str().expect("printable ASCII")
}

/// The obvious event type beside a library that only verifies: an internally tagged enum. Its
/// `data` has the fields of the event types in openai-webhooks.
#[derive(Deserialize)]
#[serde(tag = "type")]
#[expect(dead_code, reason = "parsed and dropped")]
enum NaiveEvent {
    #[serde(rename = "response.completed")]
    ResponseCompleted {
        id: String,
        object: Option<String>,
        created_at: i64,
        data: Resource,
    },
    #[serde(rename = "realtime.call.incoming")]
    RealtimeCallIncoming {
        id: String,
        object: Option<String>,
        created_at: i64,
        data: Call,
    },
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed and dropped")]
struct Resource {
    id: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed and dropped")]
struct Call {
    call_id: String,
    sip_headers: Vec<SipHeader>,
    sip_media_security: Option<String>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed and dropped")]
struct SipHeader {
    name: String,
    value: String,
}

impl NaiveEvent {
    fn read(request: &Request) -> Self {
        serde_json::from_slice(request.body.as_bytes()).expect("an event")
    }
}

/// The lower bound: the request's number of blocks, times the time per block in a long run. In a
/// long run only the compression itself counts.
fn sha256() -> Contestant {
    const RUN_BLOCKS: usize = 256;
    let blocks = [[0x5A; 64]; RUN_BLOCKS];
    let mut state = [0; 8];
    Contestant {
        run: Box::new(move |request, calls| {
            let runs = (calls as usize * request.sha256_blocks()).div_ceil(RUN_BLOCKS);
            let start = Instant::now();
            for _ in 0..runs {
                compress256(&mut state, black_box(&blocks));
            }
            let nanoseconds_a_block =
                start.elapsed().as_nanos() as f64 / (runs * RUN_BLOCKS) as f64;
            black_box(&state);
            nanoseconds_a_block * request.sha256_blocks() as f64
        }),
        ..function(ContestantId::Sha256, |_| {})
    }
}

fn function(id: ContestantId, call: impl Fn(&Request) + 'static) -> Contestant {
    Contestant {
        id,
        run: Box::new(move |request, calls| {
            let start = Instant::now();
            for _ in 0..calls {
                call(black_box(request));
            }
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        }),
        seconds_a_round: 0.002,
    }
}
