//! Secrets as operators configure them, and the keys of senders.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The configured text of the receiver, and the key of the sender.
#[derive(Clone, Debug)]
pub(super) struct SecretInUse {
    pub(super) text: String,
    pub(super) key: Vec<u8>,
}

pub(super) fn secrets() -> impl Strategy<Value = SecretInUse> {
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
        // The sender of a raw secret may have it with or without the blanks.
        3 => (
            blanks(),
            blanks(),
            prop_oneof![
                key().prop_map(move |key| SecretInUse { text: whsec(&key), key }),
                "[!-~]{1,60}".prop_map(raw),
            ],
            any::<bool>(),
        )
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

/// Spellings of a key that verifiers treat differently.
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
