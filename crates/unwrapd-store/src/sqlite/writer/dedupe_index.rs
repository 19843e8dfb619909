//! The dedupe index in memory: the ids of all stored messages. New messages need no index on the
//! disk, which would grow with random ids.
//!
//! The set holds a part of each id's hash and the number of its message. An equal hash is verified
//! against the stored id, so a collision costs one read and never a message. On the disk, the
//! hashes are in blocks of consecutive messages, from which the set is filled at the start. A block
//! is removed when all of it is older than the dedupe horizon.
//!
//! Arrival times come from a clock that may be set, so they may be in any order: a block is as old
//! as the newest arrival in it.

use hashbrown::HashTable;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::sqlite::writer::dedupe_block::{
    BLOCK_IDS, Details, Tail, hashes, messages_from, write_block,
};
use crate::sqlite::writer::id_hashes::IdHashes;

/// Maximum number of ids in the set, at about 14 bytes each (18 just after the set has grown): a
/// hundred ids a second for a week.
pub(crate) const IDS_MAX: usize = 64 * 1024 * 1024;
/// Parts of the set. Each grows separately, so that no request waits until millions of ids have
/// moved.
const SHARDS: usize = 256;
/// Ids that are read and sorted by shard before they are added, so that a shard stays in the
/// processor's cache while it is filled.
const FILL_IDS: usize = 1024 * 1024;

/// The set, and its ids that are not yet in a block on the disk.
pub(crate) struct DedupeIndex {
    shards: Vec<HashTable<Entry>>,
    ids: usize,
    /// Number of the next message.
    next_seq: i64,
    /// The latest messages, which are not yet in a block.
    tail: Vec<Tail>,
    /// Number of messages at the end of the tail that the current transaction has added.
    uncommitted: usize,
}

/// The upper half of the hash, and the lower half of the message's number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    hash: u32,
    seq: u32,
}

