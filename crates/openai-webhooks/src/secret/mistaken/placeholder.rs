//! Recognises placeholders for a secret, and what programs print when a secret is missing.

/// Words of placeholders.
const PLACEHOLDERS: [&str; 12] = [
    "your",
    "replace",
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "example",
    "insert",
    "goes-here",
    "goes_here",
    "<",
    "todo",
];

/// Words that programs and people write for a missing value.
const NOTHING: [&str; 29] = [
    "undefined",
    "null",
    "(null)",
    "none",
    "(none)",
    "nil",
    "nan",
    "true",
    "false",
    "unset",
    "(unset)",
    "not set",
    "not_set",
    "(not set)",
    "n/a",
    "tbd",
    "empty",
    "(empty)",
    "(hidden)",
    "(redacted)",
    "redacted",
    "[]",
    "[object object]",
    "promise { <pending> }",
    "system.security.securestring",
    "string",
    "webhook_secret",
    "webhook-secret",
    "openai_webhook_secret",
];

/// Parts of the error messages of commands that should print a secret.
const MESSAGES: [&str; 12] = [
    "command not found",
    "no such file or directory",
    "permission denied",
    "access denied",
    "accessdenied",
    "an error occurred",
    "not authorized",
    "could not be found",
    "secret not found",
    "resourcenotfoundexception",
    "is not recognized as",
    "unable to locate credentials",
];

/// Whether the key behind `whsec_` is a placeholder.
pub(super) fn stands_behind_prefix(lower_key: &str) -> bool {
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
    let mut words = PLACEHOLDERS.iter().chain(&["secret", "webhook"]);
    let is_of_words = words.any(|word| lower_key.contains(word));
    let is_blank_form = !lower_key.is_empty() && lower_key.bytes().all(|letter| letter == b'x');
    is_blank_form
        || NOTHING.contains(&lower_key)
        || is_of_words && !lower_key.chars().all(is_base64)
}

/// Whether the text is a message of a program.
pub(super) fn is_message(lower: &str) -> bool {
    let is_error = ["error:", "fatal:", "usage:", "traceback "]
        .iter()
        .any(|start| lower.starts_with(start));
    is_error || MESSAGES.iter().any(|message| lower.contains(message))
}

/// Whether the text is a placeholder.
pub(super) fn is_placeholder(lower: &str) -> bool {
    let is_blank_form =
        lower.len() > 2 && lower.bytes().all(|letter| letter == b'x' || letter == b'*');
    let holds = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // A key of random letters may contain such a word by chance, but then usually has digits too.
    let is_in_words = !lower.contains(|letter: char| letter.is_ascii_digit())
        || PLACEHOLDERS.iter().any(|word| lower.starts_with(word));
    let is_of_words = is_in_words
        && holds(&PLACEHOLDERS)
        && holds(&["secret", "key", "webhook", "here", "token"]);
    let is_request = ["change", "replace", "insert", "fill"].iter().any(|verb| {
        let rest = lower.strip_prefix(verb);
        rest.is_some_and(|rest| {
            let rest = rest.trim_start_matches(['-', '_', ' ']);
            rest.strip_prefix("me")
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_lowercase()))
        })
    });
    let is_enclosed = lower.len() > 2
        && (lower.starts_with('<') && lower.ends_with('>')
            || lower.starts_with('[') && lower.ends_with(']'));
    NOTHING.contains(&lower) || is_blank_form || is_of_words || is_request || is_enclosed
}
