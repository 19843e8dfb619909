//! Reads a small file completely, with limits on size and time, whatever kind of file the path
//! names.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Longest time for a pipe to deliver its content. A process substitution such as
/// `<(pass show NAME)` is a pipe.
const PIPE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of one read from a pipe.
const PIECE_BYTES: usize = 4096;
/// Permission bit that lets every user of the machine read the file.
const READABLE_BY_ALL: u32 = 0o004;
const WRITABLE_BY_ALL: u32 = 0o002;

/// The content of a file, and whether every user of the machine may read it too.
pub struct Content {
    /// The bytes. They are wiped when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether its permissions let every user of the machine read it.
    pub is_readable_by_all: bool,
}

/// Reads a regular file, or a pipe that ends within ten seconds, of at most `bytes_max` bytes. The
/// error text has neither the path nor any content.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<Content> {
    // The open must not block: a pipe without a writer would block it forever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed() | OFlags::NOCTTY.bits().cast_signed())
        .open(path)
        .map_err(explained)?;
    let data = file.metadata()?;
    let kind = data.file_type();
    let too_large = || {
        io::Error::other(format!(
            "it has more than {bytes_max} bytes, too many for such a file: name the right file"
        ))
    };
    let bytes = if kind.is_file() {
        if data.len() > bytes_max as u64 {
            return Err(too_large());
        }
        // Some system files report no size, and a file may grow in the meantime.
        let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max.min(64 * 1024)));
        (&file).take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        bytes
    } else if kind.is_fifo() {
        read_pipe(&file, bytes_max)?
    } else {
        let what = if kind.is_dir() {
            "it is a folder"
        } else if kind.is_char_device() || kind.is_block_device() {
            "it is a device"
        } else {
            "it is not a file"
        };
        return Err(io::Error::other(format!("{what}: name a regular file")));
    };
    if bytes.len() > bytes_max {
        return Err(too_large());
    }
    Ok(Content {
        bytes,
        is_readable_by_all: kind.is_file() && data.mode() & READABLE_BY_ALL != 0,
    })
}

/// Whether the permissions of a regular file let every user of the machine change it.
#[must_use]
pub fn is_writable_by_all(path: &Path) -> bool {
    let is_so = |data: Metadata| data.is_file() && data.mode() & WRITABLE_BY_ALL != 0;
    std::fs::metadata(path).is_ok_and(is_so)
}

/// Reads to the end of a pipe, up to one byte more than `bytes_max`.
fn read_pipe(mut file: &File, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let deadline = Instant::now() + PIPE_TIME_MAX;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut piece = Zeroizing::new([0; PIECE_BYTES]);
    while bytes.len() <= bytes_max {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut waited = [PollFd::new(file, PollFlags::IN)];
        match poll(&mut waited, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => {
                return Err(io::Error::other(format!(
                    "it is a pipe that did not end within {} s: name a regular file",
                    PIPE_TIME_MAX.as_secs()
                )));
            }
            Ok(_) => {}
        }
        match file.read(&mut *piece) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Adds the remedy to an error whose text from the system lacks one.
pub(crate) fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            "it does not exist: create it, or correct the path",
        ),
        io::ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            io::Error::new(
                error.kind(),
                format!(
                    "permission denied for user id {user}: let this user read the file and enter its folders"
                ),
            )
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            io::Error::other("it is a socket or a device without a driver: name a regular file")
        }
        _ => error,
    }
}

/// The bytes as text without a byte order mark. The error names UTF-16 where the bytes look like
/// it.
pub fn text(bytes: &[u8]) -> Result<&str, String> {
    if let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF") {
        return std::str::from_utf8(rest).map_err(|_| not_utf8(rest));
    }
    if is_utf16(bytes) {
        return Err(
            "it is UTF-16, as some editors and PowerShell write it: save it as UTF-8".into(),
        );
    }
    std::str::from_utf8(bytes).map_err(|_| not_utf8(bytes))
}

/// Recognises UTF-16 by its byte order mark, or by a zero in every second of the first bytes.
fn is_utf16(bytes: &[u8]) -> bool {
    let has_mark = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF");
    let beginning = &bytes[..bytes.len().min(64) / 2 * 2];
    let zeros = |offset: usize| {
        beginning
            .iter()
            .skip(offset)
            .step_by(2)
            .filter(|b| **b == 0)
    };
    let half = beginning.len() / 2;
    let is_zero_every_second = half >= 2 && (0..2).any(|side| zeros(side).count() == half);
    has_mark || is_zero_every_second
}

fn not_utf8(bytes: &[u8]) -> String {
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let line = bytes[..valid].split(|b| *b == b'\n').count();
    format!("it is not UTF-8 text (line {line}): save it as UTF-8")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn problem(path: &Path) -> String {
        match read(path, 16) {
            Ok(_) => panic!("{} was read", path.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn files_are_read_only_if_small_and_regular() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        let content = read(&file, 16).unwrap();
        assert_eq!(*content.bytes, b"0123456789abcdef");
        std::fs::write(&file, "0123456789abcdef!").unwrap();
        assert!(problem(&file).contains("more than 16 bytes"));
        assert!(problem(folder.path()).contains("it is a folder"));
        assert!(problem(Path::new("/dev/zero")).contains("it is a device"));
        assert!(problem(Path::new("/dev/null")).contains("it is a device"));
    }

    #[test]
    fn permissions_for_everybody_are_reported() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (mode, expected) in [(0o600, false), (0o640, false), (0o644, true)] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let content = read(&file, 16).unwrap();
            assert_eq!(content.is_readable_by_all, expected, "{mode:o}");
        }
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_not_beyond_the_bound() {
        for (text, expected) in [("secret\n", Ok(7)), ("01234567890123456789", Err(()))] {
            let (reading, mut writing) = io::pipe().unwrap();
            writing.write_all(text.as_bytes()).unwrap();
            drop(writing);
            let fd = std::os::fd::AsRawFd::as_raw_fd(&reading);
            let read = read(Path::new(&format!("/proc/self/fd/{fd}")), 16);
            assert_eq!(
                read.map(|content| content.bytes.len()).map_err(drop),
                expected
            );
        }
    }

    #[test]
    fn text_must_be_utf8_and_another_encoding_is_named() {
        assert_eq!(text("\u{FEFF}é".as_bytes()), Ok("é"));
        for bytes in [&b"\xFF\xFEa\0"[..], b"\xFE\xFF\0a", b"a\0b\0", b"\0a\0b"] {
            assert!(text(bytes).unwrap_err().contains("UTF-16"), "{bytes:?}");
        }
        assert!(text(b"a\nb\xFF").unwrap_err().contains("line 2"));
    }
}
