//! Many changes in one commit. Whoever is free takes everything that waits, makes one transaction
//! of it and answers each when that is durable; meanwhile others gather. A second commit beside it
//! is made of many only: most of what a commit costs is the same for few. While none is made nobody
//! waits to gather more, unless there is no hurry, or other gateways make commits meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::StoreError;
use crate::postgres::Alive;
use crate::postgres::Shared;
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::pool::Purpose;

/// Most changes that wait for a commit; what comes on top is [`StoreError::Busy`].
const QUEUE_MAX: usize = 1024;
/// Most changes in one commit. More would only make the first of them wait.
const BATCH_MAX: usize = 256;
/// Number of changes that justify a second commit beside the first. On two cores shared with the
/// server, half as many lower the throughput by a seventh.
const CROWD: usize = 64;
/// Number of changes in one commit where nobody waits.
pub(crate) const FULL: usize = BATCH_MAX;
/// While none is made, this part of the largest of the last commits is enough for the next; fewer
/// wait as long as each look brings more. It keeps those who ask again when they are answered in
/// groups that take turns: all in one, nobody works at the database while they are answered.
const TURN: usize = 3;
/// Beside other gateways it is they whose turn it is meanwhile. So many as were in the largest of
/// the last commits are waited for, but no longer than this: two gateways that each make commits of
/// half the size ask a quarter more of the database.
const COMPANY_WAIT: Duration = Duration::from_millis(1);
/// With each commit that is smaller this part of the largest is forgotten. Were only the last one
/// remembered, one that a few came too late for would make the next ones smaller as well.
const FADES: usize = 8;
/// How long fewer than a crowd wait for the commit under way. That one may hang.
const PATIENCE: Duration = Duration::from_millis(25);
/// Most bytes in one commit, but for the last change of it: they are in memory here and there.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a commit is tried that another one crosses, or that a connection ends under. Each
/// change may be made twice without harm.
const TRIES_MAX: u32 = 3;
/// How many changes of a batch that are tried apart the server may refuse to work on before the rest is not tried.
const REFUSALS_MAX: u32 = 2;

/// Something to be written.
#[async_trait]
pub(crate) trait Change: Send + Sync + Sized + 'static {
    /// Result of the commit for one change.
    type Outcome: Send;
    /// Answer when the change is durable.
    type Made: Send;

    /// The connections that it uses.
    const OVER: Purpose;

    /// How many wait for no more,
    const CROWD: usize = CROWD;

    /// and how long fewer may wait for others although nothing is being made.
    const GATHERS: Duration = Duration::ZERO;

    /// About how large it is.
    fn bytes(&self) -> usize;

    /// Makes all of them in one commit, and gives what came of each, in their order.
    async fn apply(shared: &Shared, changes: &[&Self]) -> Result<Vec<Self::Outcome>, Failure>;

    /// Gives the answer for a durable change, whether or not its caller still waits.
    fn finish(self, outcome: Self::Outcome) -> Self::Made;
}

/// Where changes wait.
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
    /// Starts those who make them. They end when the last copy of this is gone and everything is done.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        has_ended: &Arc<watch::Sender<bool>>,
        workers: &mut JoinSet<()>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let under_way = Arc::new(UnderWay::default());
        for _ in 0..C::OVER.connections_max() {
            let (shared, waiting) = (Arc::clone(shared), Arc::clone(&waiting));
            let under_way = Arc::clone(&under_way);
            let alive = Alive(Arc::clone(has_ended));
            workers.spawn(async move {
                while let Some(batch) = gather(&shared, &waiting, &under_way).await {
                    apply(&shared, batch).await;
                    under_way.ends();
                }
                drop(alive);
            });
        }
        Self(queue)
    }

    /// Has it made, and gives what came of it once that is durable.
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

/// Commits that are being made.
#[derive(Default)]
struct UnderWay {
    commits: AtomicUsize,
    /// The most changes that one had lately.
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

/// How many are enough for a commit while none is made, and how long to wait for them.
struct Gathering {
    enough: usize,
    wait: Duration,
}

impl Gathering {
    /// After commits of so many.
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

/// Takes the waiting changes for one more commit, which is under way from here on. `None`: no
/// change will come any more.
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
                // Whoever is about to ask comes along.
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
                // Who asked may have gone away meanwhile; the change stands all the same.
                drop(answer.send(Ok(change.finish(outcome))));
            }
        }
        // One change that cannot be made is no reason to refuse the others, nor is one that others
        // make at the same time.
        Err(Failure::OfAChange(_) | Failure::Crossed) if batch.len() > 1 => {
            // With the database away, or one that takes too long for each, all of them would wait for that anew.
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

/// The error for the callers. The log says that webhooks are refused.
fn refused<C: Change>(shared: &Shared, failure: Failure) -> StoreError {
    let error = StoreError::from(failure);
    if C::OVER == Purpose::Accepting {
        shared.pool.outage().refuses(&error);
    }
    error
}

/// Repeats a commit whose answer was lost: it may have taken effect, and the repetition finds that.
async fn apply_patiently<C: Change>(
    shared: &Shared,
    changes: &[&C],
) -> Result<Vec<C::Outcome>, Failure> {
    let mut tries = 1;
    loop {
        match C::apply(shared, changes).await {
            Err(Failure::Crossed | Failure::Lost(_)) if tries < TRIES_MAX => tries += 1,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_others_the_largest_of_the_last_commits_is_waited_for_and_fades() {
        let under_way = UnderWay::default();
        let enough = |changes: usize| {
            under_way.begins(changes);
            let gathering = Gathering::after(under_way.lately(), false);
            (gathering.enough, gathering.wait)
        };
        assert_eq!(enough(32), (32, COMPANY_WAIT));
        assert_eq!(enough(5), (28, COMPANY_WAIT));
        assert_eq!(enough(30), (30, COMPANY_WAIT));
        // Who asks alone is not made to wait for ever.
        let commits = (1..100).find(|_| enough(1).1.is_zero());
        assert!(commits.is_some_and(|commits| commits < 30), "{commits:?}");
        assert_eq!(Gathering::after(32, true).wait, Duration::ZERO);
    }
}
