//! Random requests: most are honest in most of their parts, and odd in one or two. What is odd is what senders, proxies, operators
//! and attackers do, and what the official SDKs disagree about.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use hmac::{Hmac, KeyInit as _, Mac as _};
use openai_webhooks::{EventType, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::Value;
use sha2::Sha256;

/// Everything that a verdict depends on.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) secret: String,
    /// In the order of arrival.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) now: u64,
    /// `None` for the default.
    pub(crate) tolerance: Option<u64>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "request")?;
        writeln!(f, "  secret: {:?}", self.secret)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: \"{}\"", value.escape_ascii())?;
        }
        writeln!(f, "  now {}, tolerance {:?}", self.now, self.tolerance)?;
        write!(f, "  body: \"{}\"", self.body.escape_ascii())
    }
}

/// The signature that a sender with this key gives.
pub(crate) fn sign(key: &[u8], id: &[u8], timestamp: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(&[id, b".", timestamp, b".", body].concat());
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn requests(bodies: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Request> {
    (
        secrets(),
        ids(),
        times(),
        bodies,
        signature_lists(),
        header_forms(),
        tampering(),
    )
        .prop_map(|(secret, id, time, body, list, form, tampering)| {
            let mac = sign(&secret.key, &id, &time.signed, &body);
            let mut request = Request {
                secret: secret.text,
                headers: form.headers(&id, &time.sent, list.values(&mac)),
                body,
                now: time.now,
                tolerance: time.tolerance,
            };
            tampering.apply_to(&mut request);
            request
        })
}

/// What the receiver has in its settings, and the key the sender signs with.
#[derive(Clone, Debug)]
struct SecretInUse {
    text: String,
    key: Vec<u8>,
}

fn secrets() -> impl Strategy<Value = SecretInUse> {
    let key = || vec(any::<u8>(), 24..=66);
    let whsec = |key: &[u8]| format!("whsec_{}", STANDARD.encode(key));
    let raw = |text: String| SecretInUse {
        key: text.clone().into_bytes(),
        text,
    };
    let blanks = || {
        select(vec![
            "", "\n", "\r\n", " ", "\t ", "  \n", "\u{a0}", "\u{85}", "\u{3000}", "\u{b}",
        ])
    };
    prop_oneof![
        16 => key().prop_map(move |key| SecretInUse { text: whsec(&key), key }),
        4 => "[!-~]{1,60}".prop_map(raw),
        1 => "\\PC{1,30}".prop_map(raw),
        3 => key().prop_map(|key| SecretInUse {
            text: format!("whsec_{}", STANDARD_NO_PAD.encode(&key)),
            key,
        }),
        // The sender of a raw secret may know it with or without the blanks.
        3 => (blanks(), blanks(), prop_oneof![key().prop_map(move |key| SecretInUse { text: whsec(&key), key }), "[!-~]{1,60}".prop_map(raw)], any::<bool>())
            .prop_map(|(before, behind, secret, is_signed_as_written)| {
                let text = format!("{before}{}{behind}", secret.text);
                SecretInUse {
                    key: if is_signed_as_written { text.clone().into_bytes() } else { secret.key },
                    text,
                }
            }),
        3 => (key(), 0..ODD_SECRETS.len()).prop_map(move |(key, odd)| SecretInUse {
            text: ODD_SECRETS[odd](&key),
            key,
        }),
    ]
}

/// Secrets that verifiers treat differently, made of a key.
const ODD_SECRETS: &[fn(&[u8]) -> String] = &[
    |_| String::new(),
    |_| " \n".to_owned(),
    |_| "whsec_".to_owned(),
    |_| "whsec_!!!!".to_owned(),
    |_| "whsec_====".to_owned(),
    |key| format!("whsec_{}", STANDARD.encode(&key[..16])),
    |key| format!("whsec_{}", STANDARD.encode(&key[..23])),
    |key| format!("whsec_{}=", STANDARD.encode(key)),
    |key| format!("whsec_{}", URL_SAFE.encode(key)),
    |key| format!("\"whsec_{}\"", STANDARD.encode(key)),
    |key| format!("'whsec_{}'", STANDARD.encode(key)),
    |key| format!("v1,whsec_{}", STANDARD.encode(key)),
    |key| format!("WHSEC_{}", STANDARD.encode(key)),
    |key| format!("Whsec_{}", STANDARD.encode(key)),
    |key| format!("whsk_{}", STANDARD.encode(key)),
    |key| STANDARD.encode(key),
    |key| {
        let encoded = STANDARD.encode(key);
        let (start, end) = encoded.split_at(7);
        format!("whsec_{start} {end}")
    },
    |key| {
        let encoded = STANDARD.encode(key);
        let (start, end) = encoded.split_at(7);
        format!("whsec_{start}é{end}")
    },
    |key| format!("whsec_{}", &STANDARD.encode(&key[..24])[..31]),
    // The last letter has bits that belong to no byte.
    |key| format!("whsec_{}B", STANDARD.encode(&key[..24])),
    |key| format!("whsec_{}AB==", STANDARD.encode(&key[..24])),
    |key| format!("whsec_{}AA=", STANDARD.encode(&key[..24])),
    |key| format!("whsec_{}=AAA", STANDARD.encode(&key[..24])),
];

fn ids() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        24 => "wh_[0-9a-f]{32}".prop_map(String::into_bytes),
        4 => "[!-\\-/-~]{1,40}".prop_map(String::into_bytes),
        1 => select(vec![255, 256, 257, 300]).prop_map(|length| vec![b'x'; length]),
        1 => "wh_[0-9a-f]{0,4}[. \t][0-9a-f]{0,4}".prop_map(String::into_bytes),
        1 => select(vec!["", " ", ".", "wh_é", "wh_\u{7f}", "wh_\u{1}", "１"]).prop_map(|id| id.as_bytes().to_vec()),
        1 => vec(header_byte(), 1..20),
    ]
}

