//! The format of SQLite's write-ahead log, as far as this program checks its content and writes it
//! again:
//! <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of the header of a log.
pub(crate) const HEADER_BYTES: usize = 32;
/// Bytes of the header of a frame; a page follows.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;

/// The first word of a log; its last bit says that the checksums are big-endian.
const MAGIC: u32 = 0x377F_0682;
/// Largest page, in bytes. The size of a page is a power of two.
const PAGE_BYTES_MAX: u32 = 65_536;

/// The header of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    page_bytes: u32,
    salt: [u8; 8],
    is_big_endian: bool,
    checksum: (u32, u32),
}

impl Header {
    /// Parses the header. `None` if these bytes are not the header of a log.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let page_bytes = word(8);
        let is_page_size =
            page_bytes.is_power_of_two() && (512..=PAGE_BYTES_MAX).contains(&page_bytes);
        let header = Self {
            page_bytes,
            salt: bytes[16..24].try_into().expect("eight"),
            is_big_endian: word(0) & 1 == 1,
            checksum: (word(24), word(28)),
        };
        let sum = checksum(&bytes[..24], (0, 0), header.is_big_endian);
        (word(0) & !1 == MAGIC && is_page_size && sum == header.checksum).then_some(header)
    }

    /// Number of restarts of the log since `earlier`. The first half of the salt counts them.
    pub(crate) fn restarts_since(&self, earlier: &Self) -> u32 {
        let count = |header: &Self| u32::from_be_bytes(header.salt[..4].try_into().expect("four"));
        count(self).wrapping_sub(count(earlier))
    }

    /// Offset of frame `number`, counted from 1, in bytes.
    pub(crate) fn frame_offset(&self, number: u32) -> u64 {
        let header = HEADER_BYTES as u64;
        header + u64::from(number - 1) * (u64::from(self.page_bytes) + FRAME_HEADER_BYTES as u64)
    }

    /// Length of a log with `frames` frames, in bytes.
    pub(crate) fn length(&self, frames: u32) -> u64 {
        self.frame_offset(frames + 1)
    }

    /// Whether the frame with this header belongs to this log, and not to an earlier log in the
    /// same file.
    pub(crate) fn has_frame(&self, frame: &[u8; FRAME_HEADER_BYTES]) -> bool {
        frame[8..16] == self.salt
    }
}

/// SQLite's running checksum of pairs of words.
fn checksum(bytes: &[u8], seed: (u32, u32), is_big_endian: bool) -> (u32, u32) {
    let (mut first, mut second) = seed;
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let word = pair[at..at + 4].try_into().expect("four");
            if is_big_endian {
                u32::from_be_bytes(word)
            } else {
                u32::from_le_bytes(word)
            }
        };
        first = first.wrapping_add(word(0)).wrapping_add(second);
        second = second.wrapping_add(word(4)).wrapping_add(first);
    }
    (first, second)
}

/// Reads the first `frames` frames of the log, checks the chain of their checksums, writes the same
/// bytes to the same position, and syncs the file. Then the disk has them, even if an earlier sync
/// failed and only the page cache still had them.
///
/// Returns the position of the latest content of each page among the first `moved` frames: the
/// number of the page, and the offset of the content.
pub(crate) fn write_again(log: &File, frames: u32, moved: u32) -> io::Result<Moved> {
    let mut bytes = [0; HEADER_BYTES];
    log.read_exact_at(&mut bytes, 0)?;
    let header = Header::parse(&bytes).ok_or_else(broken)?;
    log.write_all_at(&bytes, 0)?;
    let page_bytes = usize::try_from(header.page_bytes).expect("at most 64 KiB");
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let mut sum = header.checksum;
    let mut pages = HashMap::new();
    for number in 1..=frames {
        let offset = header.frame_offset(number);
        log.read_exact_at(&mut frame, offset)?;
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four"));
        sum = checksum(&frame[..8], sum, header.is_big_endian);
        sum = checksum(&frame[FRAME_HEADER_BYTES..], sum, header.is_big_endian);
        if frame[8..16] != header.salt || sum != (word(16), word(20)) {
            return Err(broken());
        }
        if number <= moved {
            pages.insert(word(0), offset + FRAME_HEADER_BYTES as u64);
        }
        log.write_all_at(&frame, offset)?;
    }
    log.sync_data()?;
    Ok(Moved { pages, page_bytes })
}

/// The pages that were moved from the log into the database.
pub(crate) struct Moved {
    pages: HashMap<u32, u64>,
    page_bytes: usize,
}

impl Moved {
    /// Writes these pages into the database again, and syncs it.
    pub(crate) fn write_again(&self, log: &File, database: &File) -> io::Result<()> {
        let mut page = vec![0; self.page_bytes];
        for (number, offset) in &self.pages {
            log.read_exact_at(&mut page, *offset)?;
            let place = u64::from(number - 1) * self.page_bytes as u64;
            database.write_all_at(&page, place)?;
        }
        database.sync_data()
    }
}

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the log lacks content that was written to it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn filled(folder: &TempDir) -> (rusqlite::Connection, File, u32) {
        let path = folder.path().join("a.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);
                 INSERT INTO t VALUES (zeroblob(9000)); INSERT INTO t VALUES (1);",
            )
            .unwrap();
        let frames = connection
            .query_row("PRAGMA wal_checkpoint(NOOP)", (), |row| row.get(1))
            .unwrap();
        let log = File::options()
            .read(true)
            .write(true)
            .open(folder.path().join("a.db-wal"))
            .unwrap();
        (connection, log, frames)
    }

    #[test]
    fn a_log_written_again_is_the_same() {
        let folder = TempDir::new().unwrap();
        let (_connection, log, frames) = filled(&folder);
        let before = std::fs::read(folder.path().join("a.db-wal")).unwrap();
        let moved = write_again(&log, frames, frames).unwrap();
        assert!(moved.pages.len() > 2);
        assert_eq!(
            before,
            std::fs::read(folder.path().join("a.db-wal")).unwrap()
        );
        assert_eq!(write_again(&log, 0, 0).unwrap().pages.len(), 0);
    }

    #[test]
    fn a_frame_that_reads_otherwise_than_it_was_written_is_found() {
        let folder = TempDir::new().unwrap();
        let (_connection, log, frames) = filled(&folder);
        let mut bytes = [0; HEADER_BYTES];
        log.read_exact_at(&mut bytes, 0).unwrap();
        let header = Header::parse(&bytes).unwrap();
        let place = header.frame_offset(frames) + 100;
        log.write_all_at(&[0xA5], place).unwrap();
        assert!(write_again(&log, frames, 0).is_err());
        assert!(write_again(&log, frames - 1, 0).is_ok());
        assert!(write_again(&log, frames + 1, 0).is_err(), "there is none");
        bytes[20] ^= 1;
        assert_eq!(Header::parse(&bytes), None);
    }
}