impl DedupeIndex {
    /// Reads the index from the disk. Ids that arrived before `horizon` may be missing.
    pub(crate) fn read(connection: &Connection, horizon: Timestamp) -> rusqlite::Result<Self> {
        let mut dedupe_index = Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            ids: 0,
            next_seq: 1,
            tail: Vec::with_capacity(BLOCK_IDS),
            uncommitted: 0,
        };
        let all: usize = connection.query_row(
            "SELECT coalesce(sum(length(hashes)), 0) / 8 FROM dedupe_block WHERE newest_at >= ?",
            params![horizon.as_millisecond()],
            |row| row.get(0),
        )?;
        for shard in &mut dedupe_index.shards {
            shard.reserve(all / SHARDS, |entry| spread(entry.hash));
        }
        let mut blocks = connection.prepare(
            "SELECT first_seq, hashes FROM dedupe_block WHERE newest_at >= ? ORDER BY first_seq",
        )?;
        let mut blocks = blocks.query(params![horizon.as_millisecond()])?;
        let mut sorted: Vec<Vec<Entry>> = (0..SHARDS).map(|_| Vec::new()).collect();
        let mut count = 0;
        while let Some(block) = blocks.next()? {
            let first_seq: i64 = block.get(0)?;
            for (seq, hash) in (first_seq..).zip(hashes(block.get_ref(1)?.as_blob()?)) {
                let (shard, entry) = Entry::new(hash, seq);
                sorted[shard].push(entry);
                count += 1;
                dedupe_index.next_seq = seq + 1;
            }
            if count >= FILL_IDS {
                dedupe_index.fill(&mut sorted);
                count = 0;
            }
        }
        dedupe_index.fill(&mut sorted);
        dedupe_index.read_tail(connection)?;
        Ok(dedupe_index)
    }

    /// Reads the messages that are in no block. After a write whose outcome is unknown, this
    /// determines it.
    pub(crate) fn read_tail(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.rollback();
        let known_to = self.next_seq;
        let last_block: Option<(i64, Vec<u8>)> = connection
            .query_row(
                "SELECT first_seq, hashes FROM dedupe_block ORDER BY first_seq DESC LIMIT 1",
                (),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let first_seq = match last_block {
            Some((mut seq, bytes)) => {
                for hash in hashes(&bytes) {
                    // Written by the commit whose outcome was unknown.
                    if seq >= known_to {
                        self.insert(hash, seq);
                    }
                    seq += 1;
                }
                seq
            }
            None => {
                connection.query_row("SELECT coalesce(min(seq), 1) FROM message", (), |row| {
                    row.get(0)
                })?
            }
        };
        self.tail.clear();
        self.next_seq = first_seq;
        let mut messages = connection.prepare(&messages_from(first_seq))?;
        let mut messages = messages.query(())?;
        while let Some(message) = messages.next()? {
            let seq: i64 = message.get(0)?;
            let tail = Tail::read(message)?;
            // Deleted messages leave gaps, which must not shift hashes to other messages.
            let place = usize::try_from(seq - first_seq)
                .ok()
                .filter(|place| *place < IDS_MAX)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, seq))?;
            self.tail.resize(place, Tail::NONE);
            self.tail.push(tail);
            self.next_seq = seq + 1;
            if seq >= known_to {
                self.insert(tail.hash, seq);
            }
        }
        Ok(())
    }

    /// Number of ids.
    pub(crate) fn ids(&self) -> usize {
        self.ids
    }

    /// The messages whose id may have this hash.
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = i64> {
        let newest = self.next_seq;
        let (shard, entry_hash) = place(hash);
        self.shards[shard]
            .iter_hash(spread(entry_hash))
            .filter(move |entry| entry.hash == entry_hash)
            .map(move |entry| whole_seq(entry.seq, newest))
    }

    /// Adds an id with its arrival time, in milliseconds since 1970, and returns the number of its
    /// message. The change takes effect when the transaction is committed.
    pub(crate) fn add(&mut self, hashes: IdHashes, received_at: i64, is_unrouted: bool) -> i64 {
        let IdHashes { dedupe, search } = hashes;
        let seq = self.next_seq;
        self.insert(dedupe, seq);
        self.tail.push(Tail {
            hash: dedupe,
            details: Some(Details {
                search,
                is_unrouted,
            }),
            received_at,
        });
        self.uncommitted += 1;
        self.next_seq += 1;
        seq
    }

    /// Records that a message has changed: its block is written from the database.
    pub(crate) fn read_later(&mut self, seq: i64) {
        let first_seq = self.next_seq - signed(self.tail.len());
        let place = usize::try_from(seq - first_seq).ok();
        if let Some(tail) = place.and_then(|place| self.tail.get_mut(place)) {
            tail.details = None;
        }
    }

    /// Writes full blocks, in the transaction that added the last of their ids.
    pub(crate) fn write_blocks(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut first_seq = self.next_seq - signed(self.tail.len());
        for block in self.tail.chunks_exact(BLOCK_IDS) {
            write_block(connection, first_seq, block)?;
            first_seq += signed(BLOCK_IDS);
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self) {
        self.uncommitted = 0;
        let written = self.tail.len() / BLOCK_IDS * BLOCK_IDS;
        self.tail.drain(..written);
    }

    pub(crate) fn rollback(&mut self) {
        for _ in 0..std::mem::take(&mut self.uncommitted) {
            self.next_seq -= 1;
            if let Some(tail) = self.tail.pop() {
                self.remove(tail.hash, self.next_seq);
            }
        }
    }

    /// Removes the block that begins with message `first_seq`, if all its ids arrived before
    /// `horizon`. The newest block stays, because the tail begins after it. If the caller's
    /// transaction fails, expired ids are missing in memory until the next start, which does no
    /// harm.
    pub(crate) fn forget_block(
        &mut self,
        connection: &Connection,
        first_seq: i64,
        horizon: Timestamp,
    ) -> rusqlite::Result<()> {
        let block: Option<Vec<u8>> = connection
            .prepare_cached(
                "DELETE FROM dedupe_block WHERE first_seq = ? AND newest_at < ? AND first_seq < \
                 (SELECT max(first_seq) FROM dedupe_block) RETURNING hashes",
            )?
            .query_row(params![first_seq, horizon.as_millisecond()], |row| {
                row.get(0)
            })
            .optional()?;
        for (seq, hash) in (first_seq..).zip(block.iter().flat_map(|bytes| hashes(bytes))) {
            self.remove(hash, seq);
        }
        Ok(())
    }

    /// Adds entries that are sorted by shard.
    fn fill(&mut self, sorted: &mut [Vec<Entry>]) {
        for (shard, entries) in self.shards.iter_mut().zip(sorted) {
            self.ids += entries.len();
            for entry in entries.drain(..) {
                shard.insert_unique(spread(entry.hash), entry, |entry| spread(entry.hash));
            }
        }
    }

    fn insert(&mut self, hash: u64, seq: i64) {
        let (shard, entry) = Entry::new(hash, seq);
        self.shards[shard].insert_unique(spread(entry.hash), entry, |entry| spread(entry.hash));
        self.ids += 1;
    }

    fn remove(&mut self, hash: u64, seq: i64) {
        let (shard, entry) = Entry::new(hash, seq);
        if let Ok(found) =
            self.shards[shard].find_entry(spread(entry.hash), |other| *other == entry)
        {
            found.remove();
            self.ids -= 1;
        }
    }
}

