//! Paths of the files of an SQLite store.

use std::path::{Path, PathBuf};

/// Suffixes of the files of an SQLite store: the database, its log, the index of the log, a
/// rollback journal, and the lock.
pub(super) const FILE_SUFFIXES: [&str; 5] = ["", "-wal", "-shm", "-journal", ".lock"];

/// Resolves all links of the path. For a file that does not exist, resolves its folder if possible.
pub(super) fn resolve(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    // A link to a file that does not exist yet, such as the path of a new store.
    if let Ok(target) = std::fs::read_link(path) {
        return resolve_in_folder(&path.parent().unwrap_or(Path::new("")).join(target));
    }
    resolve_in_folder(path)
}

fn resolve_in_folder(path: &Path) -> PathBuf {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// The path with `suffix` appended to its last component.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}
