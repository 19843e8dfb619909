//! Logs, on stderr: stdout is for data.

mod format;
mod settings;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::printable;

pub use settings::{LogFormat, LogSettings};

/// The log of this process, to change its settings. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LogHandle {
    is_json: Arc<AtomicBool>,
}

impl LogHandle {
    /// Applies the settings to all lines from now on.
    pub fn apply(&self, settings: LogSettings) {
        let is_json = settings.format == LogFormat::Json;
        self.is_json.store(is_json, Ordering::Relaxed);
    }

    fn is_json(&self) -> bool {
        self.is_json.load(Ordering::Relaxed)
    }
}

/// Levels that may stand alone in `UNWRAPD_LOG`.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Begins to log to stderr from `level` on, in the form for people until the handle changes it.
/// `UNWRAPD_LOG` overrides `level`: another level, or a level for each module, such as
/// `warn,unwrapd=debug,hyper=debug`. The error names the problem of the variable.
pub fn start(level: &str) -> Result<LogHandle, String> {
    let wanted = std::env::var("UNWRAPD_LOG").unwrap_or_default();
    let filter = match wanted.trim() {
        "" => own(level),
        wanted if LEVELS.contains(&wanted) => own(wanted),
        wanted if wanted.contains(['=', ',']) => wanted.to_owned(),
        _ => return Err(format!("UNWRAPD_LOG must be one of {}", LEVELS.join(", "))),
    };
    let filter: Targets = filter
        .parse()
        .map_err(|error| format!("UNWRAPD_LOG: {error}"))?;
    let is_colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = LogHandle::default();
    let lines = tracing_subscriber::fmt::layer()
        .event_format(format::Lines::new(log.clone()))
        .with_writer(move || Stderr { is_colored })
        .with_ansi(is_colored)
        // The layer would print them to stderr, and panic if stderr is the cause.
        .log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(lines).with(filter);
    // In a test another one may have begun already.
    drop(subscriber.try_init());
    Ok(log)
}

/// Writes log entries to stderr, each as one line, although senders choose a part of the text.
struct Stderr {
    is_colored: bool,
}

impl io::Write for Stderr {
    /// Takes a whole line at once, as it is formatted.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let safe = if self.is_colored {
            uncolored(line)
        } else {
            printable::line(line)
        };
        let mut stderr = io::stderr().lock();
        stderr.write_all(safe.as_bytes())?;
        stderr.write_all(b"\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The line with everything escaped but the colours of the formatter, which has escaped those in
/// messages and fields itself.
fn uncolored(line: &str) -> Cow<'_, str> {
    let mut safe = String::with_capacity(line.len());
    for (place, piece) in line.split("\x1b[").enumerate() {
        let rest =
            piece.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';');
        let color = piece.len() - rest.len();
        match rest.strip_prefix('m') {
            Some(rest) if place > 0 => {
                safe.push_str("\x1b[");
                safe.push_str(&piece[..color]);
                safe.push('m');
                safe.push_str(&printable::line(rest));
            }
            _ if place > 0 => safe.push_str(&printable::line(&format!("\x1b[{piece}"))),
            _ => safe.push_str(&printable::line(piece)),
        }
    }
    Cow::Owned(safe)
}

/// Filter for lines of the gateway's crates from this level on, and for warnings of other crates.
/// The filter compares beginnings: `unwrapd` is also that of `unwrapd_store` and `unwrapd_core`.
fn own(level: &str) -> String {
    format!("warn,unwrapd={level}")
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_level_holds_for_each_crate_of_the_gateway_and_for_no_other() {
        let filter: Targets = own("info").parse().unwrap();
        for target in ["unwrapd::pipeline", "unwrapd_store::sqlite", "unwrapd_core"] {
            assert!(filter.would_enable(target, &Level::INFO), "{target}");
            assert!(!filter.would_enable(target, &Level::DEBUG), "{target}");
        }
        assert!(filter.would_enable("hyper::client", &Level::WARN));
        assert!(!filter.would_enable("hyper::client", &Level::INFO));
    }

    #[test]
    fn colours_stay_and_all_else_that_acts_on_a_terminal_is_escaped() {
        let line =
            "\x1b[2m12:00\x1b[0m \x1b[32m INFO\x1b[0m a\u{202E}b\nc\x1b[2Jd\x1b]0;e\u{E0041}";
        assert_eq!(
            uncolored(line),
            "\x1b[2m12:00\x1b[0m \x1b[32m INFO\x1b[0m a\\u{202e}b\\u{a}c\\u{1b}[2Jd\\u{1b}]0;e\\u{e0041}"
        );
    }
}
