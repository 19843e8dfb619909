//! The project at OpenAI that the mock plays: its objects, and the schedule of what happens next.

use std::collections::BTreeMap;

use tokio::sync::broadcast;

use crate::agents::environments::Environment;
use crate::agents::session::Session;
use crate::batches::Batch;
use crate::calls::Call;
use crate::clock::Moment;
use crate::collection::Collection;
use crate::deliveries::{Delivery, DueAttempt};
use crate::files::File;
use crate::report::Report;
use crate::responses::StoredResponse;
use crate::rules::Rules;
use crate::settings::Settings;
use crate::webhook_endpoints::Endpoint;

const MIB: usize = 1024 * 1024;

pub(crate) struct Project {
    /// The time of what happens at present: that of a request, or the planned time of a step.
    pub(crate) now: Moment,
    pub(crate) settings: Settings,
    /// The URL below which the API is.
    pub(crate) base_url: String,
    pub(crate) rules: Rules,
    pub(crate) responses: Collection<StoredResponse>,
    pub(crate) files: Collection<File>,
    pub(crate) batches: Collection<Batch>,
    pub(crate) calls: Collection<Call>,
    pub(crate) sessions: Collection<Session>,
    pub(crate) environments: Collection<Environment>,
    pub(crate) endpoints: Collection<Endpoint>,
    pub(crate) deliveries: Collection<Delivery>,
    /// Number of webhooks that were delivered.
    pub(crate) delivered: u64,
    /// Attempts that are due and not begun.
    pub(crate) due: Vec<DueAttempt>,
    schedule: BTreeMap<(Moment, u64), Step>,
    steps: u64,
    reports: broadcast::Sender<Report>,
}

/// The next step of an object.
struct Step {
    id: String,
    run: fn(&mut Project, &str),
}

impl Project {
    pub(crate) fn new(
        now: Moment,
        settings: Settings,
        base_url: String,
        reports: broadcast::Sender<Report>,
    ) -> Self {
        Self {
            now,
            settings,
            base_url,
            rules: Rules::default(),
            responses: Collection::new(10_000, 64 * MIB),
            files: Collection::new(10_000, crate::files::BYTES_MAX),
            batches: Collection::new(1_000, 16 * MIB),
            calls: Collection::new(1_000, 16 * MIB),
            sessions: Collection::new(1_000, 16 * MIB),
            environments: Collection::new(1_000, 16 * MIB),
            endpoints: Collection::new(crate::webhook_endpoints::COUNT_MAX, 16 * MIB),
            deliveries: Collection::new(10_000, 64 * MIB),
            delivered: 0,
            due: Vec::new(),
            schedule: BTreeMap::new(),
            steps: 0,
            reports,
        }
    }

    /// Plans the next step of an object. Steps of the same time run in the order of their planning.
    pub(crate) fn plan(&mut self, at: Moment, id: &str, run: fn(&mut Self, &str)) {
        let id = id.to_owned();
        self.schedule.insert((at, self.steps), Step { id, run });
        self.steps += 1;
    }

    /// Cancels the steps of these objects.
    pub(crate) fn cancel_steps(&mut self, ids: &[String]) {
        if !ids.is_empty() {
            self.schedule.retain(|_, step| !ids.contains(&step.id));
        }
    }

    /// Runs all steps up to `now`, each at its planned time.
    pub(crate) fn catch_up(&mut self, now: Moment) {
        while let Some(step) = self.schedule.first_entry()
            && step.key().0 <= now
        {
            let ((at, _), step) = step.remove_entry();
            self.now = at;
            (step.run)(self, &step.id);
        }
        self.now = now;
    }

    /// The time of the next step.
    pub(crate) fn next_step(&self) -> Option<Moment> {
        self.schedule.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn report(&self, report: Report) {
        // There may be no subscriber.
        drop(self.reports.send(report));
    }
}
