//! The project with its clock: runs the planned steps, and sends webhooks.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::deliveries;
use crate::files::UPLOADS_MAX;
use crate::project::Project;
use crate::report::Report;
use crate::sender::Sender;
use crate::settings::Settings;

/// Most reports that wait for a subscriber. A slower one loses the oldest.
const REPORTS_MAX: usize = 4096;

pub(crate) struct Engine {
    pub(crate) clock: Clock,
    pub(crate) sender: Sender,
    pub(crate) uploads: Semaphore,
    project: Mutex<Project>,
    /// Wakes [`Engine::run`] after each use of the project, which may have planned something.
    used: Notify,
    reports: broadcast::Sender<Report>,
}

impl Engine {
    pub(crate) fn new(settings: Settings, base_url: String) -> reqwest::Result<Arc<Self>> {
        let clock = Clock::start(settings.speed);
        let sender = Sender::new(settings.answer_timeout)?;
        let reports = broadcast::Sender::new(REPORTS_MAX);
        let project = Project::new(clock.now(), settings, base_url, reports.clone());
        Ok(Arc::new(Self {
            clock,
            sender,
            uploads: Semaphore::new(UPLOADS_MAX),
            project: Mutex::new(project),
            used: Notify::new(),
            reports,
        }))
    }

    /// The project as of now: whatever was planned up to this moment has happened.
    pub(crate) fn project(&self) -> InUse<'_> {
        InUse {
            project: self.caught_up(),
            used: &self.used,
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Report> {
        self.reports.subscribe()
    }

    /// Runs each step when it is due, without end.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut sends = JoinSet::new();
        loop {
            let (due, next) = {
                let mut project = self.caught_up();
                (std::mem::take(&mut project.due), project.next_step())
            };
            for attempt in due {
                sends.spawn(deliveries::make_attempt(Arc::clone(&self), attempt));
            }
            while sends.try_join_next().is_some() {}
            let step = async {
                match next.and_then(|next| self.clock.real_time_until(next)) {
                    Some(time) => sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = step => {}
                () = self.used.notified() => {}
            }
        }
    }

    fn caught_up(&self) -> MutexGuard<'_, Project> {
        let mut project = self.project.lock().unwrap_or_else(PoisonError::into_inner);
        project.catch_up(self.clock.now());
        project
    }
}

/// The project while it is used.
pub(crate) struct InUse<'e> {
    project: MutexGuard<'e, Project>,
    used: &'e Notify,
}

impl Deref for InUse<'_> {
    type Target = Project;

    fn deref(&self) -> &Project {
        &self.project
    }
}

impl DerefMut for InUse<'_> {
    fn deref_mut(&mut self) -> &mut Project {
        &mut self.project
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.used.notify_one();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
