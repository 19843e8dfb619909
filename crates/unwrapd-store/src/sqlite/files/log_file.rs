//! Watches the log beside the database: it must still hold the commits that were written to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::StoreError;
use crate::sqlite::files::known_file::{Damage, Known, Trouble, check_one_name};
use crate::sqlite::files::wal::{FRAME_HEADER_BYTES, Header};

/// Maximum number of restarts of the log by other programs between two checks. A log with more
/// restarts does not belong to this database.
const RESTARTS_MAX: u32 = 1 << 16;

/// The log that SQLite has open, with a descriptor of our own, through which the content of a
/// removed log is still readable.
#[derive(Debug)]
pub(crate) struct LogFile {
    known: Known,
    file: File,
    seen: Option<Seen>,
}

/// The end of the log at the last check. It does not change until the log is restarted.
#[derive(Debug)]
struct Seen {
    header: Header,
    offset: u64,
    frame: [u8; FRAME_HEADER_BYTES],
}

impl LogFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            known: Known::new(path, &file.metadata()?),
            file,
            seen: None,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Drops the known end of the log, because another program has restarted the log.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// Checks the log. Returns an error if it is another file than before, or lacks some of the
    /// `frames` that SQLite has in it. The length alone is no proof: after a truncation, the next
    /// commit makes the log long again, with a hole.
    ///
    /// Returns whether the log was restarted since the last check. Then all of its earlier content
    /// is in the database.
    pub(crate) fn check(&mut self, frames: Option<u32>) -> Result<bool, Trouble> {
        let found = self.known.look()?;
        check_one_name(self.known.path(), &found)
            .map_err(|problem| Trouble::Refused(StoreError::Unavailable(problem)))?;
        let changed = || self.known.loss(Damage::Changed);
        if frames == Some(0) {
            self.seen = None;
            return Ok(true);
        }
        if frames.is_none() && self.seen.is_none() {
            return Ok(false);
        }
        let header = Header::parse(&self.read(0)?.ok_or_else(changed)?).ok_or_else(changed)?;
        let is_anew = match &self.seen {
            Some(seen) if seen.header == header => {
                if self.read(seen.offset)? != Some(seen.frame) {
                    return Err(changed());
                }
                false
            }
            Some(seen) => {
                let restarts = header.restarts_since(&seen.header);
                if restarts == 0 || restarts > RESTARTS_MAX {
                    return Err(changed());
                }
                true
            }
            None => false,
        };
        let Some(frames) = frames else {
            if is_anew {
                self.seen = None;
            }
            return Ok(is_anew);
        };
        let offset = header.frame_offset(frames);
        let frame = self.read(offset)?.ok_or_else(changed)?;
        if !header.has_frame(&frame) || found.len() < header.length(frames) {
            return Err(changed());
        }
        self.seen = Some(Seen {
            header,
            offset,
            frame,
        });
        Ok(is_anew)
    }

    /// Whether a check has found commits in the log.
    pub(crate) fn has_commits(&self) -> bool {
        self.seen.is_some()
    }

    /// Whether a frame of the log gives the database this beginning.
    pub(crate) fn holds_beginning<const N: usize>(&self, beginning: &[u8; N]) -> bool {
        let Ok(Some(header)) = self.read(0).map(|bytes| Header::parse(&bytes?)) else {
            return false;
        };
        for number in 1.. {
            let offset = header.frame_offset(number);
            match self.read::<FRAME_HEADER_BYTES>(offset) {
                Ok(Some(frame)) if header.has_frame(&frame) => {
                    let is_first_page = frame[..4] == 1_u32.to_be_bytes();
                    let page_at = offset + FRAME_HEADER_BYTES as u64;
                    if is_first_page
                        && self.read(page_at).ok().flatten().as_ref() == Some(beginning)
                    {
                        return true;
                    }
                }
                _ => return false,
            }
        }
        false
    }

    /// `None` if the file has fewer bytes.
    fn read<const N: usize>(&self, offset: u64) -> Result<Option<[u8; N]>, Trouble> {
        let mut bytes = [0; N];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Trouble::Refused(StoreError::Unavailable(format!(
                "the log of the store cannot be read: {error}"
            )))),
        }
    }
}
