//! The keys that a file sets, for operators: each with its line and its value, and without secrets.

use std::path::{Path, PathBuf};

use reqwest::Url;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secrets::SecretSource;

/// Stands for a value that may be secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// The keys that a file sets. The default is that of no file.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub(crate) file: Option<PathBuf>,
    pub(crate) tables: Vec<WrittenTable>,
}

/// A table of a file.
#[derive(Clone, Debug)]
pub(crate) struct WrittenTable {
    pub(crate) name: String,
    pub(crate) keys: Vec<WrittenKey>,
}

/// A key of a file. Keys of a table within the table have a dot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WrittenKey {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// The line of the key, from 1.
    pub(crate) line: usize,
    /// Where its secrets come from: an environment variable or a file for each.
    pub(crate) secrets_from: Vec<String>,
}

impl Written {
    /// The keys of this file, whose text was parsed to `root`.
    pub(crate) fn of(file: &Path, text: &str, root: &DeTable<'_>) -> Self {
        let mut tables = Vec::new();
        let table = |name: &str, keys: &DeTable<'_>| WrittenTable {
            name: name.to_owned(),
            keys: keys_of(text, "", keys),
        };
        for (name, value) in root {
            match value.get_ref() {
                DeValue::Table(keys) => tables.push(table(name.get_ref(), keys)),
                DeValue::Array(all) => {
                    let keys = all.iter().filter_map(|one| one.get_ref().as_table());
                    tables.extend(keys.map(|keys| table(name.get_ref(), keys)));
                }
                _ => {}
            }
        }
        Self {
            file: Some(file.to_owned()),
            tables,
        }
    }

    /// The tables of this name, in the order of the file.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &WrittenTable> {
        self.tables.iter().filter(move |table| table.name == name)
    }
}

fn keys_of(text: &str, prefix: &str, keys: &DeTable<'_>) -> Vec<WrittenKey> {
    let mut found = Vec::new();
    for (key, value) in keys {
        let name = format!("{prefix}{}", key.get_ref());
        let secrets_from = secrets_from(value.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if secrets_from.is_empty() => {
                found.extend(keys_of(text, &format!("{name}."), inner));
            }
            _ => found.push(WrittenKey {
                value: if secrets_from.is_empty() {
                    shown(key.get_ref(), value_of(text, value))
                } else {
                    redacted(value.get_ref())
                },
                line: line_of(text, key.span().start),
                secrets_from,
                name,
            }),
        }
    }
    found.sort_by_key(|key| key.line);
    found
}

/// The sources of secrets that a value names.
fn secrets_from(value: &DeValue<'_>) -> Vec<String> {
    let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
    match value {
        DeValue::Table(source) => {
            let source = match (source.get("env"), source.get("file")) {
                (Some(name), None) => text(name).map(SecretSource::Env),
                (None, Some(path)) => text(path).map(|path| SecretSource::File(path.into())),
                _ => None,
            };
            source.iter().map(ToString::to_string).collect()
        }
        DeValue::Array(all) => all
            .iter()
            .flat_map(|one| secrets_from(one.get_ref()))
            .collect(),
        _ => Vec::new(),
    }
}

/// A list has as many parts as there are secrets.
fn redacted(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Array(all) => all.iter().map(|_| REDACTED).collect(),
        _ => REDACTED.into(),
    }
}

fn line_of(text: &str, start: usize) -> usize {
    let before = text.get(..start).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// The value that stands in the text.
fn value_of(text: &str, value: &Spanned<DeValue<'_>>) -> Value {
    let written = text.get(value.span()).unwrap_or_default();
    let read = toml::from_str::<toml::Table>(&format!("value = {written}")).ok();
    let value = read.and_then(|mut table| table.remove("value"));
    value
        .and_then(|value| serde_json::to_value(value).ok())
        .unwrap_or_else(|| REDACTED.into())
}

/// Longest path of a URL that is shown, in bytes.
const PATH_BYTES_MAX: usize = 48;
/// Longest part of such a path, in bytes: shorter than a key.
const PART_BYTES_MAX: usize = 16;

/// Arguments of a command, paths and queries of a URL may be secrets, although they should not.
fn shown(key: &str, value: Value) -> Value {
    match (key, value) {
        ("command", Value::Array(words)) => {
            let arguments = words.iter().skip(1).map(|_| Value::from(REDACTED));
            words.iter().take(1).cloned().chain(arguments).collect()
        }
        ("url" | "proxy", Value::String(url)) => shown_url(&url).into(),
        (_, value) => value,
    }
}

/// A URL without password and query, and without a path that may be a key. That of a store may be a
/// path, which is not changed.
fn shown_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return REDACTED.into();
    };
    if url.cannot_be_a_base() {
        return text.to_owned();
    }
    let has_query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    // It fails only for a URL that has none.
    let _ = url.set_password(None);
    let is_web = matches!(url.scheme(), "http" | "https");
    if is_web && !is_plain(url.path()) {
        url.set_path("/");
        return format!("{url}{REDACTED}");
    }
    if has_query {
        format!("{url}?{REDACTED}")
    } else {
        url.into()
    }
}

