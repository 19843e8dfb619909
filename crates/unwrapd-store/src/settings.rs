//! Settings of the store: its location, and its limits.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::bounds::Bounds;
use super::paths::{FILE_SUFFIXES, resolve, with_suffix};
use super::postgres::connect::address::{AddressError, PostgresAddress};

/// Settings of the store: its location, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Location of the store.
    pub url: StoreUrl,
    /// Limits in time and size.
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

/// Location of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(Box<PostgresAddress>),
}

impl StoreUrl {
    /// The paths of the files that belong to the store, whether or not they exist. Symbolic links
    /// are resolved where they exist. A store in PostgreSQL has no files.
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

    /// Whether `path` names a file of the store: by its path, through links, or by another name of
    /// the same file.
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
        // In other programs these forms have another meaning; one of them is a database in memory.
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

/// Reason why a text is not the URL of a store. It contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// The text has neither prefix.
    #[error(
        "this must be \"sqlite:\" and the path of a file, such as \"sqlite:unwrapd.db\", or the \
         URL of a database, such as \"postgres://unwrapd@db.internal/unwrapd\""
    )]
    Scheme,
    /// The text has `//` after `sqlite:`, as other programs write it.
    #[error(
        "remove \"//\" after \"sqlite:\": the path of the file follows directly, such as \
         \"sqlite:unwrapd.db\" or \"sqlite:/var/lib/unwrapd/unwrapd.db\""
    )]
    Slashes,
    /// The path is missing, or is not a plain path.
    #[error(
        "the path of a file is missing after \"sqlite:\", such as \"sqlite:unwrapd.db\" or \"sqlite:/var/lib/unwrapd/unwrapd.db\""
    )]
    Path,
    /// The text is not a URL of a database.
    #[error(transparent)]
    Address(#[from] AddressError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_store_is_recognised_under_any_name() {
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
        // The store is opened through a link to its file: the other files are beside the target.
        std::os::unix::fs::symlink(at("unwrapd.db"), at("named")).unwrap();
        let url = StoreUrl::Sqlite(at("named"));
        assert!(url.owns(&at("unwrapd.db-wal")));
        assert!(!url.owns(&at("named-wal")));
    }
}
