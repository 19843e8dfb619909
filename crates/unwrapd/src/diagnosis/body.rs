//! Changes that programs make to a body, other than another spelling of its JSON: each with its
//! name, its finding, its remedy, and the ways to undo it. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json::Json;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";
/// Shortest text that is taken for base64 or for a body within another.
const HIDDEN_BYTES_MIN: usize = 16;
/// Maximum number of texts within a body that are tried.
const TEXTS_MAX: usize = 8;

/// A change of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyChange {
    /// Its stable name.
    pub(super) name: &'static str,
    /// The change, as a sentence without its end.
    pub(super) finding: &'static str,
    /// The next step, in the imperative.
    pub(super) remedy: &'static str,
}

/// A way to undo a change; `None`: the body does not have it.
type Undo = for<'b> fn(&'b [u8]) -> Option<Cow<'b, [u8]>>;

/// The changes in the order in which they are tried.
pub(super) const CHANGES: &[(BodyChange, &[Undo])] = &[
    (
        BodyChange {
            name: "line_end_added",
            finding: "A line end was added to the body, and without it the signature matches",
            remedy: "have the proxy or the script pass the body on unchanged; editors, `echo` and \
                     here-documents add a line end",
        },
        &[without_line_end],
    ),
    (
        BodyChange {
            name: "line_end_removed",
            finding: "The line end was removed from the body, and with it the signature matches",
            remedy: "have the proxy or the script pass the body on unchanged; `$(…)`, `trim()` and \
                     `curl --data` remove line ends, `curl --data-binary` does not",
        },
        &[with_line_end, with_long_line_end],
    ),
    (
        BodyChange {
            name: "byte_order_mark",
            finding: "A byte order mark was put before the body, and without it the signature \
                      matches",
            remedy: "write the body as UTF-8 without a byte order mark, or pass on the bytes",
        },
        &[without_mark],
    ),
    (
        BodyChange {
            name: "blanks_added",
            finding: "Blanks were added around the body, and without them the signature matches",
            remedy: "have the proxy or the script pass the body on unchanged",
        },
        &[without_blanks],
    ),
    (
        BodyChange {
            name: "body_base64",
            finding: "The body is base64, and decoded the signature matches",
            remedy: "decode the body before it is verified; Lambda: `Buffer.from(event.body, \
                     \"base64\")` if `event.isBase64Encoded`",
        },
        &[decoded],
    ),
    (
        BodyChange {
            name: "body_quoted",
            finding: "The body is a JSON string that holds the payload, and decoded the signature \
                      matches",
            remedy: "pass the body on without `JSON.stringify` or `json.dumps`: it is a text \
                     already",
        },
        &[unquoted],
    ),
    (
        BodyChange {
            name: "body_charset",
            finding: "The characters of the body were converted to another charset, and converted \
                      back the signature matches",
            remedy: "pass the body on as bytes, or read and write it as UTF-8; Express: \
                     `express.raw`, FastAPI: `await request.body()`",
        },
        &[from_misread, from_utf_16],
    ),
];

/// The change of a body that holds the payload in one of its [`texts_within`].
pub(super) const WRAPPED: BodyChange = BodyChange {
    name: "body_wrapped",
    finding: "The body is JSON that holds the payload as a text, and that text alone matches the \
              signature",
    remedy: "verify only the text of the payload; Lambda: `event.body`, not the event",
};

/// The texts within a JSON body that may be a payload, as they are and decoded from base64.
pub(super) fn texts_within(json: &Json<'_>) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    json.visit(&mut |_, value| {
        let Json::Text(text) = value else {
            return;
        };
        let text = &*text.value;
        if text.len() < HIDDEN_BYTES_MIN || texts.len() >= TEXTS_MAX {
            return;
        }
        if text.trim_start().starts_with('{') {
            texts.push(text.as_bytes().to_vec());
        } else if text.starts_with("ey") || text.starts_with("ew") {
            // `{"` and `{` with a blank or a line end.
            texts.extend(decoded(text.as_bytes()).map(Cow::into_owned));
        }
    });
    texts
}

fn without_line_end(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let cut = body.strip_suffix(b"\n")?;
    Some(cut.strip_suffix(b"\r").unwrap_or(cut).into())
}

fn with_line_end(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    ended(body, b"\n")
}

fn with_long_line_end(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    ended(body, b"\r\n")
}

fn ended<'b>(body: &[u8], end: &[u8]) -> Option<Cow<'b, [u8]>> {
    (!body.ends_with(b"\n")).then(|| [body, end].concat().into())
}

fn without_mark(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    body.strip_prefix(MARK).map(Cow::Borrowed)
}

fn without_blanks(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let trimmed = body.trim_ascii();
    (trimmed.len() < body.len()).then_some(trimmed.into())
}

