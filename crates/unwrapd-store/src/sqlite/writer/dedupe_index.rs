//! Which ids were seen, in memory: a look at every new message, and no index on the disk that grows with random ids.
//!
//! The set holds a part of each id's hash and the message it belongs to. What looks the same is
//! compared with the stored id, so a clash of hashes costs one look and never a message. On the
//! disk the hashes stand in blocks of consecutive messages, from which the set is filled at the
//! start; it forgets a block when all of it is older than the dedupe horizon.
//!
//! The times of arrival are those of a clock that may be set, so no order is expected of them: a
//! block is as young as the youngest in it.

use hashbrown::HashTable;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sha2::{Digest as _, Sha256};

use crate::search_keys::SearchKeys;
use crate::sqlite::queue::accept::IdHashes;

/// Ids in a block: 32 KiB of hashes, the unit that is forgotten at once.
const BLOCK_IDS: usize = 4096;
/// Most ids in the set, at about 14 bytes each (18 just after it has grown). A hundred ids a second for a week.
pub(crate) const IDS_MAX: usize = 64 * 1024 * 1024;
/// Parts of the set. Each grows by itself, so that no request waits for millions of ids to move.
const SHARDS: usize = 256;
/// Ids that are read and sorted by shard before they are added: a shard then stays in the
/// processor's cache while it is filled.
const FILL_IDS: usize = 1024 * 1024;

/// The set, and what of it is not on the disk in a block yet.
pub(crate) struct DedupeIndex {
    shards: Vec<HashTable<Entry>>,
    ids: usize,
    /// The number of the next message.
    next_seq: i64,
    /// The last messages, not yet in a block.
    tail: Vec<Tail>,
    /// How much of the tail the transaction under way has added.
    uncommitted: usize,
}

/// The upper half of the hash, and the lower half of the message's number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    hash: u32,
    seq: u32,
}

/// A message that stands in no block.
#[derive(Clone, Copy)]
struct Tail {
    hash: u64,
    /// `None`: they are read from the payload when the block is written.
    search: Option<SearchKeys>,
    /// In milliseconds since 1970.
    received_at: i64,
}

impl Tail {
    /// In the place of a message that is gone: in no set, and of no age.
    const NONE: Self = Self {
        hash: 0,
        search: None,
        received_at: i64::MIN,
    };
}

impl DedupeIndex {
    /// Reads what is on the disk; ids that arrived before `horizon` need not be known.
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

    /// Reads the messages that stand in no block. After a write whose fate is unknown, this finds out.
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
                    // Written by the commit whose fate was unknown.
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
            // Messages that are gone leave gaps, which must not move hashes to other messages.
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

    /// How many ids there are.
    pub(crate) fn ids(&self) -> usize {
        self.ids
    }

    /// The messages whose id may be the one with this hash.
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = i64> {
        let newest = self.next_seq;
        let (shard, entry_hash) = place(hash);
        self.shards[shard]
            .iter_hash(spread(entry_hash))
            .filter(move |entry| entry.hash == entry_hash)
            .map(move |entry| whole_seq(entry.seq, newest))
    }

    /// Adds an id that arrived then (milliseconds since 1970) and gives its message a number. It
    /// counts when the transaction is committed.
    pub(crate) fn add(&mut self, hashes: IdHashes, received_at: i64) -> i64 {
        let IdHashes { dedupe, search } = hashes;
        let seq = self.next_seq;
        self.insert(dedupe, seq);
        self.tail.push(Tail {
            hash: dedupe,
            search: Some(search),
            received_at,
        });
        self.uncommitted += 1;
        self.next_seq += 1;
        seq
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

    /// Forgets the block that begins with this message if all its ids arrived before `horizon`. The
    /// newest block stays: it tells where the tail begins. The caller's transaction removes it from
    /// the disk; should that fail, ids that nobody need know are forgotten in memory only, until
    /// the next start.
    pub(crate) fn forget_block(
        &mut self,
        connection: &Connection,
        first_seq: i64,
        horizon: Timestamp,
    ) -> rusqlite::Result<()> {
        let block: Option<Vec<u8>> = connection
            .prepare_cached(
                "DELETE FROM dedupe_block WHERE first_seq = ? AND newest_at < ? AND first_seq < (SELECT max(first_seq) FROM dedupe_block) RETURNING hashes",
            )?
            .query_row(params![first_seq, horizon.as_millisecond()], |row| row.get(0))
            .optional()?;
        for (seq, hash) in (first_seq..).zip(block.iter().flat_map(|bytes| hashes(bytes))) {
            self.remove(hash, seq);
        }
        Ok(())
    }

    /// Adds what is sorted by shard.
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
    /// And the shard it belongs to.
    fn new(hash: u64, seq: i64) -> (usize, Self) {
        let (shard, hash) = place(hash);
        let seq = half_seq(seq);
        (shard, Self { hash, seq })
    }
}

impl Tail {
    /// From a row of [`messages_from`].
    fn read(message: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            hash: hash(message.get_ref(1)?.as_str()?, message.get_ref(2)?.as_str()?),
            search: None,
            received_at: message.get(3)?,
        })
    }
}

