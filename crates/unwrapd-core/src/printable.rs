//! Makes foreign text safe to print: escapes every character that acts on a terminal or is
//! invisible.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Default-ignorable code points that the standard library treats as printable. Unicode promises
/// that new code points with the property `Default_Ignorable_Code_Point` come only from ranges
/// reserved for it. Those ranges are unassigned, and so are escaped already.
const INVISIBLE: [(char, char); 10] = [
    ('\u{034F}', '\u{034F}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Whether printing `letter` does something other than show a letter: a control or format
/// character, a separator other than the blank, a private, unassigned or default-ignorable code
/// point.
#[must_use]
pub fn is_hidden(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_control();
    }
    let is_invisible = INVISIBLE
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&letter));
    is_invisible || !is_printable(letter)
}

/// Whether the standard library prints the character unchanged. The test puts it after a letter,
/// where combining marks are printed too.
fn is_printable(letter: char) -> bool {
    let mut text = String::with_capacity(5);
    text.push('x');
    text.push(letter);
    text.escape_debug().count() == 2
}

/// The text on one line, with each hidden character as `\u{…}`. Line ends are escaped too.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// Does the same as [`line()`], but keeps line ends, for output of several lines.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |letter| letter == '\n')
}

/// A duration in its two largest units.
#[must_use]
pub fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes} min {} s", seconds % 60),
        () if days == 0 => format!("{hours} h {} min", minutes % 60),
        () => format!("{days} d {} h", hours % 24),
    }
}

/// A number with its noun, in the singular for one: "1 message", "2 messages".
#[must_use]
pub fn counted(count: u64, one: &str, many: &str) -> String {
    let noun = if count == 1 { one } else { many };
    format!("{count} {noun}")
}

/// JSON with each hidden character as `\uXXXX`: the same value for every parser. `json` must be
/// valid JSON.
#[must_use]
pub fn json(json: &str) -> Cow<'_, str> {
    // Outside of strings, JSON has no hidden characters but line ends and tabs.
    let keep = |letter| matches!(letter, '\n' | '\r' | '\t');
    escape_with(json, keep, |escaped, letter| {
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    escape_with(text, keep, |escaped, letter| {
        escaped.extend(letter.escape_unicode());
    })
}

fn escape_with(
    text: &str,
    keep: impl Fn(char) -> bool,
    write_escaped: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    let is_safe = |letter: char| !is_hidden(letter) || keep(letter);
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_safe(letter) {
            escaped.push(letter);
        } else {
            write_escaped(&mut escaped, letter);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_their_two_largest_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3 * 3600 + 12 * 60 + 5, "3 h 12 min"),
            (49 * 3600, "2 d 1 h"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn every_kind_of_hidden_character_is_escaped() {
        let hidden = [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1B}',
            '\u{7F}',
            '\u{85}',
            '\u{9B}',
            '\u{A0}',
            '\u{AD}',
            '\u{34F}',
            '\u{600}',
            '\u{605}',
            '\u{61C}',
            '\u{6DD}',
            '\u{70F}',
            '\u{8E2}',
            '\u{115F}',
            '\u{1160}',
            '\u{17B4}',
            '\u{180B}',
            '\u{180E}',
            '\u{180F}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{200E}',
            '\u{200F}',
            '\u{2028}',
            '\u{2029}',
            '\u{202A}',
            '\u{202E}',
            '\u{2060}',
            '\u{2064}',
            '\u{2065}',
            '\u{2066}',
            '\u{2069}',
            '\u{206F}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{E000}',
            '\u{FDD0}',
            '\u{FE00}',
            '\u{FE0F}',
            '\u{FEFF}',
            '\u{FFA0}',
            '\u{FFF9}',
            '\u{FFFB}',
            '\u{FFFE}',
            '\u{FFFF}',
            '\u{110BD}',
            '\u{13430}',
            '\u{1BCA0}',
            '\u{1D173}',
            '\u{1FFFE}',
            '\u{E0001}',
            '\u{E0020}',
            '\u{E0041}',
            '\u{E007F}',
            '\u{E0100}',
            '\u{E01EF}',
            '\u{E0FFF}',
            '\u{F0000}',
            '\u{10FFFF}',
        ];
        for letter in hidden {
            assert!(is_hidden(letter), "{letter:?}");
            let code = u32::from(letter);
            assert_eq!(line(&format!("a{letter}b")), format!("a\\u{{{code:x}}}b"));
        }
    }

    #[test]
    fn text_that_people_write_stays_as_it_is() {
        for text in [
            "résumé ✓ → … “q” 'q' \"q\" \\ €",
            "e\u{301}",
            "日本語、한국어, עברית, العربية, हिन्दी, ไทย",
            "🙂",
            "\u{FFFD}",
        ] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn line_ends_stay_where_the_text_is_lines() {
        assert_eq!(lines("a\r\nb\n"), "a\\u{d}\nb\n");
        assert_eq!(line("a\nb"), "a\\u{a}b");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "a\u{200B}": "\u{1F}\u{7F}\u{9B}\u{202E}\u{E0041}\\u" });
        let text = serde_json::to_string(&value).unwrap();
        let safe = json(&text);
        assert!(safe.chars().all(|letter| !is_hidden(letter)), "{safe}");
        let read: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(read, value);
    }
}
