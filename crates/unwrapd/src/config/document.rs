//! A configuration as a tree whose nodes know their place in the text. Each table is read by
//! itself. A key that cannot be read is removed from its table, so that one run finds the mistakes
//! of all tables and keys.

use std::collections::HashSet;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::mistakes::{Mistake, Mistakes, unknown_key};

/// A table that was read.
pub(super) struct Table<T> {
    /// `None` if nothing of it could be read.
    pub(super) value: Option<T>,
    pub(super) place: Place,
    /// Mistakes in its keys and in the types of its values.
    pub(super) mistakes: Mistakes,
}

/// The position of a table, and those of its keys that are present but could not be read.
pub(super) struct Place {
    span: Range<usize>,
    broken: HashSet<String>,
}

impl Place {
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key, or `table.key` in a table of this one, is present with a mistake that is
    /// already reported. Then it is not reported as missing.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.broken.contains(key)
    }
}

/// The tables of a configuration.
pub(super) struct Document<'a> {
    tables: DeTable<'a>,
    /// Mistakes outside of the tables.
    pub(super) mistakes: Mistakes,
    broken: HashSet<String>,
}

impl<'a> Document<'a> {
    /// Splits a configuration. `single` has the names of its tables, `listed` those of its tables
    /// in double brackets.
    pub(super) fn of(root: DeTable<'a>, single: &[&str], listed: &[&str]) -> Self {
        let mut tables = DeTable::new();
        let mut mistakes = Mistakes::default();
        let mut broken = HashSet::new();
        let known: Vec<&str> = single.iter().chain(listed).copied().collect();
        for (key, value) in root {
            let name = key.get_ref().as_ref();
            let problem = match value.get_ref() {
                DeValue::Table(_) if single.contains(&name) => None,
                DeValue::Array(all)
                    if listed.contains(&name) && all.iter().all(|one| one.get_ref().is_table()) =>
                {
                    None
                }
                _ if single.contains(&name) => Some(format!(
                    "`{name}` is a table: write [{name}], and its keys below"
                )),
                _ if listed.contains(&name) => Some(format!(
                    "there may be several: write [[{name}]], in double brackets"
                )),
                DeValue::Table(_) | DeValue::Array(_) => Some(unknown_key(name, &known)),
                _ => Some(
                    "a key stands here above all tables: write the one that it belongs to above it, such as [server], [store], [[endpoint]] or [[destination]]"
                        .to_owned(),
                ),
            };
            if let Some(problem) = problem {
                mistakes.add(Mistake::new(key.span(), problem));
                broken.insert(name.to_owned());
            } else {
                tables.insert(key, value);
            }
        }
        Self {
            tables,
            mistakes,
            broken,
        }
    }

    /// Whether the name is present but is not a table.
    pub(super) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// The table of this name; empty if there is none.
    pub(super) fn single<T: DeserializeOwned>(&mut self, name: &str) -> Table<T> {
        let taken = self.tables.remove(name);
        let span = taken.as_ref().map_or(0..0, Spanned::span);
        match taken.map(Spanned::into_inner) {
            Some(DeValue::Table(table)) => read(table, span),
            _ => read(DeTable::new(), span),
        }
    }

    /// The tables of this name.
    pub(super) fn listed<T: DeserializeOwned>(&mut self, name: &str) -> Vec<Table<T>> {
        let Some(DeValue::Array(all)) = self.tables.remove(name).map(Spanned::into_inner) else {
            return Vec::new();
        };
        all.into_iter()
            .filter_map(|one| {
                let span = one.span();
                match one.into_inner() {
                    DeValue::Table(table) => Some(read(table, span)),
                    _ => None,
                }
            })
            .collect()
    }
}

fn read<T: DeserializeOwned>(mut table: DeTable<'_>, span: Range<usize>) -> Table<T> {
    let mut mistakes = Mistakes::default();
    let mut broken = HashSet::new();
    loop {
        let whole = Spanned::new(span.clone(), table.clone());
        let error = match T::deserialize(Deserializer::from(whole)) {
            Ok(value) => {
                return Table {
                    value: Some(value),
                    place: Place { span, broken },
                    mistakes,
                };
            }
            Err(error) => error,
        };
        mistakes.add(Mistake::from_toml(&error));
        let removed = error.span().and_then(|span| remove(&mut table, &span));
        match removed {
            Some(path) if !mistakes.are_too_many() => {
                let key = path.split('.').next().unwrap_or_default();
                broken.insert(key.to_owned());
                broken.insert(path);
            }
            _ => {
                return Table {
                    value: None,
                    place: Place { span, broken },
                    mistakes,
                };
            }
        }
    }
}

