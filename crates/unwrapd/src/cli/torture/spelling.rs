//! The same JSON in other spellings. The texts are samples of the library, so they are valid.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// White space of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// A space after each comma and colon, as Python writes JSON, and the fixture of the SDKs.
    Spaced,
    /// None, as `JSON.stringify` writes it.
    Compact,
    /// A line for each value.
    Indented,
}

/// The JSON text with this white space.
pub(super) fn spelled(json: &str, spelling: Spelling) -> String {
    let mut spelled = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut is_text = false;
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if is_text {
            spelled.push(letter);
            match letter {
                '\\' => spelled.extend(letters.next()),
                '"' => is_text = false,
                _ => {}
            }
            continue;
        }
        match letter {
            ' ' | '\t' | '\n' | '\r' => continue,
            '"' => is_text = true,
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut spelled, spelling, depth);
            }
            _ => {}
        }
        spelled.push(letter);
        match (letter, spelling) {
            (':', Spelling::Spaced | Spelling::Indented) | (',', Spelling::Spaced) => {
                spelled.push(' ');
            }
            ('{' | '[' | ',', _) => line(&mut spelled, spelling, depth),
            _ => {}
        }
    }
    spelled
}

fn line(spelled: &mut String, spelling: Spelling, depth: usize) {
    if spelling == Spelling::Indented {
        spelled.push('\n');
        spelled.extend(std::iter::repeat_n("  ", depth));
    }
}

/// The JSON text with escapes in place of some letters: `\u0065` for `e`, `\/` for `/`.
pub(super) fn escaped(json: &str) -> String {
    json.replace('e', "\\u0065").replace('/', "\\/")
}

/// The JSON object with its keys in reverse alphabetical order: `type` first, `created_at` last.
pub(super) fn reordered(json: &str) -> String {
    let fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(json).expect("a sample is an object");
    let fields = fields.iter().rev();
    let fields: Vec<String> = fields
        .map(|(key, value)| format!("\"{key}\": {value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// The JSON text with all keys in alphabetical order and without white space, as Go writes a map.
pub(super) fn sorted(json: &str) -> String {
    let value: Value = serde_json::from_str(json).expect("a sample is JSON");
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openai_webhooks::EventType;

    #[test]
    fn every_spelling_of_every_sample_is_another_text_with_the_same_value() {
        for event_type in EventType::ALL {
            let sample = event_type.sample();
            let value: Value = serde_json::from_str(sample).unwrap();
            assert_eq!(spelled(sample, Spelling::Spaced), sample);
            for other in [
                spelled(sample, Spelling::Compact),
                spelled(sample, Spelling::Indented),
                escaped(sample),
                reordered(sample),
            ] {
                assert_ne!(other, sample);
                let read: Value = serde_json::from_str(&other).unwrap();
                assert_eq!(read, value, "{other}");
            }
        }
    }

    #[test]
    fn white_space_within_a_text_stays() {
        let json = r#"{"a\" : ,": "b: c, \\", "d": [1, 2]}"#;
        let compact = r#"{"a\" : ,":"b: c, \\","d":[1,2]}"#;
        assert_eq!(spelled(json, Spelling::Compact), compact);
        assert_eq!(spelled(compact, Spelling::Spaced), json);
        assert_eq!(
            spelled(r#"{"a":[1]}"#, Spelling::Indented),
            "{\n  \"a\": [\n    1\n  ]\n}"
        );
    }

    #[test]
    fn keys_come_in_the_named_order() {
        let json = r#"{"b": 1, "c": {"y": 1, "x": 2}, "a": "é"}"#;
        assert_eq!(
            reordered(json),
            r#"{"c": {"y": 1, "x": 2}, "b": 1, "a": "é"}"#
        );
        assert_eq!(sorted(json), r#"{"a":"é","b":1,"c":{"x":2,"y":1}}"#);
    }
}
