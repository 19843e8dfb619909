//! Mistakes in the text of a configuration: all that one run finds, each with its line and its
//! remedy.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

/// Largest number of mistakes that are reported at once. More are the sign of a wrong file.
const MISTAKES_MAX: usize = 50;
/// Longest unknown key that is repeated, in bytes: longer than any known key. Secrets are usually
/// longer.
const SHOWN_KEY_BYTES_MAX: usize = 32;

/// A mistake in the text of a configuration.
#[derive(Debug)]
pub(crate) struct Mistake {
    /// Bytes of the text that it is about; `None`: the whole text.
    span: Option<Range<usize>>,
    /// The problem and the remedy, without any value of the text, because a value may be a secret
    /// in the wrong place.
    problem: String,
    kind: Kind,
}

/// The relation of a mistake to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No relation.
    Plain,
    /// Other mistakes about the same value are only consequences of it.
    Cause,
    /// Something is missing, perhaps because it is in text that is not TOML.
    Absence,
    /// The text is not TOML.
    Syntax,
    /// The text is not TOML, so the meaning of the following text is unknown too.
    Brackets,
}

impl Mistake {
    pub(crate) fn new(span: Range<usize>, problem: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            problem: problem.into(),
            kind: Kind::Plain,
        }
    }

    /// As [`new`](Self::new), but replaces other mistakes about the same value.
    pub(crate) fn cause(span: Range<usize>, problem: impl Into<String>) -> Self {
        Self {
            kind: Kind::Cause,
            ..Self::new(span, problem)
        }
    }

    /// As [`new`](Self::new), about something that is missing.
    pub(crate) fn absence(span: Range<usize>, problem: impl Into<String>) -> Self {
        Self {
            kind: Kind::Absence,
            ..Self::new(span, problem)
        }
    }

    /// A mistake about the whole text, in which something is missing.
    pub(crate) fn whole(problem: impl Into<String>) -> Self {
        Self {
            span: None,
            problem: problem.into(),
            kind: Kind::Absence,
        }
    }

    pub(super) fn from_toml(error: &toml::de::Error) -> Self {
        Self {
            span: error.span(),
            problem: explain(error.message()),
            kind: Kind::Plain,
        }
    }

    /// A mistake in text that is not TOML.
    pub(crate) fn from_syntax(error: &toml::de::Error) -> Self {
        const BARE_TEXTS: [&str; 4] = [
            "invalid float",
            "invalid integer",
            "invalid datetime",
            "string values must be quoted",
        ];
        // An error within brackets has the parser take what follows for a part of them.
        const WITHIN_BRACKETS: [&str; 3] = ["table", "array", "key-value pairs"];
        let message = error.message();
        // The message of the parser may show what it expected, but never what it found.
        let problem = if looks_secret(message) {
            "this cannot be read as TOML".to_owned()
        } else if BARE_TEXTS.iter().any(|start| message.starts_with(start)) {
            "this cannot be read as TOML: write a text in quotation marks".to_owned()
        } else {
            format!("this cannot be read as TOML: {message}")
        };
        let is_within_brackets = WITHIN_BRACKETS.iter().any(|part| message.contains(part));
        Self {
            span: error.span(),
            problem,
            kind: if is_within_brackets {
                Kind::Brackets
            } else {
                Kind::Syntax
            },
        }
    }

    /// The lines of the text that it is about, counted from 1.
    fn lines(&self, text: &str) -> Option<RangeInclusive<usize>> {
        let span = self.span.as_ref()?;
        let line = |end: usize| Some(text.get(..end)?.matches('\n').count() + 1);
        Some(line(span.start)?..=line(span.end.max(span.start))?)
    }

    /// The first line of them.
    fn line(&self, text: &str) -> Option<usize> {
        self.lines(text).map(|lines| *lines.start())
    }

    fn is_syntax(&self) -> bool {
        matches!(self.kind, Kind::Syntax | Kind::Brackets)
    }
}

