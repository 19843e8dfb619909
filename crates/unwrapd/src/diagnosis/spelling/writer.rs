//! Writes a value in one spelling. Pure.

use super::Escapes::{self, Ascii, AsciiAndSlash, DotNet, Html, Needed};
use super::Layout::{Compact, Lines, Spaced};
use super::{Order, Spelling};
use crate::diagnosis::json::{Json, Member};

/// Writes a value in one spelling.
pub(super) struct Writer<'s> {
    spelling: &'s Spelling,
    out: Vec<u8>,
}

impl<'s> Writer<'s> {
    pub(super) fn new(spelling: &'s Spelling) -> Self {
        Self {
            spelling,
            out: Vec::new(),
        }
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.out.extend_from_slice(self.spelling.ending.as_bytes());
        self.out
    }

    pub(super) fn value(&mut self, json: &Json<'_>, depth: usize) {
        match json {
            Json::Object(members) => self.object(members, depth),
            Json::Array(values) => self.list(*b"[]", values, depth, |writer, value| {
                writer.value(value, depth + 1);
            }),
            Json::Text(text) => self.text(&text.value),
            Json::Word(word) => self.out.extend_from_slice(word.as_bytes()),
        }
    }

    pub(super) fn object(&mut self, members: &[Member<'_>], depth: usize) {
        let mut members: Vec<&Member<'_>> = members.iter().collect();
        match self.spelling.order {
            Order::Kept => {}
            Order::Sorted => members.sort_by(|(a, _), (b, _)| a.value.cmp(&b.value)),
            Order::ShortestFirst => {
                members.sort_by(|(a, _), (b, _)| {
                    (a.value.len(), &a.value).cmp(&(b.value.len(), &b.value))
                });
            }
        }
        let colon = match self.spelling.layout {
            Compact => ":",
            Spaced | Lines(_) => ": ",
        };
        self.list(*b"{}", &members, depth, |writer, (key, value)| {
            writer.text(&key.value);
            writer.out.extend_from_slice(colon.as_bytes());
            writer.value(value, depth + 1);
        });
    }

    fn list<T>(
        &mut self,
        [opening, closing]: [u8; 2],
        items: &[T],
        depth: usize,
        mut write: impl FnMut(&mut Self, &T),
    ) {
        self.out.push(opening);
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
                if self.spelling.layout == Spaced {
                    self.out.push(b' ');
                }
            }
            self.begin_line(depth + 1);
            write(self, item);
        }
        if !items.is_empty() {
            self.begin_line(depth);
        }
        self.out.push(closing);
    }

    fn begin_line(&mut self, depth: usize) {
        if let Lines(indentation) = self.spelling.layout {
            self.out.push(b'\n');
            for _ in 0..depth {
                self.out.extend_from_slice(indentation.as_bytes());
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'"');
        for letter in text.chars() {
            self.letter(letter);
        }
        self.out.push(b'"');
    }

    fn letter(&mut self, letter: char) {
        let escapes = self.spelling.escapes;
        let short = match letter {
            '"' if escapes != DotNet => Some(b'"'),
            '\\' => Some(b'\\'),
            '\u{8}' => Some(b'b'),
            '\t' => Some(b't'),
            '\n' => Some(b'n'),
            '\u{C}' => Some(b'f'),
            '\r' => Some(b'r'),
            '/' if escapes == AsciiAndSlash => Some(b'/'),
            _ => None,
        };
        if let Some(short) = short {
            self.out.extend_from_slice(&[b'\\', short]);
        } else if escapes.hide(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let unit = match escapes {
                    DotNet => format!("\\u{unit:04X}"),
                    _ => format!("\\u{unit:04x}"),
                };
                self.out.extend_from_slice(unit.as_bytes());
            }
        } else {
            let bytes = &mut [0; 4];
            let letter = letter.encode_utf8(bytes);
            self.out.extend_from_slice(letter.as_bytes());
        }
    }
}

impl Escapes {
    /// Whether it writes this character as `\uXXXX`.
    fn hide(self, letter: char) -> bool {
        let is_of_html = matches!(letter, '<' | '>' | '&');
        letter < ' '
            || match self {
                Needed => false,
                Ascii => letter >= '\u{7F}',
                AsciiAndSlash => letter > '\u{7F}',
                Html => is_of_html || matches!(letter, '\u{2028}' | '\u{2029}'),
                DotNet => {
                    letter >= '\u{7F}' || is_of_html || matches!(letter, '"' | '\'' | '`' | '+')
                }
            }
    }
}
