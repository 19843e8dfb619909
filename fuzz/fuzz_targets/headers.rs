//! Random headers, bodies and clocks. Invariants: nothing panics, and the verdict equals that of a
//! second verifier, a slow and plain one.

#![no_main]

#[path = "../../crates/openai-webhooks/tests/support/signature_list.rs"]
mod signature_list;

use std::sync::LazyLock;

use data_encoding::BASE64;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use openai_webhooks::{DEFAULT_TOLERANCE, Secret, WEBHOOK_ID_BYTES_MAX, Webhooks};
use signature_list::{count_items, lists_signature};

const KEY: [u8; 32] = [7; 32];
const NAMES: [[&[u8]; 4]; 3] = [
    [
        b"webhook-id",
        b"Webhook-Id",
        b"WEBHOOK-ID",
        b"HTTP_WEBHOOK_ID",
    ],
    [
        b"webhook-timestamp",
        b"Webhook-Timestamp",
        b"wEBHOOK-tIMESTAMP",
        b"HTTP_WEBHOOK_TIMESTAMP",
    ],
    [
        b"webhook-signature",
        b"Webhook-Signature",
        b"WEBHOOK-SIGNATURE",
        b"HTTP_WEBHOOK_SIGNATURE",
    ],
];

static WEBHOOKS: LazyLock<Webhooks> =
    LazyLock::new(|| Webhooks::from(&Secret::from_key(KEY).expect("a key")));

#[derive(Arbitrary, Debug)]
struct Request<'a> {
    now: i64,
    timestamp: Timestamp<'a>,
    id: Id<'a>,
    body: &'a [u8],
    /// Index of the header to omit from the three valid ones at the start of the list.
    left_out: Option<u8>,
    headers: Vec<Header<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Id<'a> {
    Text(&'a [u8]),
    /// An id with a length near the limit.
    Long(u8),
}

#[derive(Arbitrary, Debug)]
enum Timestamp<'a> {
    /// At or next to a bound of the tolerance, or now.
    AtEdge(u8),
    Near(i16),
    Text(&'a [u8]),
}

/// A header of the request. A fuzzer cannot guess an HMAC, so most kinds contain parts of a valid
/// request.
#[derive(Arbitrary, Debug)]
enum Header<'a> {
    Any(&'a [u8], &'a [u8]),
    Id {
        spelling: u8,
    },
    Timestamp {
        spelling: u8,
    },
    Signature {
        spelling: u8,
        before: &'a [u8],
        is_tagged: bool,
        flipped_bit: Option<u16>,
        after: &'a [u8],
    },
    Signatures {
        spelling: u8,
        count: u8,
    },
    Signed {
        name: u8,
        spelling: u8,
        value: &'a [u8],
    },
}

impl Request<'_> {
    fn id(&self) -> Vec<u8> {
        match self.id {
            Id::Text(text) => text.to_vec(),
            Id::Long(length) => vec![b'w'; WEBHOOK_ID_BYTES_MAX - 4 + usize::from(length) % 8],
        }
    }

    fn timestamp(&self) -> Vec<u8> {
        const EDGES: [i64; 8] = [-301, -300, -299, 0, 0, 299, 300, 301];
        let offset = match self.timestamp {
            Timestamp::AtEdge(edge) => EDGES[usize::from(edge) % EDGES.len()],
            Timestamp::Near(offset) => offset.into(),
            Timestamp::Text(text) => return text.to_vec(),
        };
        let seconds = self.now.saturating_add(offset);
        seconds.to_string().into_bytes()
    }

    fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let id = self.id();
        let timestamp = self.timestamp();
        let good = signature(trim(&id), trim(&timestamp), self.body);
        let pair = |header: usize, spelling: u8, value: Vec<u8>| {
            (NAMES[header % 3][usize::from(spelling) % 4].to_vec(), value)
        };
        let three = [
            Header::Id { spelling: 0 },
            Header::Timestamp { spelling: 0 },
            Header::Signatures {
                spelling: 0,
                count: 1,
            },
        ];
        let left_out = self.left_out.map(|index| usize::from(index) % 3);
        let begin = (0..3)
            .filter(|index| Some(*index) != left_out)
            .map(|index| &three[index]);
        begin
            .chain(&self.headers)
            .map(|header| match *header {
                Header::Any(name, value) => (name.to_vec(), value.to_vec()),
                Header::Id { spelling } => pair(0, spelling, id.clone()),
                Header::Timestamp { spelling } => pair(1, spelling, timestamp.clone()),
                Header::Signature {
                    spelling,
                    before,
                    is_tagged,
                    flipped_bit,
                    after,
                } => {
                    let tag: &[u8] = if is_tagged { b"v1," } else { b"" };
                    let mut good = good.clone().into_bytes();
                    if let Some(bit) = flipped_bit {
                        let bit = usize::from(bit) % (good.len() * 8);
                        good[bit / 8] ^= 1 << (bit % 8);
                    }
                    pair(2, spelling, [before, tag, &good, after].concat())
                }
                Header::Signatures { spelling, count } => pair(
                    2,
                    spelling,
                    format!("v1,{good} ").repeat(count.into()).into_bytes(),
                ),
                Header::Signed {
                    name,
                    spelling,
                    value,
                } => pair(name.into(), spelling, value.to_vec()),
            })
            .collect()
    }
}

