//! Blocks of the dedupe index on the disk: the hashes and the search keys of consecutive messages,
//! and those of them that are unrouted.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::search_keys::SearchKeys;
use crate::sqlite::unrouted;
use crate::sqlite::writer::id_hashes::hash;

/// Ids in a block, the unit of removal: 32 KiB of hashes.
pub(super) const BLOCK_IDS: usize = 4096;

/// A message that is in no block yet.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    pub(super) hash: u64,
    /// `None`: read from the database when the block is written.
    pub(super) details: Option<Details>,
    /// Milliseconds since 1970.
    pub(super) received_at: i64,
}

/// The other facts of a message in its block.
#[derive(Clone, Copy, Default)]
pub(super) struct Details {
    pub(super) search: SearchKeys,
    pub(super) is_unrouted: bool,
}

impl Tail {
    /// Placeholder for a deleted message: it is in no set, and counts as oldest.
    pub(super) const NONE: Self = Self {
        hash: 0,
        details: None,
        received_at: i64::MIN,
    };

    /// Reads a row of [`messages_from`].
    pub(super) fn read(message: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            hash: hash(message.get_ref(1)?.as_str()?, message.get_ref(2)?.as_str()?),
            details: None,
            received_at: message.get(3)?,
        })
    }
}

/// Selects the messages from this number on, for [`Tail::read`].
pub(super) fn messages_from(first_seq: i64) -> String {
    format!(
        "SELECT seq, endpoint, webhook_id, received_at FROM message WHERE seq >= {first_seq} ORDER \
         BY seq"
    )
}

/// Writes blocks of all messages, when there are none. A new block begins after a wide gap between
/// numbers.
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

pub(super) fn write_block(
    connection: &Connection,
    first_seq: i64,
    block: &[Tail],
) -> rusqlite::Result<()> {
    let Some(newest_at) = block.iter().map(|tail| tail.received_at).max() else {
        return Ok(());
    };
    let hashes: Vec<u8> = block
        .iter()
        .flat_map(|tail| tail.hash.to_le_bytes())
        .collect();
    let mut search_keys = Vec::with_capacity(block.len() * SearchKeys::BYTES);
    let mut is_unrouted = Vec::with_capacity(block.len());
    for (seq, tail) in (first_seq..).zip(block) {
        let details = match tail.details {
            Some(details) => details,
            None => stored_details(connection, seq)?,
        };
        search_keys.extend(details.search.to_bytes());
        is_unrouted.push(details.is_unrouted);
    }
    connection
        .prepare_cached("INSERT INTO dedupe_block (first_seq, newest_at, hashes) VALUES (?, ?, ?)")?
        .execute(params![first_seq, newest_at, hashes])?;
    connection
        .prepare_cached("INSERT INTO search_block (first_seq, keys) VALUES (?, ?)")?
        .execute(params![first_seq, search_keys])?;
    unrouted::list_block(connection, first_seq, &is_unrouted)
}

fn stored_details(connection: &Connection, seq: i64) -> rusqlite::Result<Details> {
    Ok(Details {
        search: stored_keys(connection, seq)?,
        is_unrouted: unrouted::is_unrouted(connection, seq)?,
    })
}

/// The keys at the beginning of a stored payload. The rest is not read, because this runs for
/// thousands of messages within a commit, and the ids are at the beginning.
fn stored_keys(connection: &Connection, seq: i64) -> rusqlite::Result<SearchKeys> {
    connection
        .prepare_cached("SELECT substr(bytes, 1, 16384) FROM payload WHERE seq = ?")?
        .query_row(params![seq], |row| {
            // `substr` of an empty payload is NULL.
            let beginning = row.get_ref(0)?.as_blob_or_null()?;
            Ok(SearchKeys::of(beginning.unwrap_or_default()))
        })
        .optional()
        .map(Option::unwrap_or_default)
}

/// Finds a block that [`DedupeIndex::forget_block`](super::dedupe_index::DedupeIndex::forget_block) would remove.
pub(crate) fn old_block(
    connection: &Connection,
    horizon: Timestamp,
) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT first_seq FROM dedupe_block WHERE newest_at < ? AND first_seq < (SELECT \
             max(first_seq) FROM dedupe_block) ORDER BY first_seq LIMIT 1",
        )?
        .query_row(params![horizon.as_millisecond()], |row| row.get(0))
        .optional()
}

/// The hashes of a block, in the order of its messages.
pub(crate) fn hashes(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")))
}