/// A byte that an HTTP server may hand over in the value of a header.
fn header_byte() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("ends the header", |byte| !b"\0\r\n".contains(byte))
}

#[derive(Clone, Debug)]
struct Time {
    now: u64,
    tolerance: Option<u64>,
    sent: Vec<u8>,
    signed: Vec<u8>,
}

fn times() -> impl Strategy<Value = Time> {
    let now = prop_oneof![4 => Just(1_750_287_078), 4 => 1_000_000_000..4_200_000_000_u64, 1 => 0..700_u64];
    let tolerance = prop_oneof![6 => Just(None), 1 => select(vec![0, 1, 299, 301, 3600, u64::from(u32::MAX)]).prop_map(Some)];
    let beyond_tolerance = prop_oneof![12 => Just(None), 6 => (-2..=2_i64).prop_map(Some), 1 => (-5000..5000_i64).prop_map(Some)];
    let form = prop_oneof![14 => Just(0), 3 => 0..TIMESTAMP_FORMS.len()];
    (
        now,
        tolerance,
        beyond_tolerance,
        any::<bool>(),
        0..=100_i64,
        form,
        0..4,
    )
        .prop_map(
            |(now, tolerance, beyond, is_future, percent, form, as_number)| {
                let border = i64::try_from(tolerance.unwrap_or(300)).expect("below 2^32");
                let ago = match beyond {
                    Some(beyond) => border + beyond,
                    None => border * percent / 100,
                };
                let seconds = now.saturating_add_signed(if is_future { ago } else { -ago });
                let sent = TIMESTAMP_FORMS[form](seconds).into_bytes();
                // One sender in four signs the number and writes something else.
                let signed = if as_number == 0 {
                    seconds.to_string().into_bytes()
                } else {
                    sent.clone()
                };
                Time {
                    now,
                    tolerance,
                    sent,
                    signed,
                }
            },
        )
}