/// Mistakes that were found in one run.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(crate) fn add(&mut self, others: impl Into<Self>) {
        self.0.append(&mut others.into().0);
        self.0.truncate(MISTAKES_MAX + 1);
    }

    /// Returns the value. Of an error it keeps the mistakes and returns `None`, so that the rest is
    /// checked too.
    pub(crate) fn keep<T>(&mut self, result: Result<T, impl Into<Self>>) -> Option<T> {
        result.map_err(|mistakes| self.add(mistakes)).ok()
    }

    /// The number under `key`, if there is one. Of a number out of range it keeps the mistake and
    /// returns `None`.
    pub(crate) fn keep_number<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        number: Option<Spanned<T>>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let number = number?;
        if !range.contains(number.get_ref()) {
            let (min, max) = range.into_inner();
            self.add(Mistake::new(
                number.span(),
                format!("`{key}` must be {min} to {max}"),
            ));
            return None;
        }
        Some(number.into_inner())
    }

    /// An error if there are any.
    pub(crate) fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.0.len() > MISTAKES_MAX
    }

    /// The mistakes with their lines, in the order of the text.
    pub(crate) fn in_order(mut self, text: &str) -> Vec<(Option<usize>, String)> {
        let are_too_many = self.are_too_many();
        self.leave_out_consequences_of_syntax(text);
        let causes: Vec<Range<usize>> = self
            .0
            .iter()
            .filter(|mistake| mistake.kind == Kind::Cause)
            .filter_map(|mistake| mistake.span.clone())
            .collect();
        self.0.retain(|mistake| {
            let follows = |span: &Range<usize>| {
                let holds =
                    |cause: &Range<usize>| span.start <= cause.start && cause.end <= span.end;
                causes.iter().any(holds)
            };
            mistake.kind == Kind::Cause || !mistake.span.as_ref().is_some_and(follows)
        });
        self.0.truncate(MISTAKES_MAX);
        let start = |mistake: &Mistake| mistake.span.as_ref().map(|span| span.start);
        self.0.sort_by_key(start);
        let mut all: Vec<_> = self
            .0
            .into_iter()
            .map(|mistake| (mistake.line(text), mistake.problem))
            .collect();
        if are_too_many {
            all.push((
                None,
                format!("there are more than {MISTAKES_MAX} mistakes: is this the right file?"),
            ));
        }
        all
    }

    /// The meaning of text that is not TOML is unknown. So nothing counts as missing then, and a
    /// line that is not TOML has no other mistake.
    fn leave_out_consequences_of_syntax(&mut self, text: &str) {
        let mut broken = BTreeSet::new();
        let is_first = |mistake: &Mistake| {
            !mistake.is_syntax() || mistake.line(text).is_none_or(|line| broken.insert(line))
        };
        self.0.retain(is_first);
        if !self.0.iter().any(Mistake::is_syntax) {
            return;
        }
        let brackets = self.0.iter().filter(|one| one.kind == Kind::Brackets);
        let known_until = brackets.filter_map(|one| one.line(text)).min();
        let known_until = known_until.unwrap_or(usize::MAX);
        self.0.retain(|mistake| {
            let Some(lines) = mistake.lines(text) else {
                return mistake.is_syntax();
            };
            // The parser puts an empty value in the place of one that it could not read.
            let is_made_up = mistake.span.as_ref().is_none_or(Range::is_empty);
            let is_consequence = mistake.kind == Kind::Absence
                || is_made_up
                || broken.range(lines.clone()).next().is_some();
            *lines.start() <= known_until && (mistake.is_syntax() || !is_consequence)
        });
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

/// The parser's message, without the values it may quote, and with the nearest right name for a
/// wrong one.
fn explain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((wrong, rest)) = rest.split_once("`, expected ")
    {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return unknown_key(wrong, &known);
    }
    if let Some(name) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'))
    {
        return format!("the key `{name}` is missing here: add it");
    }
    match message.rsplit_once(", expected ") {
        Some((wrong, expected))
            if wrong.starts_with("invalid ") || wrong.starts_with("unknown ") =>
        {
            match expected {
                "u16" | "u32" | "u64" | "usize" if wrong.contains(": integer `") => {
                    "this number is negative, or too large".into()
                }
                "u16" | "u32" | "u64" | "usize" => "this must be a whole number".into(),
                "a sequence" => {
                    "this must be a list, [ … ], or a table in double brackets, [[…]]".into()
                }
                "a boolean" => "this must be true or false, without quotation marks".into(),
                "a string" => "this must be a text in quotation marks".into(),
                expected if expected.starts_with("struct ") => {
                    "this must be a table, with a line for each of its keys".into()
                }
                expected => format!("this must be {expected}"),
            }
        }
        _ if looks_secret(message) => "this cannot be read as TOML".into(),
        _ => message.to_owned(),
    }
}

