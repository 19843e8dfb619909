//! A file that the store has open, and what another program may do to it meanwhile.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::sqlite::files::access::{Wish, explain};

/// A path, and the file that it led to when the store was opened.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Known {
    pub(crate) fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata of the file, if the path still leads to it.
    pub(crate) fn look(&self) -> Result<Metadata, Trouble> {
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(found),
            Ok(_) => Err(self.loss(Damage::Replaced)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(self.loss(Damage::Removed))
            }
            // The file may still exist: the disk fails, or a permission was taken away.
            Err(error) => Err(Trouble::Refused(StoreError::Unavailable(explain(
                &self.path,
                Wish::Write,
                &error,
            )))),
        }
    }

    pub(crate) fn loss(&self, what: Damage) -> Trouble {
        Trouble::Lost(Loss {
            path: self.path.clone(),
            what,
        })
    }
}

/// Result of a check of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing may be written at this moment. The files are ours, and the condition is temporary.
    Refused(StoreError),
    /// The files are no longer ours, or are incomplete. They must not be written to, not even by
    /// closing them.
    Lost(Loss),
}

/// Damage to a file by another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) path: PathBuf,
    pub(crate) what: Damage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// No file has the name any more.
    Removed,
    /// Another file has the name.
    Replaced,
    /// The file is shorter than what was written to it, or has other content.
    Changed,
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::Lost(loss) => Self::Unavailable(loss.to_string()),
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.what {
            Damage::Removed => "was removed or moved away",
            Damage::Replaced => "was replaced by another file",
            Damage::Changed => "was truncated or overwritten by another program",
        };
        write!(
            f,
            "{} {what} while unwrapd was using it",
            self.path.display()
        )
    }
}

/// Returns an error if the file has another name (a hard link).
pub(crate) fn check_one_name(path: &Path, metadata: &Metadata) -> Result<(), String> {
    let names = metadata.nlink();
    if names <= 1 || !metadata.is_file() {
        return Ok(());
    }
    let place = path.display();
    Err(format!(
        "{place} has {names} names (hard links), and a gateway on another name would destroy it; \
         remove the other names (find / -samefile {place} lists them), and make copies with \
         `unwrapd db backup`"
    ))
}