const TIMESTAMP_FORMS: &[fn(u64) -> String] = &[
    |seconds| seconds.to_string(),
    |seconds| format!("0{seconds}"),
    |seconds| format!("{seconds:019}"),
    |seconds| format!("{seconds:020}"),
    |seconds| format!("{seconds:040}"),
    |seconds| format!("+{seconds}"),
    |seconds| format!("-{seconds}"),
    |seconds| format!("{seconds}.0"),
    |seconds| format!("{seconds}.{{\"a\":1}}"),
    |seconds| format!("{seconds}e0"),
    |seconds| format!("{seconds:#x}"),
    |seconds| format!("{}_{}", seconds / 1000, seconds % 1000),
    |seconds| format!("{seconds}s"),
    |seconds| format!("{seconds} "),
    |seconds| format!("\t{seconds}"),
    |seconds| format!("\u{b}{seconds}"),
    |seconds| format!("{seconds}\u{a0}"),
    |seconds| format!("{} {}", seconds / 10, seconds % 10),
    |seconds| format!("{seconds},{seconds}"),
    |seconds| {
        seconds
            .to_string()
            .chars()
            .map(|digit| char::from_u32(u32::from(digit) - 0x30 + 0x660).expect("a digit"))
            .collect()
    },
    |_| String::new(),
    |_| "9999999999999999999".to_owned(),
    |_| "-9223372036854775808".to_owned(),
    |_| "18446744073709551616".to_owned(),
    |_| "NaN".to_owned(),
];

/// The items of `webhook-signature`, and where it is divided into several headers.
#[derive(Clone, Debug)]
struct SignatureList {
    items: Vec<Item>,
    separator: &'static [u8],
    break_every: usize,
}

#[derive(Clone, Debug)]
enum Item {
    Good,
    GoodBare,
    /// The good one in a form of base64 that is not ours.
    GoodOddly(usize),
    Wrong(Vec<u8>),
    Text(Vec<u8>),
}

fn signature_lists() -> impl Strategy<Value = SignatureList> {
    let item = || {
        prop_oneof![
            3 => Just(Item::Good),
            2 => Just(Item::GoodBare),
            1 => (0..ODD_SIGNATURES.len()).prop_map(Item::GoodOddly),
            2 => vec(any::<u8>(), 32).prop_map(Item::Wrong),
            2 => select(vec!["v1,", "v1", ",", "v1a,b64", "v2,AAAA", "t=1", "\u{b}", "é", "签", "=", "\"", "v1,=", "null"]).prop_map(|text| Item::Text(text.as_bytes().to_vec())),
            1 => vec(header_byte(), 1..50).prop_map(Item::Text),
        ]
    };
    let short_list = vec(item(), 0..5);
    let long_list = (28..40_usize, any::<Index>()).prop_map(|(length, good)| {
        let mut items = vec![Item::Wrong(vec![7; 32]); length];
        items[good.index(length)] = Item::Good;
        items
    });
    let items = prop_oneof![
        12 => Just(vec![Item::Good]),
        2 => Just(vec![Item::GoodBare]),
        1 => item().prop_map(|item| vec![item]),
        6 => short_list,
        1 => long_list,
    ];
    let separator = prop_oneof![
        8 => Just(&b" "[..]),
        4 => select(vec![&b"\t"[..], b"  ", b" \t ", b",", b", ", b"\x0b", b"\x0c", b"\xa0", b";"]),
    ];
    let break_every = prop_oneof![8 => Just(usize::MAX), 1 => 1..3_usize];
    (items, separator, break_every).prop_map(|(items, separator, break_every)| SignatureList {
        items,
        separator,
        break_every,
    })
}

const ODD_SIGNATURES: &[fn(&[u8]) -> String] = &[
    |mac| format!("v1,{}", STANDARD_NO_PAD.encode(mac)),
    |mac| format!("v1,{}", URL_SAFE.encode(mac)),
    |mac| format!("v1,{}=", STANDARD.encode(mac)),
    |mac| format!("v1,{}tail", STANDARD.encode(mac)),
    |mac| format!("v1,{},", STANDARD.encode(mac)),
    |mac| format!("\"v1,{}\"", STANDARD.encode(mac)),
    |mac| format!("v1,v1,{}", STANDARD.encode(mac)),
    |mac| format!("V1,{}", STANDARD.encode(mac)),
    |mac| format!("v1a,{}", STANDARD.encode(mac)),
    |mac| format!("v1={}", STANDARD.encode(mac)),
    |mac| format!("v1,{}", STANDARD.encode(&mac[..31])),
    |mac| format!("v1,{}", STANDARD.encode([mac, &[0]].concat())),
    |mac| {
        let encoded = STANDARD.encode(mac);
        let (start, end) = encoded.split_at(9);
        format!("v1,{start}*{end}")
    },
    // The letter before the padding with a spare bit set: it decodes to the same bytes where that is not checked.
    |mac| {
        let encoded = STANDARD.encode(mac);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let last = encoded.as_bytes()[42];
        let at = letters
            .iter()
            .position(|&letter| letter == last)
            .expect("base64");
        format!("v1,{}{}=", &encoded[..42], char::from(letters[at | 1]))
    },
];

