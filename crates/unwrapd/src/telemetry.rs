//! Logs, on stderr: stdout is for data.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged unless `UNWRAPD_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,unwrapd=info";

/// Begins to log to stderr. `UNWRAPD_LOG` takes a level or a filter such as `unwrapd=debug`.
pub fn start(default_filter: Option<&str>) {
    let filter = EnvFilter::try_from_env("UNWRAPD_LOG")
        .unwrap_or_else(|_| EnvFilter::new(default_filter.unwrap_or(DEFAULT_FILTER)));
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
}
