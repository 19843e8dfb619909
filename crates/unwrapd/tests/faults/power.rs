//! The state of the files after a power failure.

use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Number of bytes that a disk writes atomically.
const SECTOR_BYTES: usize = 4096;

/// Changes the files of the database to their state after a power failure: all unsynced writes are
/// lost, or some of them, sector by sector.
pub(crate) fn cut(database: &Path, images: &Path, rng: &mut Rng) {
    let of = |suffix: &str| {
        let mut name = database.file_name().unwrap().to_owned();
        name.push(suffix);
        let live = database.with_file_name(&name);
        (live, images.join(name))
    };
    for suffix in ["", "-wal"] {
        let (live, image) = of(suffix);
        let Some(seen) = read(&live) else {
            // The file was removed.
            assert!(read(&image).is_none());
            continue;
        };
        let left = leave(&seen, &read(&image).unwrap_or_default(), rng);
        // The next process continues from this state.
        std::fs::write(&live, &left).unwrap();
        std::fs::write(&image, &left).unwrap();
    }
    drop(std::fs::remove_file(of("-shm").0));
}

/// Declares the present content of the database, which another process has created and closed, to
/// be on the disk.
pub(crate) fn save(database: &Path, images: &Path) {
    std::fs::copy(database, images.join(database.file_name().unwrap())).unwrap();
}

/// `seen` is the content in the page cache, `synced` the content that is certainly on the disk.
fn leave(seen: &[u8], synced: &[u8], rng: &mut Rng) -> Vec<u8> {
    if rng.bool() {
        return synced.to_owned();
    }
    let mut left = synced.to_owned();
    for (sector, bytes) in seen.chunks(SECTOR_BYTES).enumerate() {
        let start = sector * SECTOR_BYTES;
        if rng.bool() {
            left.resize(left.len().max(start + bytes.len()), 0);
            left[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }
    left
}

fn read(path: &PathBuf) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}
