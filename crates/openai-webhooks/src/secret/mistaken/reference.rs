//! Recognises names of variables, configuration lines, and locations of a secret.

use super::is_quote;

/// Words in the names of variables that hold a secret.
const ABOUT_SECRETS: [&str; 6] = ["secret", "webhook", "openai", "api_key", "apikey", "token"];

/// Beginnings of an expression, of a language or a tool, that is replaced by a value.
const EXPRESSIONS: [&str; 25] = [
    "process.env",
    "deno.env",
    "os.environ",
    "os.getenv",
    "system.getenv",
    "getenv(",
    "env[",
    "env(",
    "env.",
    "env::",
    "std::env",
    "$env:",
    "import.meta.env",
    "secrets.",
    "vars.",
    "var.",
    "inputs.",
    "valuefrom",
    "secretkeyref",
    "!ref ",
    "!sub ",
    "!getatt ",
    "!importvalue ",
    "!reference ",
    "!vault ",
];

/// Whether the text is the name of a variable, or an expression, that was not replaced by its
/// value.
pub(super) fn is_variable(text: &str) -> bool {
    let encloses = |open: &str, close: &str| {
        text.len() > open.len() + close.len() && text.starts_with(open) && text.ends_with(close)
    };
    let is_inner_name = |open: &str, close: &str| {
        encloses(open, close) && is_name(&text[open.len()..text.len() - close.len()])
    };
    let lower = text.to_ascii_lowercase();
    // A password of random letters may contain the opening mark, but rarely a name and the closing
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
    // Angle and square brackets belong to placeholders.
    let is_mark = |letter: char| letter.is_ascii_punctuation() && !"_<>[]".contains(letter);
    let bare = match (text.starts_with(is_mark), text.ends_with(is_mark)) {
        (true, true) => text.trim_matches(is_mark),
        _ => text,
    };
    holds("${", "}")
        || holds("{{", "}}")
        || holds("$[[", "]]")
        || text.starts_with("$(")
        || text.starts_with("#{")
        || lower.starts_with("%env(")
        || is_inner_name("%", "%")
        || is_inner_name("{", "}")
        || is_inner_name("@", "@")
        || encloses("__", "__") && is_name(text)
        || text
            .strip_prefix('$')
            .is_some_and(|name| is_in_capitals(name) || is_about_secrets(name))
        || is_in_capitals(bare) && is_about_secrets(bare)
        || EXPRESSIONS.iter().any(|start| lower.starts_with(start))
}

fn is_name(text: &str) -> bool {
    let mut letters = text.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

/// Whether the text is a name in capitals and of several words, as variables have. Other text may
/// be a key.
fn is_in_capitals(text: &str) -> bool {
    is_name(text) && text.contains('_') && !text.bytes().any(|letter| letter.is_ascii_lowercase())
}

fn is_about_secrets(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    is_name(text) && ABOUT_SECRETS.iter().any(|word| lower.contains(word))
}

/// Whether the text is a line of a configuration, in the form of a shell, of YAML, TOML, JSON or a
/// container file.
pub(super) fn is_assignment(text: &str) -> bool {
    let line = [
        "export ", "set ", "setx ", "set -x ", "env ", "ENV ", "ARG ",
    ]
    .iter()
    .find_map(|start| text.strip_prefix(start))
    .unwrap_or(text);
    if line.starts_with('{') && line.ends_with('}') {
        return true;
    }
    if let Some((name, _)) = line.split_once(char::is_whitespace)
        && is_in_capitals(name)
        && is_about_secrets(name)
    {
        return true;
    }
    let Some((name, value)) = line.split_once(['=', ':']) else {
        return false;
    };
    let name = name.trim_matches(|letter: char| letter.is_whitespace() || is_quote(letter));
    let is_key = name.len() > 2
        && name
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || b"_-.".contains(&letter));
    let lower = name.to_ascii_lowercase();
    let is_about_secrets = lower.contains("secret") || lower.contains("webhook");
    let has_no_small_letter = !name.bytes().any(|letter| letter.is_ascii_lowercase());
    // Base64 may begin in capitals and end with `=`. It has no `_`, and nothing after its padding.
    let is_padding = value.bytes().all(|letter| letter == b'=') && !name.contains('_');
    is_key && !is_padding && (is_about_secrets || has_no_small_letter && name.contains('_'))
}

/// Whether the text is the location of a secret, not the secret.
pub(super) fn is_place(text: &str, lower: &str) -> bool {
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
        "$home/",
        "\\\\",
        "arn:",
        "vault:",
        "ssm:",
        "env:",
        "file:",
        "projects/",
        "@microsoft.keyvault(",
    ];
    lower.contains("://")
        || starts.iter().any(|start| lower.starts_with(start))
        || is_path(text)
        || lower.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && lower[1..].starts_with(":\\")
}

/// Whether the text is a path in small letters, or one with the ending of a file. Base64 may begin
/// with a slash, too, but it has capitals and no dot.
fn is_path(text: &str) -> bool {
    const ENDINGS: [&str; 8] = [
        ".txt", ".env", ".json", ".yaml", ".yml", ".toml", ".key", ".pem",
    ];
    let has_ending = ENDINGS.iter().any(|ending| text.ends_with(ending));
    let is_of_paths = |letter: u8| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"/._-".contains(&letter)
    };
    let is_in_small_letters = text.len() > 1 && text.bytes().all(is_of_paths);
    let has_several_parts = text.matches('/').count() > 1 && !text.contains("//");
    has_ending && is_in_small_letters
        || text.starts_with('/') && has_several_parts && is_in_small_letters
}
