//! The names of endpoints and destinations.

use std::collections::HashSet;

use serde::Deserialize;
use toml::Spanned;

use super::{Key, Keys, Mistake, Table, required};

/// Longest name of an endpoint or a destination.
const NAME_BYTES_MAX: usize = 64;

#[derive(Default, Deserialize)]
struct NameKeys {
    name: Key<String>,
}

impl Keys for NameKeys {}

/// The names of the tables of one kind, of which each has its own. They are part of paths, logs and
/// command lines, so they are plain.
#[derive(Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    /// A name that no table may have.
    reserved: Option<&'static str>,
}

impl Names {
    /// Names of which one belongs to the gateway itself.
    pub(crate) fn except(reserved: &'static str) -> Self {
        Self {
            reserved: Some(reserved),
            ..Self::default()
        }
    }

    /// Takes the key `name` of a table. `None`: the table has a mistake.
    pub(crate) fn take(&mut self, table: &mut Table<'_>) -> Option<String> {
        let name = required(table.take::<NameKeys>().name, "name", table.location());
        let name = table.keep(name).flatten()?;
        table.keep(self.check(&name))?;
        Some(name.into_inner())
    }

    fn check(&mut self, name: &Spanned<String>) -> Result<(), Mistake> {
        let text = name.get_ref();
        let is_plain = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !is_plain {
            return Err(Mistake::new(
                name.span(),
                "a name is 1 to 64 lower-case letters, digits, `-` and `_`",
            ));
        }
        if self.reserved == Some(text.as_str()) {
            return Err(Mistake::new(
                name.span(),
                format!("the name `{text}` belongs to the gateway's own events: choose another"),
            ));
        }
        if !self.taken.insert(text.clone()) {
            return Err(Mistake::new(
                name.span(),
                format!("the name `{text}` is already used above: choose another"),
            ));
        }
        Ok(())
    }
}
