//! Shared commits. A free worker takes all waiting changes, makes one transaction of them, and
//! answers each when it is durable; meanwhile the next changes gather. A second concurrent commit
//! is made only for many changes, because most of the cost of a commit is fixed. While no commit
//! runs, a change does not wait for others, unless it is not urgent or other gateways make commits.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::error::StoreError;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::purpose::Purpose;
use crate::postgres::shared::Shared;
use crate::postgres::workers::Workers;

/// Maximum number of changes that wait for a commit. A further change gets [`StoreError::Busy`].
const QUEUE_MAX: usize = 1024;
/// Maximum number of changes in a commit. A larger number would only delay the first of them.
const BATCH_MAX: usize = 256;
/// Number of changes that justify a second commit beside the first. On two cores shared with the
/// server, half as many lower the throughput by a seventh.
const CROWD: usize = 64;
/// Batch size for changes whose callers do not wait.
pub(crate) const FULL: usize = BATCH_MAX;
/// Divisor: while no commit runs, a batch as large as the recently largest one divided by this
/// suffices. A smaller batch waits as long as more changes arrive. So callers that repeat form
/// groups that alternate: with a single group, the database would idle while they are answered.
const TURN: usize = 3;
/// Beside other gateways, the database works for them meanwhile. A batch waits until it is as large
/// as the recently largest one, but no longer than this: two gateways with commits of half the size
/// cost the database a quarter more.
const COMPANY_WAIT: Duration = Duration::from_millis(1);
/// Divisor: with each smaller commit, the remembered maximum decreases by the maximum divided by
/// this. If only the last commit counted, a batch that a few changes missed would make the next
/// ones smaller too.
const FADES: usize = 8;
/// Longest wait of a small batch for the running commit, which may hang.
const PATIENCE: Duration = Duration::from_millis(25);
/// Maximum size of a commit in bytes, except for its last change: the bytes are in memory here and
/// on the server.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Maximum number of tries in all for a commit that conflicts with another one, or whose connection
/// ends. A change may be made twice without harm.
const TRIES_MAX: u32 = 3;
/// When changes are tried one by one, the number of refusals by the server after which the rest is
/// not tried.
const REFUSALS_MAX: u32 = 2;

/// A change to the database.
#[async_trait]
pub(crate) trait Change: Send + Sync + Sized + 'static {
    /// Result of the commit for one change.
    type Outcome: Send;
    /// The answer when the change is durable.
    type Made: Send;

    /// The purpose of its connections.
    const OVER: Purpose;

    /// Number of changes that justify a second concurrent commit.
    const CROWD: usize = CROWD;

    /// How long fewer changes wait for others although no commit runs.
    const GATHERS: Duration = Duration::ZERO;

    /// Approximate size in bytes.
    fn bytes(&self) -> usize;

    /// Makes all changes in one commit, and returns their outcomes in the same order.
    async fn apply(shared: &Shared, changes: &[&Self]) -> Result<Vec<Self::Outcome>, Failure>;

    /// Gives the answer for a durable change, whether or not its caller still waits.
    fn finish(self, outcome: Self::Outcome) -> Self::Made;
}

/// The queue of waiting changes.
#[derive(Debug)]
pub(crate) struct Queue<C: Change>(mpsc::Sender<Waiting<C>>);

struct Waiting<C: Change> {
    change: C,
    answer: oneshot::Sender<Result<C::Made, StoreError>>,
}

impl<C: Change> Clone for Queue<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Change> Queue<C> {
    /// Starts the workers. They end when the last clone of the queue is dropped and all changes are
    /// made.
    pub(crate) fn start(shared: &Arc<Shared>, workers: &mut Workers) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let under_way = Arc::new(UnderWay::default());
        for _ in 0..C::OVER.connections_max() {
            let (shared, waiting) = (Arc::clone(shared), Arc::clone(&waiting));
            let under_way = Arc::clone(&under_way);
            workers.begin(async move {
                while let Some(batch) = gather(&shared, &waiting, &under_way).await {
                    apply(&shared, batch).await;
                    under_way.ends();
                }
            });
        }
        Self(queue)
    }

    /// Makes the change, and returns its answer once it is durable.
    pub(crate) async fn ask(&self, change: C) -> Result<C::Made, StoreError> {
        let (answer, made) = oneshot::channel();
        self.0
            .try_send(Waiting { change, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(_) => StoreError::closed(),
            })?;
        made.await.map_err(|_| StoreError::closed())?
    }
}

/// The running commits.
#[derive(Default)]
struct UnderWay {
    commits: AtomicUsize,
    /// The recently largest number of changes in a commit.
    lately: AtomicUsize,
    ended: Notify,
}

impl UnderWay {
    fn is_none(&self) -> bool {
        self.commits.load(Ordering::SeqCst) == 0
    }

    fn lately(&self) -> usize {
        self.lately.load(Ordering::SeqCst)
    }

    fn begins(&self, changes: usize) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let before = self.lately.load(Ordering::SeqCst);
        let faded = before - before.div_ceil(FADES);
        self.lately.store(changes.max(faded), Ordering::SeqCst);
    }

    fn ends(&self) {
        self.commits.fetch_sub(1, Ordering::SeqCst);
        self.ended.notify_one();
    }
}

/// The number of changes that suffices for a commit while none runs, and the longest wait for it.
struct Gathering {
    enough: usize,
    wait: Duration,
}

impl Gathering {
    /// The rule after commits of `lately` changes.
    fn after(lately: usize, is_alone: bool) -> Self {
        if is_alone || lately <= 1 {
            Self {
                enough: lately.div_ceil(TURN),
                wait: Duration::ZERO,
            }
        } else {
            Self {
                enough: lately.min(CROWD),
                wait: COMPANY_WAIT,
            }
        }
    }
}