/// Base64 of either alphabet, also on several lines.
fn decoded(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let is_base64 = |letter: &u8| letter.is_ascii_alphanumeric() || b"+/-_=\r\n\"".contains(letter);
    if body.len() < HIDDEN_BYTES_MIN || !body.iter().all(is_base64) {
        return None;
    }
    let letters = body.iter().filter(|letter| !b"\r\n\"".contains(letter));
    let letters: Vec<u8> = letters
        .map(|letter| match letter {
            b'-' => b'+',
            b'_' => b'/',
            letter => *letter,
        })
        .collect();
    let engine = GeneralPurpose::new(&alphabet::STANDARD, config);
    engine.decode(letters).ok().map(Cow::Owned)
}

fn unquoted(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let text: String = serde_json::from_slice(body).ok()?;
    Some(text.into_bytes().into())
}

/// UTF-8 that was read as Latin-1, and written as UTF-8.
fn from_misread(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    if body.is_ascii() {
        return None;
    }
    let letters = std::str::from_utf8(body).ok()?.chars();
    let bytes: Option<Vec<u8>> = letters.map(|letter| u8::try_from(letter).ok()).collect();
    let bytes = bytes.filter(|bytes| std::str::from_utf8(bytes).is_ok());
    bytes.map(Cow::Owned)
}

fn from_utf_16(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    utf_16(body).map(|text| text.into_bytes().into())
}

/// The text, if it is UTF-16 that begins with a byte order mark or an ASCII character.
pub(crate) fn utf_16(bytes: &[u8]) -> Option<String> {
    let (is_little, bytes) = match bytes {
        [0xFF, 0xFE, rest @ ..] => (true, rest),
        [0xFE, 0xFF, rest @ ..] => (false, rest),
        [1..=0x7F, 0, ..] => (true, bytes),
        [0, 1..=0x7F, ..] => (false, bytes),
        _ => return None,
    };
    let (pairs, rest) = bytes.as_chunks();
    let unit = |pair: &[u8; 2]| {
        if is_little {
            u16::from_le_bytes(*pair)
        } else {
            u16::from_be_bytes(*pair)
        }
    };
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(unit))
        .collect::<Result<String, _>>()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = r#"{"id":"evt_1","name":"Renée","n":1}"#;

    fn undone(name: &str, body: &[u8]) -> Vec<Vec<u8>> {
        let (_, undos) = CHANGES.iter().find(|(it, _)| it.name == name).unwrap();
        let bodies = undos.iter().filter_map(|undo| undo(body));
        bodies.map(Cow::into_owned).collect()
    }

    #[test]
    fn each_change_is_undone() {
        let misread: String = PAYLOAD.bytes().map(char::from).collect();
        let utf_16: Vec<u8> = PAYLOAD.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(PAYLOAD);
        let lines = format!("{}\n{}", &base64[..20], &base64[20..]);
        for (name, body) in [
            ("line_end_added", format!("{PAYLOAD}\n").into_bytes()),
            ("line_end_added", format!("{PAYLOAD}\r\n").into_bytes()),
            ("blanks_added", format!("\n {PAYLOAD}\n\n").into_bytes()),
            ("byte_order_mark", format!("\u{FEFF}{PAYLOAD}").into_bytes()),
            ("body_base64", base64.into_bytes()),
            ("body_base64", lines.into_bytes()),
            ("body_quoted", serde_json::to_vec(PAYLOAD).unwrap()),
            ("body_charset", misread.into_bytes()),
            ("body_charset", utf_16),
        ] {
            let undone = undone(name, &body);
            assert!(undone.contains(&PAYLOAD.as_bytes().to_vec()), "{name}");
        }
        let with_end = [&b"{}\n"[..], b"{}\r\n"];
        assert_eq!(undone("line_end_removed", b"{}"), with_end);
    }

    #[test]
    fn a_payload_has_only_the_change_that_every_body_may_have() {
        let possible = CHANGES
            .iter()
            .filter(|(_, undos)| undos.iter().any(|undo| undo(PAYLOAD.as_bytes()).is_some()));
        let possible: Vec<&str> = possible.map(|(change, _)| change.name).collect();
        assert_eq!(possible, ["line_end_removed"]);
    }

    #[test]
    fn payloads_within_another_body_are_found_as_text_and_as_base64() {
        let base64 = base64::engine::general_purpose::STANDARD.encode(PAYLOAD);
        let event =
            serde_json::json!({ "a": { "body": PAYLOAD, "b": base64, "c": "{}", "d": "x" } });
        let event = event.to_string();
        let json = Json::read(event.as_bytes()).unwrap();
        assert_eq!(texts_within(&json), [PAYLOAD.as_bytes(); 2]);
    }
}
