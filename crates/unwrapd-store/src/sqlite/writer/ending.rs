//! How the writer ends: it leaves one closed file, or it does not touch files that are no longer
//! ours.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::Writer;
use crate::error::StoreError;
use crate::sqlite::connection::keep_log;
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::files::rescue;
use crate::sqlite::writer::job::Job;

/// Interval between attempts to save content that only this process has.
const RESCUE_EVERY: Duration = Duration::from_secs(10);

impl Writer {
    /// Ends without closing the files, after everything that can be saved was saved.
    pub(super) fn abandon(mut self) {
        let loss = self.lost.take().expect("it is lost");
        let error = StoreError::Unavailable(format!("{loss}; unwrapd stops"));
        // After this nothing is queued.
        drop(self.ended.set(error.clone()));
        self.readers.abandon();
        if let Some(connection) = self.connection.take() {
            std::mem::forget(connection);
        }
        let refuse = |job: Box<dyn Job>| job.answer(Err(error.clone()));
        self.jobs.try_iter().for_each(refuse);
        self.checkpoints.close();
        loop {
            match rescue::save(&self.files, &loss) {
                Ok(advice) => {
                    tracing::error!(
                        "{loss}. unwrapd acknowledges no more webhooks, and stops without touching \
                         the files. To save acknowledged webhooks: {advice}"
                    );
                    break;
                }
                Err(problem) => tracing::error!(
                    "{loss}. Only process {pid} still has the content, and it cannot be saved: \
                     {problem}. Remove that cause, or copy the open files from /proc/{pid}/fd \
                     (Linux) and then end the process. The gateway tries to save again in {} s",
                    RESCUE_EVERY.as_secs(),
                    pid = std::process::id()
                ),
            }
            let until = Instant::now() + RESCUE_EVERY;
            loop {
                match self
                    .jobs
                    .recv_timeout(until.saturating_duration_since(Instant::now()))
                {
                    Ok(job) => refuse(job),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return self.leave(),
                }
            }
        }
        self.leave();
    }

    /// The locks last until the process ends.
    fn leave(self) {
        self.pulse.stop();
        std::mem::forget(self.files);
    }

    /// Moves the log into the database, after which SQLite removes it with the last connection, so
    /// that a stopped gateway leaves one file to move or copy. If another program reads it, the log
    /// stays, without a wait. It also stays after an error, and the next start moves it.
    pub(super) fn leave_one_file(&mut self) {
        self.readers.close();
        if let Some(connection) = self.connection.take() {
            let moved = checkpoint::run_at_once(&connection, Mode::Truncate).and_then(|moved| {
                keep_log(&connection, moved.is_busy)?;
                Ok(moved)
            });
            match moved {
                Ok(moved) if !moved.is_busy => {}
                Ok(_) => tracing::info!(
                    "another program reads the database, so its log stays beside it: {}",
                    self.files.log_path().display()
                ),
                Err(error) => {
                    tracing::debug!("the log stays beside the store: {error}");
                }
            }
            self.files.forget_log();
        }
    }
}
