//! Bodies: events of known and unknown types, broken ones, and other JSON.

use openai_webhooks::EventType;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

/// Bodies of all kinds; most are events.
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

/// Events with fields in any order, with unknown fields, and with blanks between tokens.
fn events() -> impl Strategy<Value = String> {
    (select(EventType::ALL), unknown_fields(), layout()).prop_map(|(kind, unknown, layout)| {
        let mut fields = fields_of(kind.sample());
        fields.extend(unknown);
        layout.write(fields)
    })
}

/// Events of types that OpenAI may add later.
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

/// Known events with a field, or a field of their `data`, that is missing, of another kind, or
/// duplicated.
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

/// JSON as text, in all possible spellings.
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
