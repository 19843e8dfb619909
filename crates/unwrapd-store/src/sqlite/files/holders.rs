//! The other programs that hold a lock on the database, as far as the operating system shows them.

use std::path::Path;

/// Names the processes that hold a lock on the index of this log, other than this one:
/// `process 4242 (sqlite3)`. `None` if the system does not show them.
#[cfg(target_os = "linux")]
pub(crate) fn of(log: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;

    /// Most processes that are named.
    const LISTED_MAX: usize = 3;

    let text = log.as_os_str().to_str()?.strip_suffix("-wal")?;
    let index = std::fs::metadata(format!("{text}-shm")).ok()?;
    let (major, minor) = (
        rustix::fs::major(index.dev()),
        rustix::fs::minor(index.dev()),
    );
    let file = format!("{major:02x}:{minor:02x}:{}", index.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let mut holders: Vec<u32> = locks
        .lines()
        // A line is `1: POSIX  ADVISORY  READ 4242 08:01:131090 124 124`, with `->` for a lock that
        // waits.
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(1) == Some(&"POSIX") && words.get(5) == Some(&file.as_str()))
        // Every program that has the index open holds the lock at byte 128.
        .filter(|words| words.get(6) != Some(&"128"))
        .filter_map(|words| words.get(4)?.parse().ok())
        .filter(|holder| *holder != std::process::id())
        .collect();
    holders.sort_unstable();
    holders.dedup();
    let names: Vec<String> = holders
        .iter()
        .take(LISTED_MAX)
        .map(|holder| {
            let name = std::fs::read_to_string(format!("/proc/{holder}/comm"));
            match name {
                Ok(name) => format!("process {holder} ({})", name.trim().escape_default()),
                Err(_) => format!("process {holder}"),
            }
        })
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_log: &Path) -> Option<String> {
    None
}
