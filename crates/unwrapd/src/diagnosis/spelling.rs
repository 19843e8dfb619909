//! The spellings of a JSON value: how common programs write it. Pure.

mod writer;

use super::json::{Json, Member, Text};
use writer::Writer;

/// A way to write JSON, under the name of a call that writes it so.
pub(super) struct Spelling {
    pub(super) name: &'static str,
    layout: Layout,
    escapes: Escapes,
    order: Order,
    ending: &'static str,
}

/// The blanks between the parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// None.
    Compact,
    /// One after each comma and colon.
    Spaced,
    /// One after each colon, and each item on a line of its own, indented with this.
    Lines(&'static str),
}

/// The characters of a string that are escaped beside `"`, `\` and controls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// No others.
    Needed,
    /// All outside of printable ASCII.
    Ascii,
    /// All outside of ASCII, and `/`.
    AsciiAndSlash,
    /// `<`, `>`, `&` and the line separators U+2028 and U+2029.
    Html,
    /// All outside of printable ASCII, and `"`, `'`, `` ` ``, `<`, `>`, `&` and `+`, in capitals.
    DotNet,
}

/// The order of the keys of each object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Kept,
    Sorted,
    ShortestFirst,
}

use Escapes::{Ascii, AsciiAndSlash, DotNet, Html, Needed};
use Layout::{Compact, Lines, Spaced};

/// The spellings that are tried. If several write a text alike, the first one is named.
pub(super) const SPELLINGS: &[Spelling] = &[
    spelling("JSON.stringify(event)", Compact, Needed),
    spelling("json.dumps(event)", Spaced, Ascii),
    spelling("json.dumps(event, ensure_ascii=False)", Spaced, Needed),
    spelling(
        r#"json.dumps(event, separators=(",", ":"))"#,
        Compact,
        Ascii,
    ),
    spelling("JSON.stringify(event, null, 2)", Lines("  "), Needed),
    spelling("JSON.stringify(event, null, 4)", Lines("    "), Needed),
    spelling(r#"JSON.stringify(event, null, "\t")"#, Lines("\t"), Needed),
    spelling("json.dumps(event, indent=2)", Lines("  "), Ascii),
    spelling("json.dumps(event, indent=4)", Lines("    "), Ascii),
    spelling("json_encode($event)", Compact, AsciiAndSlash),
    spelling("json.Marshal(event) of Go", Compact, Html),
    spelling("json.NewEncoder(w).Encode(event)", Compact, Html).ending("\n"),
    spelling("JsonSerializer.Serialize(event) of .NET", Compact, DotNet),
    spelling("jq -c .", Compact, Needed).ending("\n"),
    spelling("jq .", Lines("  "), Needed).ending("\n"),
    spelling("json.dumps(event, sort_keys=True)", Spaced, Ascii).sorted(),
    spelling(
        "json.dumps(event, sort_keys=True, ensure_ascii=False)",
        Spaced,
        Needed,
    )
    .sorted(),
    spelling(
        r#"json.dumps(event, sort_keys=True, separators=(",", ":"))"#,
        Compact,
        Ascii,
    )
    .sorted(),
    spelling(
        "json.dumps(event, sort_keys=True, indent=2)",
        Lines("  "),
        Ascii,
    )
    .sorted(),
    spelling(
        "json.dumps(event, sort_keys=True, indent=4)",
        Lines("    "),
        Ascii,
    )
    .sorted(),
    spelling("serde_json::Value::to_string()", Compact, Needed).sorted(),
    spelling("json.Marshal(event) of Go, of a map", Compact, Html).sorted(),
    spelling("jq -S .", Lines("  "), Needed)
        .sorted()
        .ending("\n"),
    spelling("a `jsonb` column of PostgreSQL", Spaced, Needed).shortest_first(),
];

const fn spelling(name: &'static str, layout: Layout, escapes: Escapes) -> Spelling {
    Spelling {
        name,
        layout,
        escapes,
        order: Order::Kept,
        ending: "",
    }
}

impl Spelling {
    const fn sorted(self) -> Self {
        Self {
            order: Order::Sorted,
            ..self
        }
    }

    const fn shortest_first(self) -> Self {
        Self {
            order: Order::ShortestFirst,
            ..self
        }
    }

    const fn ending(self, ending: &'static str) -> Self {
        Self { ending, ..self }
    }

    /// Whether OpenAI may write so with another order of the keys: on one line, and without the
    /// habits of one language.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.layout, Compact | Spaced)
            && matches!(self.escapes, Needed | Ascii)
            && self.order == Order::Kept
            && self.ending.is_empty()
    }

    /// The value in this spelling.
    pub(super) fn write(&self, json: &Json<'_>) -> Vec<u8> {
        let mut writer = Writer::new(self);
        writer.value(json, 0);
        writer.end()
    }

    /// An object with these members in this spelling.
    pub(super) fn write_object(&self, members: &[Member<'_>]) -> Vec<u8> {
        let mut writer = Writer::new(self);
        writer.object(members, 0);
        writer.end()
    }
}

/// The name of the first spelling that writes the value as this text. With `is_reordered`, those
/// that change the order of the keys come first.
pub(super) fn name_of(text: &[u8], json: &Json<'_>, is_reordered: bool) -> Option<&'static str> {
    let writes_it = |spelling: &&Spelling| spelling.write(json) == text;
    let reorders = |spelling: &&Spelling| spelling.order != Order::Kept;
    let mut reordering = SPELLINGS.iter().filter(|it| is_reordered && reorders(it));
    let found = reordering
        .find(writes_it)
        .or_else(|| SPELLINGS.iter().find(writes_it));
    found.map(|spelling| spelling.name)
}

/// The name of the order of keys among the [`differences`].
pub(super) const KEY_ORDER: &str = "key order";

/// The parts in which two spellings of one event differ, for people.
pub(super) fn differences(one: (&[u8], &Json<'_>), other: (&[u8], &Json<'_>)) -> Vec<&'static str> {
    let (one, other) = (Parts::of(one), Parts::of(other));
    [
        (KEY_ORDER, one.keys != other.keys),
        ("spacing", one.blanks != other.blanks),
        ("escapes", one.strings != other.strings),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// The parts of a text, to be compared.
struct Parts<'t> {
    /// The keys in their order, without escapes.
    keys: Vec<&'t str>,
    /// The strings as they are written, sorted.
    strings: Vec<&'t str>,
    /// Number of bytes that are neither brackets, commas and colons nor within values.
    blanks: usize,
}

impl<'t> Parts<'t> {
    fn of((text, json): (&[u8], &'t Json<'t>)) -> Self {
        let mut parts = Self {
            keys: Vec::new(),
            strings: Vec::new(),
            blanks: text.len(),
        };
        let mut others = 0;
        json.visit(&mut |key: Option<&'t Text<'t>>, value| {
            if let Some(key) = key {
                parts.keys.push(&key.value);
                parts.strings.push(key.written);
                // A key has a colon.
                others += key.written.len() + 1;
            }
            others += match value {
                Json::Text(text) => {
                    parts.strings.push(text.written);
                    text.written.len()
                }
                Json::Word(word) => word.len(),
                Json::Object(members) => 2 + members.len().saturating_sub(1),
                Json::Array(values) => 2 + values.len().saturating_sub(1),
            };
        });
        parts.blanks = parts.blanks.saturating_sub(others);
        parts.strings.sort_unstable();
        parts
    }
}
#[cfg(test)]
mod tests;
