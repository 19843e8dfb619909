//! Reports of the writer: log lines about failures, and whether webhooks are accepted.

use tracing::Level;

use super::Writer;
use super::failure::Failure;

impl Writer {
    /// Logs the failure, and reports that the store accepts no webhooks, unless only one change is
    /// impossible.
    pub(super) fn log_failure(&mut self, failure: &Failure) {
        let (error, effect, is_refusing) = match failure {
            Failure::OfTheStore(error) | Failure::Locked(error) => (
                error,
                ". Webhooks are answered with 503, and OpenAI retries them",
                true,
            ),
            Failure::OfAChange(error) => (error, "; the changes were undone", false),
        };
        let count = self.failures.count(&error.to_string());
        let again = match count {
            None | Some(1) => String::new(),
            Some(count) => format!(" ({count} such failures since the last line about them)"),
        };
        let path = self.files.path().display();
        let reason = format!("cannot use {path}: {error}{effect}{again}");
        let level = count.map_or(Level::DEBUG, |_| Level::ERROR);
        if is_refusing && self.refusing.is_none() {
            self.refusing = Some(level);
            self.health.refusing(level, reason);
            return;
        }
        if count.is_some() {
            tracing::error!(count, "{reason}");
        }
        if is_refusing {
            self.refusing = self.refusing.map(|logged| logged.min(level));
        }
    }

    pub(super) fn log_success(&mut self) {
        if let Some(logged) = self.refusing.take() {
            let level = logged.max(Level::INFO);
            let path = self.files.path().display();
            self.health.recovered(
                level,
                format!("{path} can be written again: webhooks are accepted"),
            );
        }
    }
}
