//! Errors for a command line that clap refuses, without parts that may be a password or a secret.
//! Terminals and logs of CI are recorded.

use clap::error::{ContextKind, ContextValue};

/// Longest argument that is repeated, in characters: longer than every known option, subcommand and
/// value.
const SHOWN_CHARS_MAX: usize = 32;

/// Replacement for an argument that is not repeated.
const HIDDEN: &str = "[not shown]";

/// Parts of a command line, as clap quotes them.
const QUOTED: [ContextKind; 5] = [
    ContextKind::InvalidValue,
    ContextKind::InvalidArg,
    ContextKind::InvalidSubcommand,
    ContextKind::TrailingArg,
    ContextKind::PriorArg,
];

/// The error, with each argument hidden that is not plain, and with each value of a URL option
/// hidden.
pub(super) fn without_values(mut error: clap::Error) -> clap::Error {
    let is_url = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(argument)) if argument.contains("URL")
    );
    let mut is_hidden = false;
    for kind in QUOTED {
        let of_url = is_url && kind == ContextKind::InvalidValue;
        let hidden = match error.get(kind) {
            Some(ContextValue::String(text)) => hide(text, of_url),
            Some(ContextValue::Strings(texts)) => {
                let hidden: Vec<Option<String>> =
                    texts.iter().map(|text| hide(text, of_url)).collect();
                let is_any = hidden.iter().any(Option::is_some);
                let all = hidden
                    .into_iter()
                    .zip(texts.clone())
                    .map(|(hidden, text)| hidden.unwrap_or(text));
                let all = ContextValue::Strings(all.collect());
                if is_any {
                    error.insert(kind, all);
                    is_hidden = true;
                }
                continue;
            }
            _ => None,
        };
        if let Some(hidden) = hidden {
            error.insert(kind, ContextValue::String(hidden));
            is_hidden = true;
        }
    }
    if is_hidden {
        // Advice such as "to pass it as a value, use `-- VALUE`" would repeat the argument.
        for kind in [
            ContextKind::Suggested,
            ContextKind::SuggestedCommand,
            ContextKind::SuggestedSubcommand,
            ContextKind::SuggestedValue,
        ] {
            error.remove(kind);
        }
    }
    error
}

/// The text to show instead, if the text must not be shown. Of an option with a value, the name is
/// shown.
fn hide(text: &str, always: bool) -> Option<String> {
    if always {
        return Some(HIDDEN.into());
    }
    if let Some((name, value)) = text.split_once('=')
        && name.starts_with('-')
    {
        let hidden = hide(value, false)?;
        return Some(hide(name, false).unwrap_or_else(|| format!("{name}={hidden}")));
    }
    // The form in which clap quotes a known option: its name and the placeholder of its value.
    let is_option = text.starts_with("--") && text.ends_with('>');
    let name = if is_option {
        text.split(['<', '[']).next().unwrap_or(text).trim_end()
    } else {
        text.trim_matches(['<', '>', '[', ']', '.'])
    };
    let is_plain = name.chars().count() <= SHOWN_CHARS_MAX
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_.*!:+".contains(letter))
        && !name.to_ascii_lowercase().contains("whsec")
        && !name.to_ascii_lowercase().starts_with("sk-");
    (!is_plain).then(|| HIDDEN.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn told(arguments: &[&str]) -> String {
        let all = ["unwrapd"].iter().chain(arguments);
        match Cli::try_parse_from(all) {
            Ok(_) => panic!("{arguments:?} is accepted"),
            Err(error) => without_values(error).render().to_string(),
        }
    }

    #[test]
    fn an_argument_that_may_be_a_password_is_never_repeated() {
        for arguments in [
            &[
                "trigger",
                "response.completed",
                "--to",
                "ftp://me:hunter2@host/",
            ][..],
            &[
                "trigger",
                "response.completed",
                "--to",
                "http://me:hunter2@host/",
            ],
            &[
                "trigger",
                "response.completed",
                "--to=http://me:hunter2@host/",
            ],
            &["trigger", "--too=http://me:hunter2@host/"],
            &["trigger", "--to", "http://a/", "--http://me:hunter2@host/"],
            &["dev", "--forward-to", "http://me:hunter2@[x/"],
            &["dev", "--forward-to", "http://:hunter2@host"],
            &["dev", "http://me:hunter2@host/"],
            &["events", "ls", "--admin", "http://me:hunter2@host/"],
            &["http://me:hunter2@host/"],
            &["serve", "whsec_hunter2"],
            &["serve", "--threads", "whsec-hunter2"],
            &["sign", "a", "sk-hunter2"],
            &["db", "copy", "--to", "a", "postgres://me:hunter2@db/x"],
            &["dev", "--listen", "me:hunter2@host"],
            &["events", "ls", "--since", "http://me:hunter2@host/"],
            &["events", "postgres://me:hunter2@db/x"],
            &["verify", "a", "--secret", "whsec_hunter2"],
            &["verify", "a", "--secret=whsec_hunter2"],
            &["verify", "a", "-shunter2@x"],
        ] {
            let told = told(arguments);
            assert!(!told.contains("hunter2"), "{arguments:?}: {told}");
            assert!(told.starts_with("error: "), "{told}");
            let is_empty_advice = |line: &str| line.trim() == "tip:";
            assert!(!told.lines().any(is_empty_advice), "{told}");
        }
    }

    #[test]
    fn a_harmless_argument_is_repeated_with_advice() {
        assert!(told(&["serve", "--thraeds", "2"]).contains("'--threads'"));
        assert!(told(&["events", "list"]).contains("'list'"));
        assert!(told(&["events", "ls", "--output", "yaml"]).contains("'yaml'"));
        assert!(told(&["serve", "--threads", "0"]).contains("'0'"));
        let told = told(&["trigger", "x", "--to", "ftp://host"]);
        assert!(told.contains("'--to <URL>'"), "{told}");
        assert!(told.contains("must begin with http://"), "{told}");
    }
}