impl SignatureList {
    /// One value for each header.
    fn values(&self, mac: &[u8]) -> Vec<Vec<u8>> {
        let items: Vec<Vec<u8>> = self
            .items
            .iter()
            .map(|item| match item {
                Item::Good => format!("v1,{}", STANDARD.encode(mac)).into_bytes(),
                Item::GoodBare => STANDARD.encode(mac).into_bytes(),
                Item::GoodOddly(form) => ODD_SIGNATURES[*form](mac).into_bytes(),
                Item::Wrong(mac) => format!("v1,{}", STANDARD.encode(mac)).into_bytes(),
                Item::Text(text) => text.clone(),
            })
            .collect();
        if items.is_empty() {
            return vec![Vec::new()];
        }
        items
            .chunks(self.break_every.min(items.len()))
            .map(|items| items.join(self.separator))
            .collect()
    }
}

/// How the headers are written down.
#[derive(Clone, Debug)]
struct HeaderForm {
    case: usize,
    blanks_around: Option<usize>,
    missing: Option<usize>,
    repeated: Option<(usize, Repeat)>,
    others: Vec<(&'static str, &'static str)>,
    order: Vec<Index>,
}

#[derive(Clone, Copy, Debug)]
enum Repeat {
    Same,
    SameWithBlanks,
    Other,
    Empty,
}

fn header_forms() -> impl Strategy<Value = HeaderForm> {
    let rarely =
        |frequency, which| prop_oneof![frequency => Just(None), 1 => (0..which).prop_map(Some)];
    let repeat = select(vec![
        Repeat::Same,
        Repeat::SameWithBlanks,
        Repeat::Other,
        Repeat::Empty,
    ]);
    let repeated = prop_oneof![12 => Just(None), 1 => (0..3_usize, repeat).prop_map(Some)];
    let others = subsequence(
        vec![
            ("content-type", "application/json"),
            ("Svix-Id", "msg_1"),
            ("svix-signature", "v1,AAAA"),
            ("webhook-ids", "wh_other"),
            ("x-webhook-id", "wh_other"),
            ("webhook_timestamp", "1"),
        ],
        0..=6,
    );
    (
        0..4_usize,
        rarely(12, 5_usize),
        rarely(30, 3_usize),
        repeated,
        others,
        vec(any::<Index>(), 12),
    )
        .prop_map(
            |(case, blanks_around, missing, repeated, others, order)| HeaderForm {
                case,
                blanks_around,
                missing,
                repeated,
                others,
                order,
            },
        )
}

impl HeaderForm {
    fn headers(
        &self,
        id: &[u8],
        timestamp: &[u8],
        signatures: Vec<Vec<u8>>,
    ) -> Vec<(String, Vec<u8>)> {
        let name = |name: &str| match self.case {
            0 => name.to_owned(),
            1 => name.to_uppercase(),
            2 => name.replace("webhook", "Webhook").replace("-i", "-I"),
            _ => name.replace('o', "O"),
        };
        let mut headers = vec![
            (name(WEBHOOK_ID), id.to_vec()),
            (name(WEBHOOK_TIMESTAMP), timestamp.to_vec()),
        ];
        headers.extend(
            signatures
                .into_iter()
                .map(|value| (name(WEBHOOK_SIGNATURE), value)),
        );
        if let Some(blanks) = self.blanks_around {
            let (before, behind) =
                [(" ", ""), ("", " "), ("\t", ""), ("", "\t"), (" \t", "  ")][blanks];
            for (_, value) in &mut headers {
                *value = [before.as_bytes(), value, behind.as_bytes()].concat();
            }
        }
        if let Some((which, repeat)) = self.repeated {
            let (name, value) = headers[which].clone();
            let again = match repeat {
                Repeat::Same => value,
                Repeat::SameWithBlanks => [b" ", &value[..], b"\t"].concat(),
                Repeat::Other => [&value[..], b"0"].concat(),
                Repeat::Empty => Vec::new(),
            };
            headers.push((name.to_lowercase(), again));
        }
        if let Some(which) = self.missing {
            headers.remove(which);
        }
        headers.extend(
            self.others
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.as_bytes().to_vec())),
        );
        let mut in_order = Vec::new();
        for at in &self.order {
            if headers.is_empty() {
                break;
            }
            in_order.push(headers.swap_remove(at.index(headers.len())));
        }
        in_order.extend(headers);
        in_order
    }
}