/// Whether a path of a URL is certainly no key: short, and of words such as `/webhooks/openai` and
/// `/v1/in`. Services such as Slack and Discord have the key of a webhook in its path.
fn is_plain(path: &str) -> bool {
    let is_word = |part: &str| {
        let mut bytes = part.bytes();
        part.len() <= PART_BYTES_MAX
            && bytes.all(|byte| byte.is_ascii_lowercase() || b"-_.".contains(&byte))
    };
    let is_version = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|number| matches!(number.parse::<u8>(), Ok(0..=99)))
    };
    path.len() <= PATH_BYTES_MAX
        && path
            .split('/')
            .all(|part| is_word(part) || is_version(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(text: &str) -> Written {
        let root = DeTable::parse(text).unwrap().into_inner();
        Written::of(Path::new("unwrapd.toml"), text, &root)
    }

    #[test]
    fn each_key_has_its_line_and_its_value_and_secrets_have_their_sources() {
        let written = written(
            "[server]\n\
             listen = \"127.0.0.1:8080\"\n\
             admin_token = { env = \"TOKEN\" }\n\
             [server.tls]\n\
             key = \"tls.key\"\n\
             [[endpoint]]\n\
             name = \"production\"\n\
             secrets = [\n\
                 { env = \"NEW\" },\n\
                 { file = \"/run/secrets/old\" },\n\
             ]\n",
        );
        let keys = |table: &str| -> Vec<WrittenKey> {
            let tables = written.named(table);
            tables.flat_map(|table| table.keys.clone()).collect()
        };
        let key = |name: &str, value: Value, line, secrets_from: &[&str]| WrittenKey {
            name: name.into(),
            value,
            line,
            secrets_from: secrets_from.iter().map(|&text| text.into()).collect(),
        };
        assert_eq!(
            keys("server"),
            [
                key("listen", json!("127.0.0.1:8080"), 2, &[]),
                key(
                    "admin_token",
                    json!("[redacted]"),
                    3,
                    &["the environment variable TOKEN"]
                ),
                key("tls.key", json!("tls.key"), 5, &[]),
            ]
        );
        assert_eq!(
            keys("endpoint"),
            [
                key("name", json!("production"), 7, &[]),
                key(
                    "secrets",
                    json!(["[redacted]", "[redacted]"]),
                    8,
                    &["the environment variable NEW", "the file /run/secrets/old"]
                ),
            ]
        );
    }

    #[test]
    fn what_may_be_secret_in_a_command_or_a_url_is_not_shown() {
        let written = written(
            "[[destination]]\n\
             command = [\"curl\", \"-H\", \"Authorization: hidden\"]\n\
             [[destination]]\n\
             url = \"https://example.com/v1/in?token=hidden\"\n\
             rate = 1_000\n\
             [[destination]]\n\
             url = \"https://hooks.example:444/services/T0HIDDEN/B0HIDDEN/hidden?a=b\"\n\
             [[destination]]\n\
             url = \"postgres://unwrapd:hidden@db/unwrapd\"\n\
             [store]\n\
             url = \"sqlite:/var/lib/unwrapd.db\"\n",
        );
        let text = format!("{written:?}");
        assert!(!text.to_lowercase().contains("hidden"), "{text}");
        let values: Vec<Value> = written
            .named("destination")
            .chain(written.named("store"))
            .flat_map(|table| table.keys.iter().map(|key| key.value.clone()))
            .collect();
        assert_eq!(
            values,
            [
                json!(["curl", "[redacted]", "[redacted]"]),
                json!("https://example.com/v1/in?[redacted]"),
                json!(1000),
                json!("https://hooks.example:444/[redacted]"),
                json!("postgres://unwrapd@db/unwrapd"),
                json!("sqlite:/var/lib/unwrapd.db"),
            ]
        );
    }

    #[test]
    fn a_path_is_shown_only_if_it_is_certainly_no_key() {
        for path in ["/", "/webhook", "/v1/web-hooks/open_ai", "/a/b/"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "/T0",
            "/0123456789",
            "/v100",
            "/abcdefghijklmnopq",
            "/%20",
            "/one/two/three/four/five/six/seven/eight/nine/ten",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
