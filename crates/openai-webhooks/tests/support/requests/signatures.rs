//! Values of `webhook-signature`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::header_byte;

/// The items of `webhook-signature`, and where it is split into several headers.
#[derive(Clone, Debug)]
pub(super) struct SignatureList {
    items: Vec<Item>,
    separator: &'static [u8],
    break_every: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Good,
    GoodBare,
    /// The good signature in a form of base64 that we do not use.
    GoodOddly(usize),
    Wrong(Vec<u8>),
    Text(Vec<u8>),
}

pub(super) fn signature_lists() -> impl Strategy<Value = SignatureList> {
    let item = || {
        prop_oneof![
            3 => Just(Item::Good),
            2 => Just(Item::GoodBare),
            1 => (0..ODD_SIGNATURES.len()).prop_map(Item::GoodOddly),
            2 => vec(any::<u8>(), 32).prop_map(Item::Wrong),
            2 => select(vec![
                "v1,", "v1", ",", "v1a,b64", "v2,AAAA", "t=1", "\u{b}", "é", "签", "=", "\"",
                "v1,=", "null",
            ])
            .prop_map(|text| Item::Text(text.as_bytes().to_vec())),
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
    // The letter before the padding with an unused bit set: it decodes to the same bytes if that is
    // not checked.
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
    pub(super) fn values(&self, mac: &[u8]) -> Vec<Vec<u8>> {
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
