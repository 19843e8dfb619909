//! The files and times that commands about single webhooks are given.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use jiff::Timestamp;

use crate::cli::failure::Failure;
use crate::cli::format::shown_path;
use crate::files;

/// Largest request or payload that is read: many times the limit of a gateway.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Times from here on are not in seconds: 13 digits are milliseconds.
pub(super) const MILLISECONDS_MIN: i64 = 100_000_000_000;

/// The bytes of a file, or of stdin for `-`.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let mut stdin = std::io::stdin().take(FILE_BYTES_MAX as u64 + 1);
        stdin.read_to_end(&mut bytes).and_then(|length| {
            if length > FILE_BYTES_MAX {
                return Err(std::io::Error::other(format!(
                    "it has more than {FILE_BYTES_MAX} bytes"
                )));
            }
            Ok(bytes)
        })
    } else {
        files::read(path, FILE_BYTES_MAX).map(|content| content.bytes.to_vec())
    };
    bytes.map_err(|error| {
        let problem = anyhow::anyhow!("cannot read {}: {error}", shown_path(path));
        match error.kind() {
            ErrorKind::NotFound => Failure::NotFound(problem),
            _ => Failure::Failed(problem),
        }
    })
}

/// The time of this machine, in Unix seconds.
pub(crate) fn unix_now() -> i64 {
    Timestamp::now().as_second()
}

/// A time as people write it, Unix seconds or RFC 3339, in Unix seconds.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse() {
        return whole_seconds(seconds);
    }
    let time: Timestamp = text
        .parse()
        .map_err(|_| "a time must be Unix seconds, or like 2026-11-24T08:00:00Z".to_owned())?;
    whole_seconds(time.as_second())
}

fn whole_seconds(seconds: i64) -> Result<i64, String> {
    if seconds < 0 {
        return Err("the time must be after 1970".to_owned());
    }
    if seconds >= MILLISECONDS_MIN {
        return Err(
            "these are not seconds: 13 digits are milliseconds, 16 are microseconds; give seconds"
                .to_owned(),
        );
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_seconds_or_dates() {
        assert_eq!(parse_time("1750861210"), Ok(1_750_861_210));
        assert_eq!(parse_time("2025-06-25T14:20:10Z"), Ok(1_750_861_210));
        assert!(parse_time("yesterday").is_err());
        let error = parse_time("1795000000000").unwrap_err();
        assert!(error.contains("13 digits are milliseconds"), "{error}");
        assert_eq!(parse_time("99999999999"), Ok(99_999_999_999));
        assert!(parse_time("-1").is_err());
        assert!(parse_time("1960-01-01T00:00:00Z").is_err());
    }
}
