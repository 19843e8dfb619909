//! Bulk runs that the gateway carries on by itself: replays, and drops of dead letters. The store
//! has the record of each, so a run goes on after a restart, also at another gateway on the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::destinations::Registry;
use crate::printable::counted;
use crate::store::replay::{Counts, ReplayStep, Replayed, Token};
use crate::store::{BULK_RUNS_MAX, BulkAction, BulkEnd, Store, StoreError};

/// Number of deliveries changed in one commit. It takes about ten milliseconds, for which new
/// messages may wait.
pub(crate) const STEP: usize = 500;
/// First wait after a step that the store refused. It doubles with each further refusal.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait after a step that the store refused.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest pause after a step.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Interval at which a gateway of a fleet looks for runs whose gateway is gone.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pause after the store could not be asked for the runs.
const RETRY: Duration = Duration::from_secs(2);
/// Longest wait for the steps in progress when the gateway stops. A step that takes longer is
/// recorded or not; the next start finds out.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// Carries on the bulk runs of this gateway. Clones share it.
#[derive(Clone)]
pub struct BulkRunner(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    registry: Registry,
    /// Signals that a run began or ended.
    changed: Notify,
    /// Reason why a run waits, by its token.
    waiting: Mutex<BTreeMap<String, String>>,
}

/// Reason for the end of a run whose task has panicked.
const PANICKED: &str =
    "a task of the gateway ended: see its log for the cause, and report this bug";

/// The runs that have a task.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    runs: HashMap<Id, (Token, CancellationToken)>,
}

impl BulkRunner {
    /// A runner of the runs in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock, registry: Registry) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            registry,
            changed: Notify::new(),
            waiting: Mutex::default(),
        }))
    }

    /// Looks at the store again, because a run began or ended.
    pub(crate) fn notify(&self) {
        self.0.changed.notify_one();
    }

    /// Reason why a run waits at this gateway.
    pub(crate) fn waits_for(&self, token: &Token) -> Option<String> {
        self.waiting().get(token.as_str()).cloned()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries on the runs until shutdown, and then waits for their steps in progress.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut running = Running::default();
        while let Some(pause) = self.look(&mut running, &shutdown).await {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.changed.notified() => {}
                Some(ended) = running.tasks.join_next_with_id() => {
                    let (id, is_panic) = match ended {
                        Ok((id, ())) => (id, false),
                        Err(error) => (error.id(), error.is_panic()),
                    };
                    let run = running.runs.remove(&id).filter(|_| is_panic);
                    if let Some((token, _)) = run {
                        // Otherwise the run would panic again and again.
                        let failed = self.fail(&token, PANICKED);
                        shutdown.run_until_cancelled(failed).await;
                    }
                }
                () = sleep(pause) => {}
            }
        }
        let ended = async { while running.tasks.join_next().await.is_some() {} };
        drop(timeout(STOP_TIME_MAX, ended).await);
    }

    /// Begins the runs that have no task yet, and ends the tasks of those that are over. Returns
    /// the time until the next look; `None`: the gateway stops.
    async fn look(&self, running: &mut Running, shutdown: &CancellationToken) -> Option<Duration> {
        let taken = self.0.store.take_bulk_runs();
        let taken = match shutdown.run_until_cancelled(taken).await? {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!("cannot read the bulk runs: {error}");
                return Some(RETRY);
            }
        };
        for (token, stop) in running.runs.values() {
            if taken.iter().all(|(taken, _)| taken != token) {
                stop.cancel();
            }
        }
        for (token, action) in taken {
            let has_task = running.runs.values().any(|(known, _)| *known == token);
            if !has_task && running.runs.len() < BULK_RUNS_MAX {
                let stop = shutdown.child_token();
                let task = self.clone().carry_on(token.clone(), action, stop.clone());
                let task = running.tasks.spawn(task);
                running.runs.insert(task.id(), (token, stop));
            }
        }
        // No other process begins a run in a store that is not shared.
        let is_shared = self.0.store.fleet().is_some();
        Some(if is_shared { LOOK_EVERY } else { Duration::MAX })
    }

    /// Ends a run that cannot go on. Returns once the end is recorded.
    async fn fail(&self, token: &Token, reason: &str) {
        tracing::warn!(token = token.as_str(), "the bulk run failed: {reason}");
        let end = BulkEnd::Failed(reason.to_owned());
        loop {
            let now = self.0.clock.stamp();
            if self.0.store.end_bulk_run(token, &end, now).await.is_ok() {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Takes the steps of a run until it has ended, or until `stop`.
    async fn carry_on(self, token: Token, action: BulkAction, stop: CancellationToken) {
        let mut wait = WAIT_MIN;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let now = self.0.clock.moment_due();
            let pause = match self.0.store.bulk_step(&token, STEP, now).await {
                Ok(Some(ReplayStep::More(replayed))) => {
                    self.wake(&replayed);
                    self.waiting().remove(token.as_str());
                    wait = WAIT_MIN;
                    // As long as the step, so that a busy store gets fewer of them.
                    began.elapsed().min(PAUSE_MAX)
                }
                Ok(Some(ReplayStep::Done(replayed))) => {
                    self.wake(&replayed);
                    log_done(&token, action, replayed.counts);
                    break;
                }
                // An operator ended it, or its record is gone.
                Ok(Some(ReplayStep::Ended(_) | ReplayStep::AnotherReplay) | None) => break,
                Err(StoreError::Unusable(reason)) => {
                    let failed = self.fail(&token, &reason);
                    stop.run_until_cancelled(failed).await;
                    break;
                }
                Err(error) => {
                    self.note_wait(&token, &error);
                    let pause = wait;
                    wait = (wait * 2).min(WAIT_MAX);
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
        self.waiting().remove(token.as_str());
    }

    /// Wakes the lanes whose deliveries are due.
    fn wake(&self, replayed: &Replayed) {
        for (destination, lane) in &replayed.due {
            self.0.registry.notify(destination, *lane);
        }
    }

    /// Records why a run waits, and logs it once.
    fn note_wait(&self, token: &Token, error: &StoreError) {
        let reason = error.to_string();
        let before = self.waiting().insert(token.as_str().to_owned(), reason);
        if before.is_none() {
            let token = token.as_str();
            tracing::warn!(token, "the bulk run waits and goes on by itself: {error}");
        }
    }
}

/// Logs what a replay or a drop has done.
pub(crate) fn log_done(token: &Token, action: BulkAction, counts: Counts) {
    let token = token.as_str();
    match action {
        BulkAction::Replay => tracing::info!(
            token,
            "replayed: {} of {}; {} more were waiting already and are due now",
            counted(counts.deliveries, "delivery", "deliveries"),
            counted(counts.messages, "message", "messages"),
            counts.waiting
        ),
        BulkAction::Drop => tracing::info!(
            token,
            "dropped {}",
            counted(counts.deliveries, "dead letter", "dead letters")
        ),
    }
}
