//! Where messages are kept, how long, and how many.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::postgres::{AddressError, PostgresAddress};

/// Where messages are kept, how long, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where.
    pub url: StoreUrl,
    /// How long and how many.
    pub bounds: Bounds,
}

impl From<StoreUrl> for StoreSettings {
    fn from(url: StoreUrl) -> Self {
        Self {
            url,
            bounds: Bounds::default(),
        }
    }
}

/// How long things are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long an id is remembered, so that a copy of its message is known as one. OpenAI sends copies for 72 hours.
    pub dedupe: Duration,
    /// Most deliveries that wait; while there are more, messages that somebody wants are refused.
    pub undelivered_max: u64,
    /// How long a message is kept after it arrived and after its last delivery was settled. What
    /// waits for delivery is kept longer.
    pub retention: Duration,
    /// Most bytes that are kept. Near it, messages that wait for nothing go before their time; at
    /// it, new ones are refused. `None`: as many as the disk has.
    pub size_max: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            dedupe: Duration::from_secs(7 * 24 * 3600),
            undelivered_max: 10_000_000,
            retention: Duration::from_secs(30 * 24 * 3600),
            size_max: None,
        }
    }
}

/// Where messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(Box<PostgresAddress>),
}

/// Suffixes of the files of an SQLite store: the database, its log, the index of the log, a
/// rollback journal, and the lock.
const FILE_SUFFIXES: [&str; 5] = ["", "-wal", "-shm", "-journal", ".lock"];

impl StoreUrl {
    /// The paths of the files that belong to the store, whether or not they exist now. Symbolic
    /// links are resolved where they exist. A store in PostgreSQL has none.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let Self::Sqlite(path) = self else {
            return Vec::new();
        };
        let database = resolve(path);
        FILE_SUFFIXES
            .iter()
            .map(|suffix| with_suffix(&database, suffix))
            .collect()
    }

    /// Whether `path` names a file of the store: by its path, through links, or as another name of the same file.
    #[must_use]
    pub fn owns(&self, path: &Path) -> bool {
        let identity = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let resolved = resolve(path);
        let found = identity(path);
        self.files()
            .iter()
            .any(|file| *file == resolved || (found.is_some() && found == identity(file)))
    }
}

/// The path with all links resolved. Of a file that does not exist the folder is resolved, or else nothing.
pub(super) fn resolve(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    // A link to a file that does not exist yet, as the store's own path may be one.
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

/// The path with `suffix` behind its last component.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(address) => address.fmt(f),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let is_postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        if is_postgres {
            return Ok(Self::Postgres(Box::new(text.parse()?)));
        }
        let path = text.strip_prefix("sqlite:").ok_or(StoreUrlError::Scheme)?;
        // In other programs these mean something else, and one of them a store that forgets.
        let is_plain = !path.is_empty()
            && !path.starts_with("file:")
            && !path.contains('?')
            && path != ":memory:";
        if path.starts_with("//") {
            return Err(StoreUrlError::Slashes);
        }
        if !is_plain {
            return Err(StoreUrlError::Path);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// Why a text names no store. It holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// Of neither kind.
    #[error(
        "this must be \"sqlite:\" and the path of a file, such as \"sqlite:unwrapd.db\", or the URL of a database, such as \"postgres://unwrapd@db.internal/unwrapd\""
    )]
    Scheme,
    /// As other programs write it.
    #[error(
        "write no \"//\" after \"sqlite:\": the path of the file follows at once, such as \"sqlite:unwrapd.db\" or \"sqlite:/var/lib/unwrapd/unwrapd.db\""
    )]
    Slashes,
    /// No plain path of a file.
    #[error(
        "the path of a file is missing after \"sqlite:\", such as \"sqlite:unwrapd.db\" or \"sqlite:/var/lib/unwrapd/unwrapd.db\""
    )]
    Path,
    /// No URL of a database.
    #[error(transparent)]
    Address(#[from] AddressError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_store_is_known_under_any_name() {
        let folder = tempfile::TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        let url = StoreUrl::Sqlite(at("unwrapd.db"));
        for name in [
            "unwrapd.db",
            "unwrapd.db-wal",
            "unwrapd.db.lock",
            "./unwrapd.db-shm",
        ] {
            assert!(url.owns(&at(name)), "{name}");
        }
        assert!(!url.owns(&at("lines.jsonl")));

        std::fs::write(at("unwrapd.db"), "").unwrap();
        std::fs::hard_link(at("unwrapd.db"), at("second-name")).unwrap();
        std::os::unix::fs::symlink(at("unwrapd.db-wal"), at("link-to-log")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("link-to-folder")).unwrap();
        for name in ["second-name", "link-to-log", "link-to-folder/unwrapd.db"] {
            assert!(url.owns(&at(name)), "{name}");
        }
        // The store named through a link to its file: the files stand beside the target.
        std::os::unix::fs::symlink(at("unwrapd.db"), at("named")).unwrap();
        let url = StoreUrl::Sqlite(at("named"));
        assert!(url.owns(&at("unwrapd.db-wal")));
        assert!(!url.owns(&at("named-wal")));
    }
}
