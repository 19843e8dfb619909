//! A table of a file of settings, with the positions of its keys in the text. A key that cannot be
//! read is removed from its table, so that one run finds the mistakes of all keys.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::mistakes::{Mistake, Mistakes, unknown_key};
use super::paths;

/// The keys of a table that one part of the gateway takes: the fields of a struct. A key that is
/// not in the file is `None`.
pub(crate) trait Keys: DeserializeOwned + Default + 'static {
    /// The keys, of this table or of one within it, whose value is the path of a file.
    const PATHS: &'static [&'static str] = &[];
    /// The keys whose value is a list that begins with a program, which is a path if it has a
    /// slash.
    const PROGRAMS: &'static [&'static str] = &[];

    /// The names of the keys.
    fn names() -> &'static [&'static str] {
        names_of::<Self>()
    }
}

/// The value of a key with its position in the text. `None`: the key is not in the file.
pub(crate) type Key<T> = Option<Spanned<T>>;

/// A table, from which each part of the gateway takes its keys. It collects their mistakes.
pub(crate) struct Table<'a> {
    /// The folder that paths start at.
    folder: PathBuf,
    /// The keys that no part has taken.
    remaining: DeTable<'a>,
    /// The keys that the parts know.
    known: Vec<&'static str>,
    location: Location,
    mistakes: Mistakes,
}

/// The position of a table and of its keys.
pub(crate) struct Location {
    span: Range<usize>,
    values: HashMap<String, Range<usize>>,
    broken: HashSet<String>,
    /// Whether all keys of a part could not be read.
    is_unreadable: bool,
}

impl Location {
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The position of the value of a key that was taken; `None`: the key is not there, or could
    /// not be read.
    pub(crate) fn value(&self, key: &str) -> Option<Range<usize>> {
        self.values.get(key).cloned()
    }

    /// Whether the key, or `table.key` in a table of this one, is present with a mistake that is
    /// already reported. Then it is not reported as missing.
    pub(crate) fn is_broken(&self, key: &str) -> bool {
        self.is_unreadable || self.broken.contains(key)
    }
}

impl<'a> Table<'a> {
    pub(super) fn new(folder: &Path, keys: DeTable<'a>, span: Range<usize>) -> Self {
        Self {
            folder: folder.to_owned(),
            remaining: keys,
            known: Vec::new(),
            location: Location {
                span,
                values: HashMap::new(),
                broken: HashSet::new(),
                is_unreadable: false,
            },
            mistakes: Mistakes::default(),
        }
    }

    /// Takes the keys of one part, as far as they can be read.
    pub(crate) fn take<K: Keys>(&mut self) -> K {
        let names = K::names();
        self.known.extend(names);
        let mut taken: DeTable<'_> = names
            .iter()
            .filter_map(|name| self.remaining.remove_entry(*name))
            .collect();
        self.mistakes
            .add(paths::count_from(&self.folder, &mut taken, K::PATHS));
        self.mistakes
            .add(paths::find_programs(&self.folder, &mut taken, K::PROGRAMS));
        self.read(taken)
    }

    fn read<K: Keys>(&mut self, mut keys: DeTable<'_>) -> K {
        loop {
            let whole = Spanned::new(self.location.span(), keys.clone());
            let error = match K::deserialize(Deserializer::from(whole)) {
                Ok(read) => {
                    let values = keys.iter();
                    self.location.values.extend(
                        values.map(|(key, value)| (key.get_ref().to_string(), value.span())),
                    );
                    return read;
                }
                Err(error) => error,
            };
            self.mistakes.add(Mistake::from_toml(&error));
            let removed = error.span().and_then(|span| remove(&mut keys, &span));
            match removed {
                Some(path) if !self.mistakes.are_too_many() => {
                    let key = path.split('.').next().unwrap_or_default();
                    self.location.broken.insert(key.to_owned());
                    self.location.broken.insert(path);
                }
                _ => {
                    self.location.is_unreadable = true;
                    return K::default();
                }
            }
        }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// As [`Mistakes::keep`].
    pub(crate) fn keep<T>(&mut self, result: Result<T, impl Into<Mistakes>>) -> Option<T> {
        self.mistakes.keep(result)
    }

    /// As [`Mistakes::keep_number`].
    pub(crate) fn keep_number<T: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        number: Key<T>,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        self.mistakes.keep_number(key, number, range)
    }

    /// The mistakes in the keys that were taken.
    pub(crate) fn check(self) -> Result<(), Mistakes> {
        self.mistakes.check()
    }

    /// All mistakes of the table. A key that no part has taken is one.
    pub(crate) fn end(mut self) -> Result<(), Mistakes> {
        for key in self.remaining.keys() {
            let problem = unknown_key(key.get_ref(), &self.known);
            self.mistakes.add(Mistake::new(key.span(), problem));
        }
        self.mistakes.check()
    }
}

/// The names of the fields of a struct, from its `Deserialize`.
fn names_of<K: DeserializeOwned>() -> &'static [&'static str] {
    struct Names<'n>(&'n mut &'static [&'static str]);

    impl<'de> serde::Deserializer<'de> for Names<'_> {
        type Error = ValueError;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ValueError> {
            *self.0 = fields;
            Err(ValueError::custom("only the names are asked for"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
            Err(ValueError::custom("this is not a struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    let mut names: &[&str] = &[];
    // The error only ends the visit.
    let _: Result<K, _> = K::deserialize(Names(&mut names));
    names
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

    #[derive(Default, Deserialize)]
    struct Port {
        listen: Option<String>,
        number: Option<u8>,
    }

    impl Keys for Port {}

    #[derive(Default, Deserialize)]
    struct Lists {
        list: Option<Vec<String>>,
        tls: Option<Tls>,
    }

    impl Keys for Lists {}

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
    fn every_unreadable_key_is_reported_and_the_others_are_read() {
        let text = "[server]\nlisten = \"x\"\nwrong = 1\nnumber = \"many\"\nlist = [\"a\", 5, \"b\", 6]\n\
            [server.tls]\nky = \"x\"\nkey = \"y\"\n";
        let mut root = DeTable::parse(text).unwrap().into_inner();
        let Some(DeValue::Table(keys)) = root.remove("server").map(Spanned::into_inner) else {
            panic!("it is a table");
        };
        let mut server = Table::new(Path::new("/"), keys, 0..8);
        let (port, lists): (Port, Lists) = (server.take(), server.take());
        assert_eq!(port.listen.as_deref(), Some("x"));
        assert_eq!(lists.list.unwrap(), ["a", "b"]);
        assert_eq!(lists.tls.unwrap().key.as_deref(), Some("y"));
        assert_eq!(port.number, None);
        let location = server.location();
        assert!(location.is_broken("number") && location.is_broken("list"));
        assert!(location.is_broken("tls.ky") && !location.is_broken("tls.key"));
        assert!(!location.is_broken("listen"));
        assert!(location.value("listen").is_some() && location.value("number").is_none());
        assert_eq!(lines(text, server.end().unwrap_err()), [3, 4, 5, 5, 7]);
    }
}
