//! Logs, on stderr: stdout is for data.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Levels that may stand alone in `UNWRAPD_LOG`.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Begins to log to stderr, from `level` on. `UNWRAPD_LOG` has the last word: another level, or a filter of
/// tracing-subscriber such as `warn,unwrapd=debug,hyper=debug`. The error says what is wrong with it.
pub fn start(level: &str) -> Result<(), String> {
    let wanted = std::env::var("UNWRAPD_LOG").unwrap_or_default();
    let filter = match wanted.trim() {
        "" => own(level),
        wanted if LEVELS.contains(&wanted) => own(wanted),
        wanted if wanted.contains(['=', ',']) => wanted.to_owned(),
        _ => return Err(format!("UNWRAPD_LOG must be one of {}", LEVELS.join(", "))),
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("UNWRAPD_LOG: {error}"))?;
    let is_colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(is_colored)
        .with_env_filter(filter)
        .with_target(false)
        // It would print them to stderr, and panic where that is what fails.
        .log_internal_errors(false);
    // In a test another one may have begun already.
    drop(subscriber.try_init());
    Ok(())
}

/// What we say ourselves, from this level on; of others, only what is bad.
fn own(level: &str) -> String {
    format!("warn,unwrapd={level}")
}