/// What happens to a request on its way.
#[derive(Clone, Debug)]
enum Tampering {
    None,
    Header(Index, Index, u8),
    Body(Index, u8),
    Secret(Index),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        24 => Just(Tampering::None),
        1 => (any::<Index>(), any::<Index>(), 0..8_u8).prop_map(|(header, at, bit)| Tampering::Header(header, at, bit)),
        1 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Tampering::Body(at, bit)),
        1 => any::<Index>().prop_map(Tampering::Secret),
    ]
}

impl Tampering {
    fn apply_to(&self, request: &mut Request) {
        match self {
            Self::None => {}
            Self::Header(header, at, bit) => {
                let header = header.index(request.headers.len());
                let value = &mut request.headers[header].1;
                if !value.is_empty() {
                    let at = at.index(value.len());
                    let changed = value[at] ^ (1 << bit);
                    if !b"\0\r\n".contains(&changed) {
                        value[at] = changed;
                    }
                }
            }
            Self::Body(at, bit) => {
                if !request.body.is_empty() {
                    let at = at.index(request.body.len());
                    request.body[at] ^= 1 << bit;
                }
            }
            Self::Secret(at) => {
                let mut letters: Vec<char> = request.secret.chars().collect();
                if !letters.is_empty() {
                    let at = at.index(letters.len());
                    letters[at] = if letters[at] == 'x' { 'y' } else { 'x' };
                    request.secret = letters.into_iter().collect();
                }
            }
        }
    }
}

/// Bodies of every kind; most are events.
pub(crate) fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        12 => select(EventType::ALL).prop_map(|kind| kind.sample().to_owned()),
        6 => events(),
        3 => unknown_events(),
        5 => broken_events(),
        1 => any_json(),
        2 => ("\\PC{0,3}|[ \n\t\r]{0,3}|//|,", select(EventType::ALL), "\\PC{0,3}|[ \n\t\r]{0,3}|[]}]|\0")
            .prop_map(|(before, kind, behind)| format!("{before}{}{behind}", kind.sample())),
        1 => (select(EventType::ALL), any::<Index>()).prop_map(|(kind, at)| {
            let sample = kind.sample();
            sample[..at.index(sample.len())].to_owned()
        }),
        1 => select(vec!["", " ", "null", "[]", "{}", "{", "\"batch.completed\"", "[\"evt_1\",\"note.taken\"]"]).prop_map(str::to_owned),
    ]
    .prop_map(String::into_bytes);
    prop_oneof![
        24 => text,
        1 => select(EventType::ALL).prop_map(|kind| [b"\xEF\xBB\xBF", kind.sample().as_bytes()].concat()),
        1 => (select(EventType::ALL), any::<Index>(), 0x80..=0xff_u8).prop_map(|(kind, at, byte)| {
            let mut body = kind.sample().as_bytes().to_vec();
            body.insert(at.index(body.len()), byte);
            body
        }),
        1 => vec(any::<u8>(), 0..80),
    ]
}

/// Events with fields in another order, with fields we do not know, with blanks between.
fn events() -> impl Strategy<Value = String> {
    (select(EventType::ALL), unknown_fields(), layout()).prop_map(|(kind, unknown, layout)| {
        let mut fields = fields_of(kind.sample());
        fields.extend(unknown);
        layout.write(fields)
    })
}

/// Events of types that OpenAI may add.
pub(crate) fn unknown_events() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        "[a-z_]{0,8}(\\.[a-z_]{1,8}){0,3}",
        "\\PC{0,12}",
        select(EventType::ALL).prop_map(|kind| format!("{kind} ")),
    ]
    .prop_filter("known", |kind| kind.parse::<EventType>().is_err());
    (
        kind,
        "\\PC{0,12}",
        any_json(),
        prop_oneof![Just("1750287018".to_owned()), any_json()],
        unknown_fields(),
        layout(),
    )
        .prop_map(|(kind, id, data, created_at, unknown, layout)| {
            let mut fields = vec![
                ("id".to_owned(), as_json(&id)),
                ("type".to_owned(), as_json(&kind)),
                ("created_at".to_owned(), created_at),
                ("data".to_owned(), data),
            ];
            fields.extend(unknown);
            layout.write(fields)
        })
}

