//! Recognises texts that are certainly not a webhook secret. With such a text as the secret, every
//! webhook would be refused without an explanation.

mod foreign;
mod placeholder;
mod prefix;
mod reference;

use super::{PREFIX, SecretError};

/// Names the problem of a text that is certainly not a secret. `text` must be trimmed. Secrets that
/// OpenAI makes always pass.
pub(super) fn recognise(text: &str) -> Option<SecretError> {
    let lower = text.to_ascii_lowercase();
    // A password of random letters may begin or end with a quotation mark. So one mark is enough
    // only if the text contains `whsec_`.
    let holds_prefix = lower.contains(PREFIX);
    if text.starts_with(is_quote) && (holds_prefix || text.ends_with(is_quote)) {
        return Some(SecretError::Quoted);
    }
    if text.starts_with("v1,") || lower.starts_with("webhook-signature") {
        return Some(SecretError::SignaturePrefix);
    }
    let of_form = match lower.find(PREFIX) {
        Some(0) => behind_prefix(text, &lower),
        Some(_) => Some(SecretError::PrefixInside),
        None => without_prefix(text, &lower),
    };
    of_form.or_else(|| {
        if holds_prefix && text.ends_with(is_quote) {
            return Some(SecretError::Quoted);
        }
        let hidden = text
            .contains(is_invisible)
            .then_some(SecretError::Invisible);
        (is_masked(text) || is_of_one_mark(text))
            .then_some(SecretError::Masked)
            .or(hidden)
    })
}

/// Removes characters around a copied secret that are not part of it: Unicode white space, line
/// ends and invisible characters.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || is_invisible(letter))
}

/// Invisible characters: a byte order mark, joiners, direction marks, controls. A variation
/// selector belongs to the character before it, and may end a key.
fn is_invisible(letter: char) -> bool {
    let is_line_or_blank = letter.is_whitespace();
    let is_format = matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !is_line_or_blank && (letter.is_control() || is_format)
}

fn is_quote(letter: char) -> bool {
    matches!(
        letter,
        '"' | '\''
            | '“'
            | '”'
            | '„'
            | '‟'
            | '‘'
            | '’'
            | '‚'
            | '‛'
            | '«'
            | '»'
            | '‹'
            | '›'
            | '＂'
            | '＇'
    )
}

/// Marks by which dashboards and people hide a part of a secret.
const MASKS: [&str; 6] = ["…", "...", "***", "•", "●", "[redacted]"];

fn behind_prefix(text: &str, lower: &str) -> Option<SecretError> {
    if !text.starts_with(PREFIX) {
        return Some(SecretError::PrefixCase);
    }
    let key = &text[PREFIX.len()..];
    let lower_key = &lower[PREFIX.len()..];
    if lower_key.starts_with(PREFIX) {
        return Some(SecretError::PrefixTwice);
    }
    if lower_key.contains(PREFIX) {
        return Some(SecretError::Several);
    }
    if reference::is_variable(key) {
        return Some(SecretError::NotExpanded);
    }
    if placeholder::stands_behind_prefix(lower_key) {
        return Some(SecretError::Placeholder);
    }
    if key.contains('*') || is_masked(key) {
        return Some(SecretError::Masked);
    }
    foreign::is_encoded_secret(key).then_some(SecretError::EncodedTwice)
}

/// The order matters: the first check that matches names the problem.
fn without_prefix(text: &str, lower: &str) -> Option<SecretError> {
    let is_in_backticks = text.len() > 1 && text.starts_with('`') && text.ends_with('`');
    let is_of_bytes = ["b'", "b\""]
        .iter()
        .any(|open| text.len() > 3 && text.starts_with(open) && text.ends_with(&open[1..]));
    if let Some(error) = foreign::recognise(text, lower) {
        return Some(error);
    }
    if prefix::is_misspelt(text) {
        return Some(SecretError::PrefixSpelling);
    }
    if text.contains([
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ]) {
        return Some(SecretError::SeveralLines);
    }
    if placeholder::is_message(lower) {
        return Some(SecretError::Message);
    }
    if reference::is_variable(text) {
        return Some(SecretError::NotExpanded);
    }
    if reference::is_assignment(text) {
        return Some(SecretError::Assignment);
    }
    if reference::is_place(text, lower) {
        return Some(SecretError::Place);
    }
    if is_in_backticks || is_of_bytes {
        return Some(SecretError::Quoted);
    }
    placeholder::is_placeholder(lower).then_some(SecretError::Placeholder)
}

/// Whether a part of the text is hidden by marks.
fn is_masked(text: &str) -> bool {
    MASKS.iter().any(|mask| text.contains(mask))
}

/// Whether all of the text is one mark, repeated.
fn is_of_one_mark(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next().filter(|letter| !letter.is_alphanumeric());
    first.is_some_and(|first| text.chars().count() > 2 && letters.all(|letter| letter == first))
}
