//! Texts that are certainly not a webhook secret. With such a text as the secret, every webhook
//! would be refused without an explanation.

use super::{PREFIX, SecretError};

/// Says what the text is, if it is certainly not a secret; `text` is trimmed. No secret that OpenAI
/// makes is recognised as something else.
pub(super) fn recognise(text: &str) -> Option<SecretError> {
    let lower = text.to_ascii_lowercase();
    // A password of random letters may begin or end with a quotation mark; so one mark is enough
    // only if `whsec_` is inside.
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
        let is_masked = MASKS.iter().any(|mask| text.contains(mask));
        let hidden = text
            .contains(is_invisible)
            .then_some(SecretError::Invisible);
        is_masked.then_some(SecretError::Masked).or(hidden)
    })
}

/// Removes characters around a copied secret that are not part of it: white space of Unicode, line
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

/// Words of placeholders for a secret.
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

fn behind_prefix(text: &str, lower: &str) -> Option<SecretError> {
    if !text.starts_with(PREFIX) {
        return Some(SecretError::PrefixCase);
    }
    let key = &text[PREFIX.len()..];
    let lower_key = &lower[PREFIX.len()..];
    if lower_key.contains(PREFIX) {
        return Some(SecretError::Several);
    }
    if is_reference(key) {
        return Some(SecretError::NotExpanded);
    }
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
    let is_of_words = PLACEHOLDERS.iter().any(|word| lower_key.contains(word))
        || ["secret", "webhook"]
            .iter()
            .any(|word| lower_key.contains(word));
    let is_blank_form = !key.is_empty() && lower_key.bytes().all(|letter| letter == b'x');
    if is_blank_form || is_of_words && !key.chars().all(is_base64) {
        return Some(SecretError::Placeholder);
    }
    let has_mask = key.contains('*') || MASKS.iter().any(|mask| key.contains(mask));
    has_mask.then_some(SecretError::Masked)
}

fn without_prefix(text: &str, lower: &str) -> Option<SecretError> {
    let starts = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    let known: [(&[&str], SecretError); 4] = [
        (
            &["-----begin", "ssh-", "ecdsa-", "whpk_", "whsk_"],
            SecretError::AsymmetricKey,
        ),
        (
            &["whsec", "wh_sec", "wh-sec", "whsc_", "whsecret"],
            SecretError::PrefixSpelling,
        ),
        (&["hsec_", "sec_"], SecretError::PrefixSpelling),
        // `whsec_` in base64 and in hexadecimal digits.
        (&["d2hzzwnf", "77687365635f"], SecretError::EncodedTwice),
    ];
    if let Some((_, error)) = known.into_iter().find(|(these, _)| starts(these)) {
        return Some(error);
    }
    // API keys always begin in lower case; a key of random letters seldom does so.
    if text.starts_with("sk-") || text.starts_with("sk_") {
        return Some(SecretError::ApiKey);
    }
    if text.starts_with("whe_") {
        return Some(SecretError::EndpointId);
    }
    if is_authorization(lower) {
        return Some(SecretError::Authorization);
    }
    if is_id(text) {
        return Some(SecretError::OtherId);
    }
    if text.contains([
        '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
    ]) {
        return Some(SecretError::SeveralLines);
    }
    if is_reference(text) {
        return Some(SecretError::NotExpanded);
    }
    if is_assignment(text) {
        return Some(SecretError::Assignment);
    }
    if is_place(lower) {
        return Some(SecretError::Place);
    }
    if lower.starts_with("eyj") && lower.matches('.').count() == 2 {
        return Some(SecretError::WebToken);
    }
    let is_in_backticks = text.len() > 1 && text.starts_with('`') && text.ends_with('`');
    if is_in_backticks {
        return Some(SecretError::Quoted);
    }
    is_placeholder(lower).then_some(SecretError::Placeholder)
}

/// Whether the text is the header `Authorization` or its value: a scheme and exactly one word,
/// because a sentence may begin with the same word.
fn is_authorization(lower: &str) -> bool {
    let value = ["bearer ", "basic ", "token "]
        .iter()
        .find_map(|scheme| lower.strip_prefix(scheme));
    lower.starts_with("authorization:")
        || value.is_some_and(|value| !value.trim().contains(char::is_whitespace))
}

/// Whether the text is the id of an object at OpenAI. A password of several words may have the same
/// beginning.
fn is_id(text: &str) -> bool {
    const STARTS: [&str; 8] = [
        "wh_", "evt_", "proj_", "org-", "org_", "resp_", "batch_", "rtc_",
    ];
    let rest = STARTS.iter().find_map(|start| text.strip_prefix(start));
    rest.is_some_and(|rest| rest.bytes().all(|letter| letter.is_ascii_alphanumeric()))
}