fn messages_from(first_seq: i64) -> String {
    format!(
        "SELECT seq, endpoint, webhook_id, received_at FROM message WHERE seq >= {first_seq} ORDER BY seq"
    )
}

/// Writes blocks of all messages, where there are none. Behind a wide gap between their numbers a new one begins.
pub(crate) fn write_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut messages = connection.prepare(&messages_from(i64::MIN))?;
    let mut messages = messages.query(())?;
    let mut block = Vec::with_capacity(BLOCK_IDS);
    let mut first_seq = 0;
    while let Some(message) = messages.next()? {
        let seq: i64 = message.get(0)?;
        let place = usize::try_from(seq - first_seq).ok();
        if let Some(place) = place.filter(|place| !block.is_empty() && *place < BLOCK_IDS) {
            block.resize(place, Tail::NONE);
        } else {
            write_block(connection, first_seq, &block)?;
            block.clear();
            first_seq = seq;
        }
        block.push(Tail::read(message)?);
    }
    write_block(connection, first_seq, &block)
}

fn write_block(connection: &Connection, first_seq: i64, block: &[Tail]) -> rusqlite::Result<()> {
    let Some(newest_at) = block.iter().map(|tail| tail.received_at).max() else {
        return Ok(());
    };
    let hashes: Vec<u8> = block
        .iter()
        .flat_map(|tail| tail.hash.to_le_bytes())
        .collect();
    let mut search_keys = Vec::with_capacity(block.len() * SearchKeys::BYTES);
    for (seq, tail) in (first_seq..).zip(block) {
        let keys = match tail.search {
            Some(keys) => keys,
            None => stored_keys(connection, seq)?,
        };
        search_keys.extend(keys.to_bytes());
    }
    connection
        .prepare_cached("INSERT INTO dedupe_block (first_seq, newest_at, hashes) VALUES (?, ?, ?)")?
        .execute(params![first_seq, newest_at, hashes])?;
    connection
        .prepare_cached("INSERT INTO search_block (first_seq, keys) VALUES (?, ?)")?
        .execute(params![first_seq, search_keys])?;
    Ok(())
}

/// The keys in the beginning of a stored payload. The rest is not read, because this is done for
/// thousands of messages within a commit, and the ids stand in the beginning.
fn stored_keys(connection: &Connection, seq: i64) -> rusqlite::Result<SearchKeys> {
    connection
        .prepare_cached("SELECT substr(bytes, 1, 16384) FROM payload WHERE seq = ?")?
        .query_row(params![seq], |row| {
            // The beginning of an empty payload is NULL.
            let beginning = row.get_ref(0)?.as_blob_or_null()?;
            Ok(SearchKeys::of(beginning.unwrap_or_default()))
        })
        .optional()
        .map(Option::unwrap_or_default)
}

/// A block that [`DedupeIndex::forget_block`] would forget.
pub(crate) fn old_block(
    connection: &Connection,
    horizon: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT first_seq FROM dedupe_block WHERE newest_at < ? AND first_seq < (SELECT max(first_seq) FROM dedupe_block) ORDER BY first_seq LIMIT 1",
        )?
        .query_row(params![horizon.as_millisecond()], |row| row.get(0))
        .optional()
}

/// A hash that is the same in every version, as it stands on the disk.
pub(crate) fn hash(endpoint: &str, webhook_id: &str) -> u64 {
    let mut hash = Sha256::new();
    // Neither may hold a NUL.
    for part in [endpoint, "\0", webhook_id] {
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes"))
}

/// The hashes of a block, in the order of its messages.
pub(crate) fn hashes(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")))
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("memory holds fewer")
}

#[expect(clippy::cast_possible_truncation, reason = "two parts of the hash")]
fn place(hash: u64) -> (usize, u32) {
    (hash as usize % SHARDS, (hash >> 32) as u32)
}

/// The table wants all 64 bits to be random.
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

/// The number that ends in `half` and is the nearest below `next`: there are never more ids than such halves.
fn whole_seq(half: u32, next: i64) -> i64 {
    let seq = (next & !i64::from(u32::MAX)) | i64::from(half);
    if seq < next { seq } else { seq - (1 << 32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a failed sync the change was undone in memory, but is in the file when it is opened
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
            dedupe_index.add(hashes, 0);
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
    fn a_hash_is_what_it_was_when_it_was_written() {
        assert_eq!(hash("production", "wh_1"), 0xF53D_6F29_1F98_F669);
        assert_ne!(hash("production", "wh_1"), hash("productionw", "h_1"));
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
