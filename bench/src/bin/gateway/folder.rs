//! Where databases and configurations of a run lie: on the disk that is measured, and gone
//! afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A process and a number follow.
const PREFIX: &str = "run-";

/// A folder of its own, removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(work: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = work.join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies below target/.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what runs that were killed have left: it may be gigabytes.
pub fn sweep(work: &Path) -> anyhow::Result<()> {
    for entry in work.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
            .map(|(process, _)| Path::new("/proc").join(process));
        if process.is_some_and(|process| !process.exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