fuzz_target!(|request: Request| {
    let pairs = request.pairs();
    let verdict = WEBHOOKS.verify_signature_at(request.body, &pairs, request.now);
    let proof = second_verifier(&pairs, request.body, request.now);
    match (&verdict, &proof) {
        (Ok(verified), Some((id, timestamp))) => {
            assert_eq!(verified.webhook_id().as_bytes(), *id);
            assert_eq!(verified.timestamp(), *timestamp);
            assert_eq!(verified.payload(), request.body);
            assert_eq!(verified.secret_index(), 0);
        }
        (Err(error), None) => assert!(matches!(error.http_status(), 400 | 401), "{error}"),
        _ => panic!("the library says {verdict:?}, the second verifier {proof:?}, of {pairs:?}"),
    }
});

/// The second verifier: the id and the timestamp of an authentic request.
fn second_verifier<'p>(
    pairs: &'p [(Vec<u8>, Vec<u8>)],
    body: &[u8],
    now: i64,
) -> Option<(&'p [u8], i64)> {
    let values = |header: usize| {
        let is_named = move |name: &[u8]| {
            name.eq_ignore_ascii_case(NAMES[header][0]) || name == NAMES[header][3]
        };
        pairs
            .iter()
            .filter(move |(name, _)| is_named(name))
            .map(|(_, value)| trim(value))
    };
    let only = |header: usize| {
        let first = values(header).next()?;
        values(header).all(|value| value == first).then_some(first)
    };

    let id = only(0)?;
    let is_id = !id.is_empty()
        && id.len() <= 256
        && id.iter().all(|b| matches!(b, b'!'..=b'-' | b'/'..=b'~'));
    let timestamp = only(1)?;
    let is_timestamp = timestamp.len() <= 19 && timestamp.iter().all(u8::is_ascii_digit);
    if !is_id || !is_timestamp {
        return None;
    }
    let seconds: i64 = std::str::from_utf8(timestamp).ok()?.parse().ok()?;
    if seconds.abs_diff(now) > DEFAULT_TOLERANCE.as_secs() {
        return None;
    }

    // Several signature headers form one list. A repetition of the first one adds nothing.
    let first = values(2).find(|list| !list.is_empty())?;
    let others = values(2).filter(|list| *list != first);
    let lists: Vec<&[u8]> = std::iter::once(first).chain(others).collect();
    let good = signature(id, timestamp, body);
    let items: usize = lists.iter().map(|list| count_items(list)).sum();
    let is_signed = lists
        .iter()
        .any(|list| lists_signature(list, good.as_bytes()));
    (items <= 32 && is_signed).then_some((id, seconds))
}

fn signature(id: &[u8], timestamp: &[u8], body: &[u8]) -> String {
    BASE64.encode(&hmac_sha256::HMAC::mac(
        [id, b".", timestamp, b".", body].concat(),
        KEY,
    ))
}

fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let Some(start) = value.iter().position(|b| !is_blank(b)) else {
        return &[];
    };
    let end = value.iter().rposition(|b| !is_blank(b)).unwrap_or(start);
    &value[start..=end]
}