/// Removes the smallest part of the table that holds these bytes: an element of a list, a key of an
/// inner table, or a key of its own. Returns that key, with a dot and the key of the inner table
/// after it.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let key = table
        .iter()
        .find(|(key, value)| holds(&key.span(), span) || value_holds(value, span))
        .map(|(key, _)| key.get_ref().to_string())?;
    let value = table.get_mut(key.as_str()).map(Spanned::get_mut);
    let mut path = key.clone();
    let is_less_removed = match value {
        Some(DeValue::Array(all)) => {
            let before = all.len();
            *all = std::mem::replace(all, DeArray::new())
                .into_iter()
                .filter(|one| !value_holds(one, span))
                .collect();
            all.len() < before
        }
        Some(DeValue::Table(inner)) if !is_secret(inner) => match remove(inner, span) {
            Some(inner_path) => {
                path = format!("{key}.{inner_path}");
                true
            }
            None => false,
        },
        _ => false,
    };
    if !is_less_removed {
        table.remove(key.as_str());
    }
    Some(path)
}

/// Whether the bytes belong to this value. The keys of a table may be on lines outside of its own
/// span.
fn value_holds(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    holds(&value.span(), span)
        || match value.get_ref() {
            DeValue::Table(table) => table
                .iter()
                .any(|(key, value)| holds(&key.span(), span) || value_holds(value, span)),
            DeValue::Array(all) => all.iter().any(|one| value_holds(one, span)),
            _ => false,
        }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Whether the table names the source of a secret. Such a table is removed as a whole, since
/// without a key it names nothing.
fn is_secret(table: &DeTable<'_>) -> bool {
    table.contains_key("env") || table.contains_key("file")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Server {
        listen: Option<String>,
        number: Option<u8>,
        list: Option<Vec<String>>,
        tls: Option<Tls>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tls {
        key: Option<String>,
    }

    fn lines(text: &str, mistakes: Mistakes) -> Vec<usize> {
        let all = mistakes.in_order(text);
        all.into_iter().filter_map(|(line, _)| line).collect()
    }

    #[test]
    fn every_key_that_cannot_be_read_is_told_and_the_others_are_read() {
        let text = "[server]\nlisten = \"x\"\nwrong = 1\nnumber = \"many\"\nlist = [\"a\", 5, \"b\", 6]\n\
            [server.tls]\nky = \"x\"\nkey = \"y\"\n[surplus]\n";
        let root = DeTable::parse(text).unwrap().into_inner();
        let mut document = Document::of(root, &["server"], &["endpoint"]);
        let server: Table<Server> = document.single("server");
        let value = server.value.unwrap();
        assert_eq!(value.listen.as_deref(), Some("x"));
        assert_eq!(value.list.unwrap(), ["a", "b"]);
        assert_eq!(value.tls.unwrap().key.as_deref(), Some("y"));
        assert_eq!(value.number, None);
        assert!(server.place.is_broken("number") && server.place.is_broken("list"));
        assert!(server.place.is_broken("tls.ky") && !server.place.is_broken("tls.key"));
        assert!(!server.place.is_broken("listen"));
        assert_eq!(lines(text, server.mistakes), [3, 4, 5, 5, 7]);
        assert_eq!(lines(text, document.mistakes), [9]);
    }

    #[test]
    fn a_table_in_the_wrong_brackets_is_told() {
        let text = "server = 1\n[endpoint]\nname = \"x\"\n";
        let root = DeTable::parse(text).unwrap().into_inner();
        let document = Document::of(root, &["server"], &["endpoint"]);
        assert!(document.is_broken("server") && document.is_broken("endpoint"));
        assert_eq!(lines(text, document.mistakes), [1, 2]);
    }
}
