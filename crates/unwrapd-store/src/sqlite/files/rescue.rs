//! Saves data when another program has changed the files of the store.
//!
//! A removed file exists as long as a process has it open. The gateway is about to stop, so it
//! first saves content that exists only in its open files. It never writes to a file that has a
//! name of the store.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::paths::with_suffix;
use crate::sqlite::files::access::folder_of;
use crate::sqlite::files::known_file::{Damage, Loss};
use crate::sqlite::files::store_files::StoreFiles;

/// Readable only by its owner, like the store.
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Bytes copied at a time.
const STEP_BYTES: usize = 1 << 20;

/// Saves content that only this process has, and returns the remedy for the operator.
///
/// An error means that the content could not be saved. It is still there as long as this process
/// runs.
pub(crate) fn save(files: &StoreFiles, loss: &Loss) -> io::Result<String> {
    let database = files.path();
    let log_path = files.log_path();
    let is_gone = |file: &File| file.metadata().map(|metadata| metadata.nlink() == 0);
    let first =
        "first copy the database, its -wal, its -shm and every saved file to another folder";
    if is_gone(files.file())? {
        // The folder may have been removed with everything in it.
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder_of(database))?;
        let saved = free_name(database);
        copy(files.file(), &saved)?;
        if let Some(log) = files.log() {
            copy(log, &with_suffix(&saved, "-wal"))?;
        }
        sync_folder(database)?;
        let (saved, place) = (saved.display(), database.display());
        return Ok(format!(
            "the content was saved as {saved} and {saved}-wal; {first}, then move away the files \
             {place}, {place}-wal and {place}-shm, rename the saved files to {place} and \
             {place}-wal, and start unwrapd"
        ));
    }
    if let Some(log) = files.log()
        && is_gone(log)?
    {
        let is_database_there = files.database().look().is_ok();
        if is_database_there && !log_path.exists() {
            copy(log, &log_path)?;
            sync_folder(database)?;
            return Ok(format!(
                "the log was saved as {}, so nothing acknowledged is lost; {first}, then start unwrapd",
                log_path.display()
            ));
        }
        let saved = free_name(&log_path);
        copy(log, &saved)?;
        sync_folder(database)?;
        return Ok(format!(
            "the log was saved as {saved}; {first}, then move the database back to {}, rename \
             {saved} to {}, remove {}-shm, and start unwrapd",
            database.display(),
            log_path.display(),
            database.display(),
            saved = saved.display(),
        ));
    }
    if loss.path == with_suffix(database, "-shm") {
        return Ok(format!(
            "this file is only an index, and is created again from the log; {first}, then start unwrapd"
        ));
    }
    Ok(match loss.what {
        Damage::Changed => format!(
            "{first}; try `unwrapd db check` on a copy. If it is damaged, `sqlite3 COPY .recover` \
             may save what was written since the last backup; then restore a backup"
        ),
        _ => format!(
            "{first}; the earlier file still exists under another name: move it back beside the \
             others, all of the same time, and start unwrapd"
        ),
    })
}

/// An unused name beside `path`.
fn free_name(path: &Path) -> PathBuf {
    let mut second = Timestamp::now().as_second();
    loop {
        let name = with_suffix(path, &format!(".saved-{second}"));
        if !name.exists() {
            return name;
        }
        second += 1;
    }
}

/// Copies the whole file or nothing: a partial log under the name of the log would be taken for the
/// log.
fn copy(from: &File, to: &Path) -> io::Result<()> {
    let partial = with_suffix(to, ".partial");
    let copied = copy_to_new(from, &partial).and_then(|()| std::fs::rename(&partial, to));
    if copied.is_err() {
        // The partial file may occupy the space that is missing.
        drop(std::fs::remove_file(&partial));
    }
    copied
}

fn copy_to_new(from: &File, to: &Path) -> io::Result<()> {
    let target = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(to)?;
    let mut bytes = vec![0; STEP_BYTES];
    let mut offset = 0;
    loop {
        let read = from.read_at(&mut bytes, offset)?;
        if read == 0 {
            break;
        }
        target.write_all_at(&bytes[..read], offset)?;
        offset += read as u64;
    }
    target.sync_all()
}

fn sync_folder(database: &Path) -> io::Result<()> {
    File::open(folder_of(database))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_copied_whole_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (
            folder.path().join("from"),
            folder.path().join("store.db-wal"),
        );
        // Without permission to read, the copy fails after it has begun.
        let from = File::create(from).unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