/// The problem of an unknown key. The key itself may be a secret or other text in the wrong place.
pub(super) fn unknown_key(wrong: &str, known: &[&str]) -> String {
    if looks_secret(wrong) {
        return "this is a secret where a key belongs: remove it, and replace the secret, which readers of this file have seen".into();
    }
    if wrong.len() > SHOWN_KEY_BYTES_MAX || !wrong.bytes().all(is_of_keys) {
        return format!("this key does not exist here (known: {})", known.join(", "));
    }
    let nearest = known
        .iter()
        .max_by(|a, b| strsim::jaro(a, wrong).total_cmp(&strsim::jaro(b, wrong)));
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    format!(
        "there is no key `{wrong}` here{hint} (known: {})",
        known.join(", ")
    )
}

/// No known key has a digit, and most secrets have some.
fn is_of_keys(letter: u8) -> bool {
    letter.is_ascii_alphabetic() || b"_-.".contains(&letter)
}

/// An event pattern for a message. Types have a dot; without one it may be a secret.
pub(crate) fn shown_pattern(pattern: &str) -> &str {
    if pattern.contains('.') || pattern.bytes().all(is_of_keys) {
        pattern
    } else {
        "[not shown]"
    }
}

/// Whether the text has the form of a secret, or holds one: a webhook secret, a key of OpenAI's
/// API, or a key in PEM.
pub(crate) fn looks_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // Many words, and so names of files, end in "sk".
    let is_separator =
        |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | '=' | ':');
    ["whsec_", "whsec-", "-----begin"]
        .iter()
        .any(|part| text.contains(part))
        || text.split(is_separator).any(|word| word.starts_with("sk-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_shows_no_value_of_the_text() {
        let message = r#"invalid type: string "whsec_secret, expected x", expected a sequence"#;
        assert!(explain(message).starts_with("this must be a list"));
    }

    #[test]
    fn the_nearest_right_name_is_offered() {
        let message = "unknown field `lisen`, expected one of `admin`, `listen`, `drain`";
        assert!(explain(message).contains("did you mean `listen`?"));
    }

    #[test]
    fn a_secret_in_the_place_of_a_key_is_not_shown() {
        for secret in [
            "whsec_abc",
            "WHSEC_abc",
            "whsec-abc",
            "sk-proj-abc",
            "Bearer sk-abc",
            "OPENAI_API_KEY=sk-abc",
            "-----BEGIN PRIVATE KEY-----\nabc",
            "abc 0123456789",
            "0123456789abcdef0123456789abcdefA",
            "9f86d081884c7d659a2feaa0c55abc01",
        ] {
            let message = format!("unknown field `{secret}`, expected `listen` or `admin`");
            let told = explain(&message);
            assert!(!told.contains("abc"), "{told}");
        }
        for plain in ["disk-usage", "/run/secrets/sk-openai", "whsec"] {
            assert!(!looks_secret(plain), "{plain}");
        }
    }

    #[test]
    fn mistakes_stand_in_the_order_of_the_text_and_have_a_bound() {
        let mut mistakes = Mistakes::default();
        mistakes.add(Mistake::new(4..5, "second"));
        mistakes.add(Mistake::new(0..1, "first"));
        mistakes.add(Mistake::whole("of all"));
        let all = mistakes.in_order("a\nb\nc");
        let expected = [(None, "of all"), (Some(1), "first"), (Some(3), "second")];
        assert_eq!(all, expected.map(|(line, text)| (line, text.to_owned())));

        let mut mistakes = Mistakes::default();
        for _ in 0..1000 {
            mistakes.add(Mistake::new(0..1, "again"));
        }
        assert_eq!(mistakes.in_order("a").len(), MISTAKES_MAX + 1);
    }
}
