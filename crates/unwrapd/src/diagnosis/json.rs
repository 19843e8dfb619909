//! A JSON text that can be written again: objects keep their order, numbers their digits. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Longest text that is read: the limit of the gateway for a body.
const BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of values in it, so that it takes about 2 MiB of memory. An event has fewer than a
/// hundred.
const VALUES_MAX: usize = 16 * 1024;
/// Deepest nesting. It bounds the stack, and the passes over the text: one for each level.
const DEPTH_MAX: usize = 16;

/// A member of an object.
pub(super) type Member<'t> = (Text<'t>, Json<'t>);

/// A JSON value.
#[derive(Clone)]
pub(super) enum Json<'t> {
    Object(Vec<Member<'t>>),
    Array(Vec<Json<'t>>),
    Text(Text<'t>),
    /// A number, `true`, `false` or `null`.
    Word(&'t str),
}

/// A string.
#[derive(Clone)]
pub(super) struct Text<'t> {
    /// The string as it is written, with its quotation marks.
    pub(super) written: &'t str,
    /// The string without escapes.
    pub(super) value: Cow<'t, str>,
}

impl<'t> Json<'t> {
    /// `None`: the text is not JSON, or is beyond a limit.
    pub(super) fn read(text: &'t [u8]) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        // This checks the whole text without recursion.
        let text: &RawValue = serde_json::from_slice(text).ok()?;
        let mut values_left = VALUES_MAX;
        Self::of(text.get(), DEPTH_MAX, &mut values_left)
    }

    fn of(text: &'t str, depth_left: usize, values_left: &mut usize) -> Option<Self> {
        let depth_left = depth_left.checked_sub(1)?;
        *values_left = values_left.checked_sub(1)?;
        let items = || {
            let mut text = serde_json::Deserializer::from_str(text);
            text.deserialize_any(Items).ok()
        };
        Some(match text.as_bytes().first()? {
            b'{' => {
                let members = items()?.into_iter().map(|(key, value)| {
                    Some((Text::of(key)?, Self::of(value, depth_left, values_left)?))
                });
                Self::Object(members.collect::<Option<_>>()?)
            }
            b'[' => {
                let values = items()?.into_iter();
                let values = values.map(|(_, value)| Self::of(value, depth_left, values_left));
                Self::Array(values.collect::<Option<_>>()?)
            }
            b'"' => Self::Text(Text::of(text)?),
            _ => Self::Word(text),
        })
    }

    /// Calls `each` with every value, from the outside to the inside, and with the key of each.
    pub(super) fn visit<'j>(&'j self, each: &mut impl FnMut(Option<&'j Text<'t>>, &'j Json<'t>)) {
        self.visit_as(None, each);
    }

    fn visit_as<'j>(
        &'j self,
        key: Option<&'j Text<'t>>,
        each: &mut impl FnMut(Option<&'j Text<'t>>, &'j Json<'t>),
    ) {
        each(key, self);
        match self {
            Self::Object(members) => {
                for (key, value) in members {
                    value.visit_as(Some(key), each);
                }
            }
            Self::Array(values) => {
                for value in values {
                    value.visit_as(None, each);
                }
            }
            Self::Text(_) | Self::Word(_) => {}
        }
    }
}

impl<'t> Text<'t> {
    fn of(written: &'t str) -> Option<Self> {
        let value = if written.contains('\\') {
            Cow::Owned(serde_json::from_str(written).ok()?)
        } else {
            Cow::Borrowed(written.get(1..written.len() - 1)?)
        };
        Some(Self { written, value })
    }
}

/// Splits an object or an array into the texts of its keys and values. Those of an array have no
/// key.
struct Items;

impl<'t> Visitor<'t> for Items {
    type Value = Vec<(&'t str, &'t str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            push(&mut items, (key.get(), value.get()))?;
        }
        Ok(items)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = values.next_element::<&RawValue>()? {
            push(&mut items, ("", value.get()))?;
        }
        Ok(items)
    }
}

fn push<T, E: serde::de::Error>(items: &mut Vec<T>, item: T) -> Result<(), E> {
    if items.len() >= VALUES_MAX {
        return Err(E::custom("more values than are read"));
    }
    items.push(item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_escapes_beside_its_value() {
        let Some(Json::Text(text)) = Json::read(br#" "a\/\u00e9\ud83d\ude00" "#) else {
            panic!("it is a string");
        };
        assert_eq!(text.value, "a/é😀");
        assert_eq!(text.written, r#""a\/\u00e9\ud83d\ude00""#);
    }

    #[test]
    fn a_text_that_is_not_json_or_is_beyond_a_limit_is_not_read() {
        let deep = [vec![b'['; DEPTH_MAX + 1], vec![b']'; DEPTH_MAX + 1]].concat();
        let many = [b"[".as_slice(), &b"0,".repeat(VALUES_MAX), b"0]"].concat();
        let keys = [b"{".as_slice(), &b"\"\":0,".repeat(VALUES_MAX), b"\"\":0}"].concat();
        let long = [b"\"".as_slice(), &vec![b'x'; BYTES_MAX], b"\""].concat();
        let none: [&[u8]; 11] = [
            b"",
            b"{",
            b"{\"a\"}",
            b"[1,]",
            b"\"a",
            b"\"\\ud83d\"",
            b"{} {}",
            &deep,
            &many,
            &keys,
            &long,
        ];
        for text in none {
            assert!(Json::read(text).is_none(), "{:?}", text.get(..20));
        }
        assert!(Json::read(b" {\"a\": [1, {}, []], \"b\": null}\r\n").is_some());
    }
}
