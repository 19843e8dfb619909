//! The file that lines are appended to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Line;

/// Events are nobody else's business.
const MODE: u32 = 0o600;

pub(super) struct LinesFile {
    path: PathBuf,
    file: Option<File>,
}

impl LinesFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// Writes each line with one write, and returns when all of them are on the disk.
    pub(super) fn append(&mut self, batch: &[Line]) -> Result<(), String> {
        let appended = self.try_append(batch);
        if appended.is_err() {
            // Nothing is known of the file after a write that failed: it is opened anew.
            self.file = None;
        }
        appended.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn try_append(&mut self, batch: &[Line]) -> io::Result<()> {
        let mut file = self.current()?;
        // A crash or a full disk may have cut the last line short: ours must not become a part of it.
        let mut is_torn = !ends_with_a_line(file)?;
        for line in batch {
            file.write_all(line.bytes(is_torn))?;
            is_torn = false;
        }
        file.sync_data()
    }

    /// The file that is at the path now: the one before it may have been moved away.
    fn current(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) if is_at(&file, &self.path) => file,
            _ => open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let ours = file.metadata().map(identity);
    let there = fs::metadata(path).map(identity);
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}

fn open(path: &Path) -> io::Result<File> {
    // To open a pipe could take for ever, and none of these can be made durable.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::other(
            "this is no regular file: name one, or \"-\" for stdout",
        ));
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)?;
    // Or a crash of the machine could lose a new file with all that is in it.
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn ends_with_a_line(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}