impl Entry {
    /// Returns the entry and the index of its shard.
    fn new(hash: u64, seq: i64) -> (usize, Self) {
        let (shard, hash) = place(hash);
        let seq = half_seq(seq);
        (shard, Self { hash, seq })
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("memory holds fewer")
}

#[expect(clippy::cast_possible_truncation, reason = "two parts of the hash")]
fn place(hash: u64) -> (usize, u32) {
    (hash as usize % SHARDS, (hash >> 32) as u32)
}

/// Spreads the hash over 64 bits, because the table needs all of them to be random.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the lower half is meant"
)]
fn half_seq(seq: i64) -> u32 {
    seq as u32
}

/// The largest number below `next` whose lower half is `half`. It is unique, because there are
/// fewer ids than halves.
fn whole_seq(half: u32, next: i64) -> i64 {
    let seq = (next & !i64::from(u32::MAX)) | i64::from(half);
    if seq < next { seq } else { seq - (1 << 32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search_keys::SearchKeys;
    use crate::sqlite::writer::id_hashes::hash;

    /// After a failed sync the change is undone in memory, but may be in the file when it is opened
    /// again.
    #[test]
    fn a_block_of_a_commit_that_seemed_to_fail_is_known() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE message (seq INTEGER PRIMARY KEY, endpoint, webhook_id, received_at);
                 CREATE TABLE payload (seq INTEGER PRIMARY KEY, bytes);
                 CREATE TABLE dedupe_block (first_seq INTEGER PRIMARY KEY, newest_at, hashes);
                 CREATE TABLE search_block (first_seq INTEGER PRIMARY KEY, keys);",
            )
            .unwrap();
        let mut dedupe_index = DedupeIndex::read(&connection, Timestamp::UNIX_EPOCH).unwrap();
        let hash_of = |number: usize| hash("production", &format!("wh_{number}"));
        for number in 0..BLOCK_IDS {
            let hashes = IdHashes {
                dedupe: hash_of(number),
                search: SearchKeys::default(),
            };
            dedupe_index.add(hashes, 0, false);
            connection
                .execute(
                    "INSERT INTO message VALUES (?, 'production', ?, 0)",
                    params![number + 1, format!("wh_{number}")],
                )
                .unwrap();
        }
        dedupe_index.write_blocks(&connection).unwrap();
        dedupe_index.rollback();
        dedupe_index.read_tail(&connection).unwrap();

        assert_eq!(dedupe_index.ids(), BLOCK_IDS);
        for number in 0..BLOCK_IDS {
            let seq = i64::try_from(number).unwrap() + 1;
            assert!(
                dedupe_index
                    .candidates(hash_of(number))
                    .any(|other| other == seq)
            );
        }
    }

    #[test]
    fn half_a_number_is_enough_to_find_the_whole() {
        for next in [1, 5000, 1 << 32, (1 << 32) + 7, (9 << 32) + 12_345] {
            for back in [1, 2, 4096, (1 << 32) - 1] {
                let seq = next - back;
                assert_eq!(whole_seq(half_seq(seq), next), seq, "{back} before {next}");
            }
        }
    }
}
