//! Checks the file system of the store. The shared memory of the log and the locks need a local
//! file system: over a network, both silently have no effect.

use std::path::Path;

use crate::error::StoreError;
use crate::paths::with_suffix;
use crate::sqlite::error::disk_full;

/// SQLite reserves space for the index by writing one byte in each block of this size, in bytes.
const INDEX_STEP: u64 = 4096;
/// Free space that opening the database needs at most, in bytes, besides the index of its log.
const ROOM_MIN: u64 = 128 * 1024;
/// Bytes of the log for each byte of its index, at least: 32 KiB of index cover 4,096 pages of 4
/// KiB.
const LOG_TO_INDEX: u64 = 256;

/// Result of the check of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only Linux gives the kind of a file system")
)]
enum Verdict {
    /// No problem.
    Fine,
    /// A network file system, which cannot be used.
    Network(&'static str),
    /// A FUSE file system, which may use the network.
    Fuse,
    /// A file system in memory, whose content is lost when the machine restarts.
    Memory,
}

/// Refuses a path on a network file system, and warns of doubtful ones. An unknown kind is
/// accepted.
pub(crate) fn check(path: &Path) -> Result<(), StoreError> {
    let place = path.display();
    match kind(path) {
        Verdict::Fine => {}
        Verdict::Network(name) => {
            return Err(StoreError::Unusable(format!(
                "{place} is on a network file system ({name}), where SQLite loses data; put it on \
                 a local disk, or use a volume of block storage"
            )));
        }
        Verdict::Fuse => tracing::warn!(
            "{place} is on a FUSE file system: if it uses the network, as sshfs does, SQLite can lose data there; use a local disk"
        ),
        Verdict::Memory => tracing::warn!(
            "{place} is in memory (tmpfs): its content is lost when the machine restarts"
        ),
    }
    Ok(())
}

/// Returns an error if the disk has no room for the index of the log, before the database at `path`
/// is opened or written.
///
/// SQLite creates the index by writing one byte in every 4 KiB, and maps it into memory. If the
/// blocks of the file system are smaller, as on small ext4 volumes, the file has holes. A write to
/// a hole on a full disk ends the process with SIGBUS. If the free space is unknown, it is assumed
/// to suffice.
pub(crate) fn check_room(path: &Path) -> Result<(), StoreError> {
    let Ok(found) = rustix::fs::statvfs(path) else {
        return Ok(());
    };
    if !has_small_blocks(&found) {
        return Ok(());
    }
    let log = std::fs::metadata(with_suffix(path, "-wal")).map_or(0, |log| log.len());
    // Not `f_bfree`, even for the superuser: some of those blocks are reserved for the file system
    // itself.
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if has_room(free, log) {
        Ok(())
    } else {
        Err(disk_full())
    }
}

/// Whether [`check_room`] can refuse anything on this file system.
pub(crate) fn needs_room(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| has_small_blocks(&found))
}

fn has_small_blocks(found: &rustix::fs::StatVfs) -> bool {
    (1..INDEX_STEP).contains(&found.f_frsize)
}

fn has_room(free_bytes: u64, log_bytes: u64) -> bool {
    free_bytes >= ROOM_MIN.saturating_add(log_bytes / LOG_TO_INDEX)
}

#[cfg(target_os = "linux")]
fn kind(path: &Path) -> Verdict {
    // A file that does not exist yet will be on the file system of its folder.
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    };
    rustix::fs::statfs(path)
        .or_else(|_| rustix::fs::statfs(folder))
        .map_or(Verdict::Fine, |found| judge(widen(found.f_type)))
}

#[cfg(target_os = "linux")]
#[allow(
    clippy::cast_lossless,
    clippy::cast_sign_loss,
    reason = "its type differs on other machines"
)]
fn widen(magic: rustix::fs::FsWord) -> u64 {
    magic as u64
}

#[cfg(not(target_os = "linux"))]
fn kind(_path: &Path) -> Verdict {
    Verdict::Fine
}

/// Judges by the magic number of `statfs(2)`: those of `linux/magic.h`, and of file systems outside
/// the kernel.
#[cfg(target_os = "linux")]
fn judge(magic: u64) -> Verdict {
    // On some machines the number is signed, and sign-extended when it is widened.
    match magic & 0xFFFF_FFFF {
        0x6969 => Verdict::Network("NFS"),
        0x517B => Verdict::Network("SMB"),
        0xFF53_4D42 => Verdict::Network("CIFS"),
        0xFE53_4D42 => Verdict::Network("SMB2"),
        0x564C => Verdict::Network("NCP"),
        0x0102_1997 => Verdict::Network("9p"),
        0x00C3_6400 => Verdict::Network("Ceph"),
        0x0BD0_0BD0 => Verdict::Network("Lustre"),
        0x5346_414F | 0x6B41_4653 => Verdict::Network("AFS"),
        0x7375_7245 => Verdict::Network("Coda"),
        0x4750_4653 => Verdict::Network("GPFS"),
        0x1983_0326 => Verdict::Network("BeeGFS"),
        0x2003_0528 => Verdict::Network("OrangeFS"),
        0x6573_5546 => Verdict::Fuse,
        0x0102_1994 | 0x8584_58F6 => Verdict::Memory,
        _ => Verdict::Fine,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_the_network_are_known_and_local_ones_are_fine() {
        for (magic, verdict) in [
            (0x6969_u64, Verdict::Network("NFS")),
            (0xFE53_4D42, Verdict::Network("SMB2")),
            // The value on a machine where the number is signed.
            (0xFFFF_FFFF_FE53_4D42, Verdict::Network("SMB2")),
            (0x0102_1997, Verdict::Network("9p")),
            (0x6573_5546, Verdict::Fuse),
            (0x0102_1994, Verdict::Memory),
        ] {
            assert_eq!(judge(magic), verdict, "{magic:#x}");
        }
        // ext4, XFS, Btrfs, ZFS, F2FS, overlayfs.
        for magic in [
            0xEF53_u64,
            0x5846_5342,
            0x9123_683E,
            0x2FC1_2FC1,
            0xF2F5_2010,
            0x794C_7630,
        ] {
            assert_eq!(judge(magic), Verdict::Fine, "{magic:#x}");
        }
    }

    #[test]
    fn small_blocks_need_room_for_the_index_of_the_log() {
        assert!(has_room(ROOM_MIN, 0));
        assert!(!has_room(ROOM_MIN - 1, 0));
        assert!(!has_room(ROOM_MIN, LOG_TO_INDEX));
    }

    #[test]
    fn a_file_system_in_memory_is_recognised() {
        assert_eq!(kind(Path::new("/dev/shm/no-such-file")), Verdict::Memory);
        // A kernel file system, on which no file can be stored.
        assert_eq!(kind(Path::new("/proc/self")), Verdict::Fine);
    }
}
