//! What a power cut leaves of the files.

use std::path::{Path, PathBuf};

use fastrand::Rng;

/// A disk writes so much at once, or nothing of it.
const SECTOR_BYTES: usize = 4096;

/// Makes the files of the database what they would be after a power cut: of what was written and not synced, all is lost, or some
/// of it, sector by sector.
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
            // It was removed.
            assert!(read(&image).is_none());
            continue;
        };
        let left = leave(&seen, &read(&image).unwrap_or_default(), rng);
        // The next process goes on from here.
        std::fs::write(&live, &left).unwrap();
        std::fs::write(&image, &left).unwrap();
    }
    drop(std::fs::remove_file(of("-shm").0));
}

/// What is in the database now, which was made by someone else and is closed, is on the disk.
pub(crate) fn save(database: &Path, images: &Path) {
    std::fs::copy(database, images.join(database.file_name().unwrap())).unwrap();
}

/// `seen` is what the page cache showed, `synced` what is on the disk for certain.
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