/// Whether the text is a reference to a variable that was not replaced by its value.
fn is_reference(text: &str) -> bool {
    let encloses = |open: &str, close: &str| {
        text.len() > open.len() + close.len() && text.starts_with(open) && text.ends_with(close)
    };
    let is_name = |name: &str| {
        let mut letters = name.bytes();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    // Variables have capitals and several words; other text may be a key.
    let is_variable = |name: &str| {
        is_name(name)
            && name.contains('_')
            && !name.bytes().any(|letter| letter.is_ascii_lowercase())
    };
    let is_about_secrets = |name: &str| {
        let name = name.to_ascii_lowercase();
        is_name(&name) && name.contains('_') && name.contains("secret")
    };
    let code = [
        "process.env",
        "os.environ",
        "os.getenv",
        "getenv(",
        "env[",
        "env(",
        "env.",
        "$env:",
        "import.meta.env",
        "secrets.",
        "valuefrom",
        "secretkeyref",
    ];
    let lower = text.to_ascii_lowercase();
    // A password of random letters may hold the opening mark, but seldom a name and the closing
    // mark after it.
    let holds = |open: &str, close: &str| {
        let name = text
            .split_once(open)
            .and_then(|(_, rest)| rest.split_once(close));
        name.is_some_and(|(name, _)| {
            let name = name.trim().trim_start_matches(['.', '$']);
            name.len() > 1
                && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        })
    };
    holds("${", "}")
        || holds("{{", "}}")
        || text.starts_with("$(")
        || text.starts_with("#{")
        || encloses("%", "%") && is_name(&text[1..text.len() - 1])
        || encloses("{", "}") && is_name(&text[1..text.len() - 1])
        || encloses("__", "__") && is_name(text)
        || encloses("@", "@") && is_name(&text[1..text.len() - 1])
        || text
            .strip_prefix('$')
            .is_some_and(|name| is_variable(name) || is_about_secrets(name))
        || is_variable(text) && is_about_secrets(text)
        || code.iter().any(|start| lower.starts_with(start))
}

/// Whether the text is a line of a configuration, in the form of a shell, of YAML, TOML or JSON.
fn is_assignment(text: &str) -> bool {
    let line = text
        .strip_prefix("export ")
        .or_else(|| text.strip_prefix("set "))
        .unwrap_or(text);
    if line.starts_with('{') && line.ends_with('}') {
        return true;
    }
    let Some((name, value)) = line.split_once(['=', ':']) else {
        return false;
    };
    let name = name.trim_matches(|letter: char| letter.is_whitespace() || is_quote(letter));
    let is_name = name.len() > 2
        && name
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || b"_-.".contains(&letter));
    let lower = name.to_ascii_lowercase();
    let is_about_secrets = lower.contains("secret") || lower.contains("webhook");
    let is_in_capitals = !name.bytes().any(|letter| letter.is_ascii_lowercase());
    // Base64 may begin in capitals and end with `=`. It has no `_`, and nothing after its padding.
    let is_padding = value.bytes().all(|letter| letter == b'=') && !name.contains('_');
    is_name && !is_padding && (is_about_secrets || is_in_capitals && name.contains('_'))
}

/// Whether the text is the location of a secret, not the secret.
fn is_place(lower: &str) -> bool {
    let starts = [
        "/run/",
        "/etc/",
        "/var/",
        "/home/",
        "/root/",
        "/tmp/",
        "/mnt/",
        "/opt/",
        "/secrets/",
        "/users/",
        "./",
        "../",
        "~/",
        "c:\\",
        "arn:",
        "vault:",
        "ssm:",
        "env:",
        "file:",
        "projects/",
    ];
    lower.contains("://") || starts.iter().any(|start| lower.starts_with(start))
}

fn is_placeholder(lower: &str) -> bool {
    const WORDS: [&str; 18] = [
        "undefined",
        "null",
        "(null)",
        "none",
        "nil",
        "nan",
        "true",
        "false",
        "unset",
        "(unset)",
        "n/a",
        "tbd",
        "empty",
        "[object object]",
        "string",
        "webhook_secret",
        "webhook-secret",
        "openai_webhook_secret",
    ];
    let is_blank_form =
        lower.len() > 2 && lower.bytes().all(|letter| letter == b'x' || letter == b'*');
    let holds = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // A key of random letters may hold such a word by chance, but then usually has digits too.
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
    WORDS.contains(&lower) || is_blank_form || is_of_words || is_request || is_enclosed
}
