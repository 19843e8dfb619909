//! Where databases and configurations of a run lie: on the disk that is measured, and gone afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own, removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(work: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = work.join(format!("run-{}-{number}", std::process::id()));
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
