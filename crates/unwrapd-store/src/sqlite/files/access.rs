//! Explains why a file cannot be opened: the user of this process, the path, the missing permission
//! and the remedy.

use std::fmt::Write as _;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::error::StoreError;
use crate::paths::with_suffix;

/// The access that a process needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read only.
    Read,
    /// Read, write, and create the file if it is missing.
    Write,
}

/// The error of the system, with its cause and a remedy. The text begins with the path.
#[must_use]
pub fn explain(path: &Path, wish: Wish, error: &io::Error) -> String {
    let place = path.display();
    let folder = folder_of(path);
    match error.kind() {
        ErrorKind::NotFound if !folder.exists() => format!(
            "{place}: the folder {} does not exist; create it for {}",
            folder.display(),
            who()
        ),
        ErrorKind::NotFound => format!("{place}: the file does not exist"),
        ErrorKind::PermissionDenied => denied(path, wish, error),
        ErrorKind::ReadOnlyFilesystem => format!(
            "{place}: the file system is mounted read-only; mount it read-write, or name a path on another one"
        ),
        ErrorKind::IsADirectory => format!("{place}: this is a folder; name a file in it"),
        ErrorKind::NotADirectory => {
            format!("{place}: a part of the path is a file and no folder; correct the path")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("{place}: {error}; make room on the file system")
        }
        _ => format!("{place}: {error}"),
    }
}

fn denied(path: &Path, wish: Wish, error: &io::Error) -> String {
    let place = path.display();
    // The cause is not the permission bits, but an immutable file or a security module.
    if Errno::from_io_error(error) == Some(Errno::PERM) {
        return format!(
            "{place}: {error}; {} may not change it whatever its mode is: see `lsattr` for an immutable file",
            who()
        );
    }
    if let Some(folder) = closed_folder(path) {
        return format!(
            "{place}: {} may not enter the folder {} ({}); give it the permission x there",
            who(),
            folder.display(),
            of(&folder)
        );
    }
    let Ok(metadata) = std::fs::metadata(path) else {
        let folder = folder_of(path);
        return format!(
            "{place}: {} may not create a file in the folder {} ({}); change its owner: chown {} {}",
            who(),
            folder.display(),
            of(&folder),
            ids(),
            folder.display()
        );
    };
    let wanted = match wish {
        Wish::Read => "read",
        Wish::Write => "read and write",
    };
    format!(
        "{place}: {} may not {wanted} this file ({}); run as its owner, or change the owner: chown {} {place}",
        who(),
        owner(&metadata),
        ids()
    )
}

/// The outermost folder on the way to `path` that this process may not enter.
fn closed_folder(path: &Path) -> Option<PathBuf> {
    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    folders.reverse();
    folders
        .into_iter()
        .filter(|folder| !folder.as_os_str().is_empty() && folder.is_dir())
        .find(|folder| !may(folder, Access::EXEC_OK))
        .map(Path::to_owned)
}

/// Returns an error if an existing file of the database, or its folder, is not writable. SQLite
/// itself only reports that it cannot open a file.
pub(crate) fn check_writable(database: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let path = with_suffix(database, suffix);
        if path.exists() {
            check(
                &path,
                &path,
                Access::READ_OK | Access::WRITE_OK,
                Wish::Write,
            )?;
        }
    }
    // SQLite creates and removes the log in this folder, so the folder must allow new files.
    let log = with_suffix(database, "-wal");
    if log.exists() {
        return Ok(());
    }
    check(
        &folder_of(database),
        &log,
        Access::WRITE_OK | Access::EXEC_OK,
        Wish::Write,
    )
}

/// Returns an error if an existing file of the database is not readable.
pub(crate) fn check_readable(database: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let path = with_suffix(database, suffix);
        if path.exists() {
            check(&path, &path, Access::READ_OK, Wish::Read)?;
        }
    }
    Ok(())
}

/// Returns an error if the index of the log can be neither used nor created. Without it, a log
/// cannot be read.
pub(crate) fn check_index(database: &Path) -> Result<(), StoreError> {
    let index = with_suffix(database, "-shm");
    let folder = folder_of(&index);
    let tested = if index.exists() { &index } else { &folder };
    if accessat(CWD, tested, Access::WRITE_OK, AtFlags::EACCESS).is_ok() {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "{}: only a user who may write {} ({}) can read the log beside it; {} may not: run as its owner",
        database.display(),
        tested.display(),
        of(tested),
        who()
    )))
}

fn check(tested: &Path, path: &Path, access: Access, wish: Wish) -> Result<(), StoreError> {
    match accessat(CWD, tested, access, AtFlags::EACCESS) {
        Err(error @ (Errno::ACCESS | Errno::ROFS | Errno::PERM)) => {
            Err(StoreError::Unavailable(explain(path, wish, &error.into())))
        }
        // Opening the file reports any other error; an old system does not support this check.
        _ => Ok(()),
    }
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS) != Err(Errno::ACCESS)
}

/// The folder of a path.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn who() -> String {
    format!("this process (user {}, group {})", geteuid(), getegid())
}

fn ids() -> String {
    format!("{}:{}", geteuid(), getegid())
}

fn of(path: &Path) -> String {
    std::fs::metadata(path).map_or_else(|error| error.to_string(), |found| owner(&found))
}

fn owner(metadata: &Metadata) -> String {
    let mut text = format!("user {}, group {}", metadata.uid(), metadata.gid());
    // Writing to a string cannot fail.
    let _: Result<(), _> = write!(text, ", mode {:04o}", metadata.mode() & 0o7777);
    text
}
