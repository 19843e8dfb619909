//! A file of settings, split into its tables.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Mistake, Mistakes, unknown_key};
use super::table::Table;

/// The tables of a file.
pub(crate) struct Document<'a> {
    folder: PathBuf,
    tables: DeTable<'a>,
    /// Mistakes outside of the tables.
    pub(crate) mistakes: Mistakes,
    broken: HashSet<String>,
}

impl<'a> Document<'a> {
    /// Splits a file whose paths start at `folder`. `single` has the names of its tables, `listed`
    /// those of its tables in double brackets.
    pub(crate) fn of(root: DeTable<'a>, folder: &Path, single: &[&str], listed: &[&str]) -> Self {
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
                _ => Some(format!(
                    "a key stands here above all tables: write the one that it belongs to above it, such as {}",
                    in_brackets(single, listed)
                )),
            };
            if let Some(problem) = problem {
                mistakes.add(Mistake::new(key.span(), problem));
                broken.insert(name.to_owned());
            } else {
                tables.insert(key, value);
            }
        }
        Self {
            folder: folder.to_owned(),
            tables,
            mistakes,
            broken,
        }
    }

    /// Whether the name is present but is not a table.
    pub(crate) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// The table of this name; empty if there is none.
    pub(crate) fn single(&mut self, name: &str) -> Table<'a> {
        let taken = self.tables.remove(name);
        let span = taken.as_ref().map_or(0..0, Spanned::span);
        let keys = match taken.map(Spanned::into_inner) {
            Some(DeValue::Table(keys)) => keys,
            _ => DeTable::new(),
        };
        Table::new(&self.folder, keys, span)
    }

    /// The tables of this name.
    pub(crate) fn listed(&mut self, name: &str) -> Vec<Table<'a>> {
        let Some(DeValue::Array(all)) = self.tables.remove(name).map(Spanned::into_inner) else {
            return Vec::new();
        };
        all.into_iter()
            .filter_map(|one| {
                let span = one.span();
                match one.into_inner() {
                    DeValue::Table(keys) => Some(Table::new(&self.folder, keys, span)),
                    _ => None,
                }
            })
            .collect()
    }
}

/// The names of tables in a sentence: [a], [b] or [[c]].
fn in_brackets(single: &[&str], listed: &[&str]) -> String {
    let single = single.iter().map(|name| format!("[{name}]"));
    let listed = listed.iter().map(|name| format!("[[{name}]]"));
    let mut names: Vec<String> = single.chain(listed).collect();
    let last = names.pop().unwrap_or_default();
    format!("{} or {last}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_the_wrong_brackets_or_without_an_owner_is_reported() {
        let text = "server = 1\n[endpoint]\nname = \"x\"\n[surplus]\n";
        let root = DeTable::parse(text).unwrap().into_inner();
        let document = Document::of(root, Path::new("/"), &["server"], &["endpoint"]);
        assert!(document.is_broken("server") && document.is_broken("endpoint"));
        let told = document.mistakes.in_order(text);
        let lines: Vec<_> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [Some(1), Some(2), Some(4)]);
    }
}
