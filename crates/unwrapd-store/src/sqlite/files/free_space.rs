//! Warns while the disk of the store is nearly full, so that someone can act before webhooks are
//! refused.

use std::path::Path;
use std::time::Duration;

use unwrapd_core::observe::warnings::Warnings;

/// Interval between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The warning begins when less than one part of so many is free, or less than
/// [`FREE_BYTES_MAX`].
const PARTS: u64 = 20;
/// Free space that is enough on a disk of any size.
const FREE_BYTES_MAX: u64 = 2 * 1024 * MIB;

const MIB: u64 = 1024 * 1024;

/// Name of the warning, among [`Warnings`].
const WARNING: &str = "store-space";

/// Begins or ends the warning for the file system of `path`. Nothing changes if its free space is
/// unknown.
pub(super) fn look(path: &Path, warnings: &Warnings) {
    let Ok(found) = rustix::fs::statvfs(path) else {
        return;
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let all = found.f_blocks.saturating_mul(found.f_frsize);
    match verdict(free, all) {
        Verdict::NearlyFull => warnings.begin(
            WARNING,
            format!(
                "the disk of the store has {} MiB left of {} MiB: free space on it, enlarge it, or \
                 store messages for a shorter time (`retention_days`). When it is full, webhooks \
                 are answered with 503",
                free / MIB,
                all / MIB
            ),
        ),
        Verdict::Enough => warnings.end(WARNING, "the disk of the store has enough space again"),
        Verdict::Between => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    NearlyFull,
    /// A warning that has begun goes on, so that it does not come and go.
    Between,
    Enough,
}

fn verdict(free: u64, all: u64) -> Verdict {
    let least = (all / PARTS).min(FREE_BYTES_MAX);
    if free < least {
        Verdict::NearlyFull
    } else if free < least + least / 4 {
        Verdict::Between
    } else {
        Verdict::Enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * MIB;

    #[test]
    fn a_disk_is_nearly_full_below_a_twentieth_or_two_gibibytes() {
        assert_eq!(verdict(GIB - 1, 20 * GIB), Verdict::NearlyFull);
        assert_eq!(verdict(GIB, 20 * GIB), Verdict::Between);
        assert_eq!(verdict(GIB + GIB / 4, 20 * GIB), Verdict::Enough);
        assert_eq!(verdict(2 * GIB - 1, 4096 * GIB), Verdict::NearlyFull);
        assert_eq!(verdict(3 * GIB, 4096 * GIB), Verdict::Enough);
        assert_eq!(verdict(0, 0), Verdict::Enough);
    }

    #[test]
    fn a_file_system_with_room_ends_the_warning() {
        let warnings = Warnings::default();
        warnings.begin(WARNING, "for the test");
        look(Path::new("/nothing/is/here"), &warnings);
        assert!(warnings.has(WARNING));
        // Its size is unlimited or at least hundreds of megabytes on every machine of a test.
        look(Path::new("/proc"), &warnings);
        assert!(!warnings.has(WARNING));
    }
}
