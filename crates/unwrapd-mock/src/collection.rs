//! Stored objects of one kind, in the order of their creation, within limits: the oldest are
//! forgotten.

use std::collections::{BTreeMap, HashMap};

pub(crate) struct Collection<T> {
    items: BTreeMap<u64, Item<T>>,
    /// The number of each item, by its id.
    numbers: HashMap<String, u64>,
    next: u64,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

struct Item<T> {
    id: String,
    bytes: usize,
    value: T,
}

impl<T> Collection<T> {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            numbers: HashMap::new(),
            next: 0,
            bytes: 0,
            count_max,
            bytes_max,
        }
    }

    /// Adds an object that takes about this many bytes. Returns the ids of those that had to go.
    #[must_use = "steps of forgotten objects must not stay in the schedule"]
    pub(crate) fn insert(&mut self, id: String, bytes: usize, value: T) -> Vec<String> {
        self.numbers.insert(id.clone(), self.next);
        self.items.insert(self.next, Item { id, bytes, value });
        self.next += 1;
        self.bytes += bytes;
        self.forget_oldest()
    }

    /// Counts another size of an object. Returns the ids of those that had to go.
    #[must_use = "steps of forgotten objects must not stay in the schedule"]
    pub(crate) fn resize(&mut self, id: &str, bytes: usize) -> Vec<String> {
        let number = self.numbers.get(id);
        if let Some(item) = number.and_then(|number| self.items.get_mut(number)) {
            self.bytes = self.bytes - item.bytes + bytes;
            item.bytes = bytes;
        }
        self.forget_oldest()
    }

    fn forget_oldest(&mut self) -> Vec<String> {
        let mut forgotten = Vec::new();
        while self.items.len() > self.count_max || self.bytes > self.bytes_max {
            let Some(number) = self.items.first_key_value().map(|(number, _)| *number) else {
                break;
            };
            forgotten.extend(self.take(number).map(|item| item.id));
        }
        forgotten
    }

    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        let item = self.items.get(self.numbers.get(id)?)?;
        Some(&item.value)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        let item = self.items.get_mut(self.numbers.get(id)?)?;
        Some(&mut item.value)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<T> {
        let number = *self.numbers.get(id)?;
        self.take(number).map(|item| item.value)
    }

    /// All objects with their ids, the oldest first.
    pub(crate) fn oldest_first(&self) -> impl DoubleEndedIterator<Item = (&str, &T)> {
        self.items.values().map(|item| (&*item.id, &item.value))
    }

    fn take(&mut self, number: u64) -> Option<Item<T>> {
        let item = self.items.remove(&number)?;
        self.numbers.remove(&item.id);
        self.bytes -= item.bytes;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(collection: &Collection<()>) -> Vec<&str> {
        collection.oldest_first().map(|(id, ())| id).collect()
    }

    #[test]
    fn the_oldest_objects_are_forgotten_beyond_the_count_or_the_bytes() {
        let mut collection = Collection::new(2, 100);
        assert!(collection.insert("a".into(), 10, ()).is_empty());
        assert!(collection.insert("b".into(), 10, ()).is_empty());
        assert_eq!(collection.insert("c".into(), 10, ()), ["a"]);
        assert_eq!(collection.insert("d".into(), 95, ()), ["b", "c"]);
        assert_eq!(ids(&collection), ["d"]);
    }

    #[test]
    fn an_object_that_grows_displaces_the_oldest() {
        let mut collection = Collection::new(9, 100);
        assert!(collection.insert("a".into(), 40, ()).is_empty());
        assert!(collection.insert("b".into(), 40, ()).is_empty());
        assert_eq!(collection.resize("b", 70), ["a"]);
        assert!(collection.insert("c".into(), 30, ()).is_empty());
    }

    #[test]
    fn a_removed_object_makes_room() {
        let mut collection = Collection::new(9, 100);
        assert!(collection.insert("a".into(), 90, ()).is_empty());
        assert_eq!(collection.remove("a"), Some(()));
        assert!(collection.insert("b".into(), 90, ()).is_empty());
        assert!(collection.get("a").is_none());
    }
}