/// Takes the waiting changes for the next commit, which counts as running from then on. `None`: the
/// queue was dropped.
async fn gather<C: Change>(
    shared: &Shared,
    waiting: &Mutex<mpsc::Receiver<Waiting<C>>>,
    under_way: &UnderWay,
) -> Option<Vec<Waiting<C>>> {
    let mut waiting = waiting.lock().await;
    let first = waiting.recv().await?;
    let gathering = Gathering::after(under_way.lately(), shared.membership.is_alone());
    let mut gathers = pin!(sleep(C::GATHERS.max(gathering.wait)));
    let mut patience = pin!(sleep(PATIENCE));
    let mut has_gathered = C::GATHERS.max(gathering.wait).is_zero();
    let mut looked_at = 0;
    let mut bytes = first.change.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
        let next = match waiting.try_recv() {
            Ok(next) => next,
            Err(_) if batch.len() >= C::CROWD => break,
            Err(_)
                if under_way.is_none()
                    && C::GATHERS.is_zero()
                    && batch.len() >= gathering.enough =>
            {
                break;
            }
            Err(_) if has_gathered && under_way.is_none() => {
                // Tasks that are about to add a change get the chance.
                if batch.len() == looked_at || batch.len() >= gathering.enough {
                    break;
                }
                looked_at = batch.len();
                yield_now().await;
                continue;
            }
            Err(_) => tokio::select! {
                next = waiting.recv() => match next {
                    Some(next) => next,
                    None => break,
                },
                () = under_way.ended.notified() => continue,
                () = &mut gathers, if !has_gathered => {
                    has_gathered = true;
                    continue;
                }
                () = &mut patience => break,
            },
        };
        bytes += next.change.bytes();
        batch.push(next);
    }
    under_way.begins(batch.len());
    Some(batch)
}

async fn apply<C: Change>(shared: &Shared, batch: Vec<Waiting<C>>) {
    let changes: Vec<&C> = batch.iter().map(|waiting| &waiting.change).collect();
    let outcome = apply_patiently(shared, &changes).await;
    match outcome {
        Ok(outcomes) => {
            if C::OVER == Purpose::Accepting {
                shared.pool.outage().takes();
            }
            for (Waiting { change, answer }, outcome) in batch.into_iter().zip(outcomes) {
                // The caller may have given up; the change is made anyway.
                drop(answer.send(Ok(change.finish(outcome))));
            }
        }
        // A change that cannot be made, or that conflicts with another gateway's, must not fail the
        // others.
        Err(Failure::OfAChange(_) | Failure::Crossed) if batch.len() > 1 => {
            // If the database is unreachable, or times out for each change, the rest must not wait
            // for that again.
            let mut gone: Option<Failure> = None;
            let mut refusals = 0;
            for Waiting { change, answer } in batch {
                let alone = match &gone {
                    Some(failure) => Err(failure.clone()),
                    None => apply_patiently(shared, &[&change]).await,
                };
                match &alone {
                    Err(failure @ (Failure::Lost(_) | Failure::OfTheStore(_))) => {
                        gone = Some(failure.clone());
                    }
                    Err(failure @ Failure::Refused(_)) => {
                        refusals += 1;
                        if refusals == REFUSALS_MAX {
                            gone = Some(failure.clone());
                        }
                    }
                    _ => {}
                }
                let alone = alone.and_then(|outcomes| {
                    let only = outcomes.into_iter().next();
                    only.ok_or_else(|| Failure::OfTheStore(StoreError::closed()))
                });
                let made = alone.map(|outcome| change.finish(outcome));
                drop(answer.send(made.map_err(|failure| refused::<C>(shared, failure))));
            }
        }
        Err(failure) => {
            let error = refused::<C>(shared, failure);
            for waiting in batch {
                drop(waiting.answer.send(Err(error.clone())));
            }
        }
    }
}

/// Converts a failure for the callers. The log reports refused webhooks.
fn refused<C: Change>(shared: &Shared, failure: Failure) -> StoreError {
    let error = StoreError::from(failure);
    if C::OVER == Purpose::Accepting {
        shared.pool.outage().refuses(&error);
    }
    error
}

/// Repeats a commit that conflicts, or whose connection ends. It may have taken effect, which the
/// repetition detects. A commit without an answer in time is not repeated: its callers would wait
/// as long again.
async fn apply_patiently<C: Change>(
    shared: &Shared,
    changes: &[&C],
) -> Result<Vec<C::Outcome>, Failure> {
    let mut tries = 1;
    loop {
        let began = Instant::now();
        match C::apply(shared, changes).await {
            Err(Failure::Crossed | Failure::Lost(_)) if tries < TRIES_MAX => tries += 1,
            outcome => {
                if outcome.is_ok() {
                    shared.reporter.committed(changes.len(), began.elapsed());
                }
                return outcome;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_beside_others_waits_for_the_size_of_recent_ones_which_fades() {
        let under_way = UnderWay::default();
        let enough = |changes: usize| {
            under_way.begins(changes);
            let gathering = Gathering::after(under_way.lately(), false);
            (gathering.enough, gathering.wait)
        };
        assert_eq!(enough(32), (32, COMPANY_WAIT));
        assert_eq!(enough(5), (28, COMPANY_WAIT));
        assert_eq!(enough(30), (30, COMPANY_WAIT));
        // A single caller must not wait forever.
        let commits = (1..100).find(|_| enough(1).1.is_zero());
        assert!(commits.is_some_and(|commits| commits < 30), "{commits:?}");
        assert_eq!(Gathering::after(32, true).wait, Duration::ZERO);
    }
}
