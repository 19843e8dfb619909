//! Folders for the databases and configurations of a run, on the measured disk. A run removes its
//! folders.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Prefix of folder names; a process id and a number follow.
const PREFIX: &str = "run-";

/// A new folder, removed on drop.
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
        // Leftovers are below target/, and the next run removes them.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of killed runs, which may contain gigabytes.
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
