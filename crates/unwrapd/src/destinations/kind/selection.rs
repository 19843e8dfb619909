//! The choice of a kind: a table of the configuration has the key of exactly one.

use super::{Kind, KindSettings};
use crate::settings_file::{Keys as _, Location, Mistake, Mistakes, Table};
use crate::store::StoreUrl;

/// A check of the keys that were taken for a kind.
type Check = dyn FnOnce(&Location, Option<&StoreUrl>) -> Result<Option<Kind>, Mistakes>;

/// A kind that a table may select.
pub(super) struct Candidate {
    key: &'static str,
    example: &'static str,
    keys: &'static [&'static str],
    other_keys: &'static str,
    check: Box<Check>,
}

impl Candidate {
    pub(super) fn take<S: KindSettings>(table: &mut Table<'_>, kind: fn(S) -> Kind) -> Self {
        let keys: S::Keys = table.take();
        Self {
            key: S::KEY,
            example: S::EXAMPLE,
            keys: S::Keys::names(),
            other_keys: S::OTHER_KEYS,
            check: Box::new(move |location, store| Ok(S::check(keys, location, store)?.map(kind))),
        }
    }

    /// Refuses the keys of the others, which have no effect on this kind.
    fn refuse_keys_of(&self, others: &[Self], location: &Location) -> Result<(), Mistakes> {
        let mut mistakes = Mistakes::default();
        for other in others {
            for key in other.keys {
                if let Some(span) = location.value(key) {
                    mistakes.add(Mistake::new(
                        span,
                        format!(
                            "`{key}` is only for a `{}`; {}: remove this key",
                            other.key, self.other_keys
                        ),
                    ));
                }
            }
        }
        mistakes.check()
    }
}

/// The kind that the table at `location` selects. `None`: its key has a mistake that is already
/// reported.
pub(super) fn select(
    candidates: Vec<Candidate>,
    location: &Location,
    store: Option<&StoreUrl>,
) -> Result<Option<Kind>, Mistakes> {
    let keys = || candidates.iter().map(|candidate| candidate.key);
    let selecting: Vec<_> = keys().filter_map(|key| location.value(key)).collect();
    if selecting.is_empty() {
        if keys().any(|key| location.is_broken(key)) {
            return Ok(None);
        }
        let examples = candidates.iter().map(|candidate| candidate.example);
        return Err(Mistake::absence(
            location.value("name").unwrap_or_else(|| location.span()),
            format!("a destination needs one of {}", quoted(examples)),
        )
        .into());
    }
    if selecting.len() > 1 {
        let last = selecting.into_iter().max_by_key(|span| span.start);
        return Err(Mistake::new(
            last.unwrap_or_default(),
            format!(
                "a destination is one of {}: make another [[destination]] for this one",
                quoted(keys())
            ),
        )
        .into());
    }
    let (selected, others): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|candidate| location.value(candidate.key).is_some());
    let mut mistakes = Mistakes::default();
    let mut kind = None;
    for selected in selected {
        mistakes.keep(selected.refuse_keys_of(&others, location));
        kind = mistakes.keep((selected.check)(location, store)).flatten();
    }
    mistakes.check()?;
    Ok(kind)
}

/// The texts as a list in a sentence: `a`, `b` and `c`.
fn quoted<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut texts: Vec<String> = texts.map(|text| format!("`{text}`")).collect();
    let last = texts.pop().unwrap_or_default();
    if texts.is_empty() {
        last
    } else {
        format!("{} and {last}", texts.join(", "))
    }
}