/// Known events with a field, or a field of their `data`, that is missing, of another kind, or there twice.
fn broken_events() -> impl Strategy<Value = String> {
    let wrong = prop_oneof![
        select(vec![
            "null",
            "true",
            "7",
            "7.0",
            "7.5",
            "-7",
            "1e3",
            "1e400",
            "\"7\"",
            "\"event\"",
            "[]",
            "{}",
            "[\"x\"]",
            "{\"id\":\"x\"}",
            "[{\"name\":\"a\",\"value\":\"b\"}]",
            "[{\"name\":\"a\"}]",
            "9223372036854775808",
            "NaN",
            "Infinity",
            "\"\\ud800\"",
            "\"\\x\"",
            "01",
        ])
        .prop_map(str::to_owned),
        any_json(),
    ];
    (
        select(EventType::ALL),
        any::<bool>(),
        any::<Index>(),
        0..3,
        wrong,
        layout(),
    )
        .prop_map(|(kind, is_in_data, at, change, wrong, layout)| {
            let mut fields = fields_of(kind.sample());
            let data = fields
                .iter()
                .position(|(key, _)| key == "data")
                .expect("every sample has data");
            let mut inner = fields_of(&fields[data].1);
            let changed = if is_in_data { &mut inner } else { &mut fields };
            let at = at.index(changed.len());
            match change {
                0 => drop(changed.remove(at)),
                1 => changed[at].1 = wrong,
                _ => {
                    let again = (changed[at].0.clone(), wrong);
                    changed.push(again);
                }
            }
            if is_in_data {
                fields[data].1 = Layout::default().write(inner);
            }
            layout.write(fields)
        })
}

fn unknown_fields() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        "[a-z_]{1,10}",
        "\\PC{0,6}",
        select(vec![
            "Id",
            "type ",
            "ID",
            "__proto__",
            "constructor",
            "self",
            "cls",
            "model_config",
            "\u{feff}id"
        ])
        .prop_map(str::to_owned),
    ]
    .prop_filter("a field we know", |name| {
        !["id", "type", "object", "created_at", "data"].contains(&name.as_str())
    });
    prop_oneof![2 => Just(Vec::new()), 1 => vec((name, any_json()), 0..4)]
}

/// JSON as text, in all the ways that it can be written.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.50",
            "1e2",
            "1E+2",
            "-1e-7",
            "1e400",
            "123456789012345678901234567890",
            "\"\"",
            "\"\\u0000\"",
            "\"\\ud83d\\ude00\"",
            "\"\\/\\b\\f\"",
            "\"\u{2028}\u{7f}😀\"",
            "[]",
            "{}",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,12}".prop_map(|text| as_json(&text)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            (vec(("\\PC{0,6}", inner), 0..4), layout())
                .prop_map(|(fields, layout)| layout.write(fields)),
        ]
    })
}

/// Blanks and the order of fields.
#[derive(Clone, Debug, Default)]
struct Layout {
    blanks: &'static str,
    order: Vec<Index>,
}

fn layout() -> impl Strategy<Value = Layout> {
    (
        select(vec!["", "", " ", "\n  ", "\r\n\t"]),
        vec(any::<Index>(), 0..10),
    )
        .prop_map(|(blanks, order)| Layout { blanks, order })
}

impl Layout {
    fn write(&self, mut fields: Vec<(String, String)>) -> String {
        let blanks = self.blanks;
        for (at, other) in self.order.iter().enumerate() {
            if at < fields.len() {
                let other = other.index(fields.len());
                fields.swap(at, other);
            }
        }
        let fields: Vec<String> = fields
            .iter()
            .map(|(key, value)| format!("{blanks}{}:{blanks}{value}", as_json(key)))
            .collect();
        format!("{{{}{blanks}}}", fields.join(","))
    }
}

fn fields_of(json: &str) -> Vec<(String, String)> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(json).expect("an object");
    object
        .into_iter()
        .map(|(key, value)| (key, value.to_string()))
        .collect()
}

fn as_json(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}
