//! A schedule: the sequence of its events, and the checks at its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use unwrapd::clock::Clock;
use unwrapd::delivery::Lane;
use unwrapd::delivery::limits::Limits;
use unwrapd::destinations::{Gate, Registry};
use unwrapd::dispatch::LaneContext;
use unwrapd::message::{Message, Origin};
use unwrapd::observe::warnings::Warnings;
use unwrapd::pipeline_events::EventBus;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Bounds, Inbox as _, Maintenance, Recipient, StoreReporter, waiting};

use crate::ledger::Ledger;
use crate::memory_store::{Disk, MemoryStore, Modelled};
use crate::script::{Mood, Scripted};
use crate::store::Troubled;

/// Longest time for everything to come to an end once the faults have stopped: the longest wait of
/// a policy, however far the clock has jumped, and the breakers.
const CALM_MAX: Duration = Duration::from_secs(3600 + 600);
/// Interval at which the process stores the trusted time, as a gateway does.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);
/// Longest wait of a new message for a healthy destination: a claim, a timer and a slow store.
const PROMPT: Duration = Duration::from_millis(500);

/// Where messages survive a crash.
pub(crate) enum Place {
    Memory(Disk),
    Sqlite(TempDir),
}

/// The bytes of a message, different for each.
pub(crate) fn payload(id: &str) -> Bytes {
    format!("{{\"id\":\"{id}\"}}").into()
}

struct World {
    rng: Rng,
    clock: Clock,
    /// The shift of the clock, in milliseconds.
    off: i64,
    remembered_at: Instant,
    place: Place,
    ledger: Arc<Ledger>,
    destinations: Vec<Known>,
    process: Option<Process>,
    sent: Vec<(Message, Vec<String>)>,
    trouble: Arc<Mutex<u32>>,
}

/// A destination of the schedule.
struct Known {
    name: String,
    mood: Arc<Mutex<Mood>>,
    limits: watch::Sender<Limits>,
    is_paused: bool,
}

/// The state that a crash ends.
struct Process {
    store: Arc<Troubled>,
    /// The store in `store`, if it prunes.
    prunable: Option<Arc<dyn Maintenance>>,
    registry: Registry,
    dispatchers: JoinSet<()>,
    shutdown: CancellationToken,
}

/// Runs one schedule from its beginning to its end.
pub(crate) async fn live(seed: u64, place: Place, is_told: bool) -> Result<u64, String> {
    let mut rng = Rng::with_seed(seed);
    let clock = Clock::simulated(Timestamp::from_second(1_750_000_000).unwrap());
    let ledger = Ledger::new(clock.clone(), is_told);
    let mut world = World {
        destinations: Vec::new(),
        process: None,
        sent: Vec::new(),
        trouble: Arc::default(),
        clock,
        off: 0,
        remembered_at: Instant::now(),
        place,
        ledger,
        rng: rng.fork(),
    };
    for name in ["a", "b", "c"] {
        let limits = world.limits(None);
        world.ledger.limited(name, &limits);
        world.destinations.push(Known {
            name: name.into(),
            mood: Arc::new(Mutex::new(Mood::Good)),
            limits: watch::Sender::new(limits),
            is_paused: false,
        });
    }
    world.start().await;
    // Some schedules have no faults, so nothing in them may happen twice.
    let is_quiet = rng.u32(0..4) == 0;
    for _ in 0..rng.u32(10..50) {
        world.step(is_quiet).await;
        world.quiesce().await;
        world.keep_time().await;
        world.look_over().await?;
    }
    world.calm_down().await?;
    world.ledger.verdict()
}

impl World {
    async fn step(&mut self, is_quiet: bool) {
        let wait = match self.rng.u32(0..10) {
            0..4 => 0,
            4..8 => self.rng.u64(0..200),
            8 => self.rng.u64(0..3_000),
            _ => self.rng.u64(0..60_000),
        };
        sleep(Duration::from_millis(wait)).await;
        self.quiesce().await;
        match self.rng.u32(0..if is_quiet { 80 } else { 100 }) {
            0..35 => self.post().await,
            35..40 => {
                for _ in 0..self.rng.u32(2..20) {
                    self.post().await;
                }
            }
            40..45 => self.post_again().await,
            45..60 => self.change_mood(),
            60..68 => self.switch().await,
            68..78 => self.change_limits(),
            78..80 => self.restart().await,
            80..87 => self.crash().await,
            87..94 => self.jump(),
            _ => self.change_trouble(),
        }
    }

    async fn post(&mut self) {
        let now = self.clock.now();
        let id = format!("wh_{}", self.sent.len());
        let event_type = match self.rng.u32(0..5) {
            0 => "realtime.call.incoming",
            1 => "live.call.incoming",
            _ => "batch.completed",
        };
        let message = Message {
            origin: Origin::OpenAi,
            endpoint: "production".into(),
            payload: payload(&id),
            webhook_id: id,
            event_type: Some(event_type.into()),
            sent_at: now,
            received_at: self.clock.stamp(),
            secret: Some(0),
        };
        let mut names: Vec<String> = self.destinations.iter().map(|it| it.name.clone()).collect();
        names.retain(|_| self.rng.u32(0..3) > 0);
        if names.is_empty() {
            names.push("a".into());
        }
        self.sent.push((message.clone(), names.clone()));
        self.receive(message, names).await;
    }

    async fn post_again(&mut self) {
        if let Some((mut message, names)) = self.rng.choice(&self.sent).cloned() {
            message.received_at = self.clock.stamp();
            self.receive(message, names).await;
        }
    }

    /// Receives as the intake does: without a hand-off, the lane is woken once the message is
    /// durable.
    async fn receive(&mut self, message: Message, names: Vec<String>) {
        let lane = Lane::of(message.event_type.as_deref());
        let id = message.webhook_id.clone();
        let process = self.process.as_ref().unwrap();
        let now = self.clock.now();
        let recipients: Vec<Recipient> = names
            .iter()
            .map(|name| Recipient {
                reservation: process.registry.of(name).reserve(lane, now),
                destination: name.clone(),
                due_at: Some(now),
            })
            .collect();
        let to_notify = recipients.iter().filter(|to| to.reservation.is_none());
        let to_notify: Vec<String> = to_notify.map(|to| to.destination.clone()).collect();
        let accepted = process.store.accept(message, recipients).await;
        self.ledger
            .note(|| format!("{id} arrives for {names:?}: {accepted:?}"));
        if accepted.is_ok() {
            for name in to_notify {
                process.registry.notify(&name, lane);
            }
        }
    }

    fn any(&mut self) -> usize {
        self.rng.usize(0..self.destinations.len())
    }

    fn change_mood(&mut self) {
        let which = self.any();
        let mood = *self.rng.choice(&Mood::ALL).unwrap();
        let known = &self.destinations[which];
        self.ledger.note(|| format!("{} is {mood:?}", known.name));
        *known.mood.lock().unwrap() = mood;
    }

    /// Pauses or resumes as the admin port does.
    async fn switch(&mut self) {
        let which = self.any();
        let is_paused = !self.destinations[which].is_paused;
        self.set_paused(which, is_paused).await;
    }

    async fn set_paused(&mut self, which: usize, is_paused: bool) {
        let known = &mut self.destinations[which];
        let process = self.process.as_ref().unwrap();
        let store = &process.store;
        let recorded = if is_paused {
            store.inner.pause(&known.name, self.clock.now())
        } else {
            store.inner.resume(&known.name)
        };
        store.real(recorded).await.unwrap();
        known.is_paused = is_paused;
        self.ledger
            .note(|| format!("{} is paused: {is_paused}", known.name));
        self.ledger.paused(&known.name, is_paused);
        process.registry.of(&known.name).set_paused(is_paused);
    }

    /// Changes only limits that end no delivery, so that the ledger can tell what is right.
    fn limits(&mut self, of: Option<&Limits>) -> Limits {
        let rng = &mut self.rng;
        let mut limits = of.cloned().unwrap_or_else(|| {
            let mut limits = Limits::default();
            limits.retry.first = Duration::from_millis(rng.u64(1..3_000));
            limits.retry.max = limits.retry.first.max(Duration::from_secs(rng.u64(1..120)));
            limits.retry.give_up_after = Duration::from_secs(rng.u64(600..10_000));
            limits.retry.attempts_max = rng.bool().then(|| rng.u32(1..20));
            limits
        });
        limits.concurrency = if rng.bool() {
            rng.usize(1..4)
        } else {
            rng.usize(1..40)
        };
        limits.rate = (rng.u32(0..3) == 0).then(|| rng.u32(1..100));
        limits.timeout = Duration::from_millis(rng.u64(100..20_000));
        limits
    }

    fn change_limits(&mut self) {
        let which = self.any();
        let current = self.destinations[which].limits.borrow().clone();
        let limits = self.limits(Some(&current));
        let known = &self.destinations[which];
        self.ledger
            .note(|| format!("{} may be pressed so: {limits:?}", known.name));
        self.ledger.limited(&known.name, &limits);
        known.limits.send_replace(limits);
    }

    /// Jumps by seconds or years, and sometimes sets the clock right again.
    fn jump(&mut self) {
        let milliseconds = if self.off != 0 && self.rng.bool() {
            -self.off
        } else {
            // From one second to three hundred million.
            let size = 1000.0 * 10f64.powf(self.rng.f64() * 8.5);
            #[allow(clippy::cast_possible_truncation, reason = "below ten years")]
            let size = size as i64;
            if self.rng.bool() { size } else { -size }
        };
        self.off += milliseconds;
        self.ledger
            .note(|| format!("the clock jumps by {milliseconds} ms"));
        let moved = self.ledger.moved();
        self.clock.shift(milliseconds);
        self.ledger.jumped(milliseconds, moved);
    }

    /// Does what a gateway does besides deliveries: stores the time, and prunes. Nothing is old in
    /// any schedule.
    async fn keep_time(&mut self) {
        let Process {
            store, prunable, ..
        } = self.process.as_ref().unwrap();
        if self.remembered_at.elapsed() >= REMEMBER_EVERY {
            self.remembered_at = Instant::now();
            let trusted = self.clock.trusted();
            store.real(store.inner.remember(trusted)).await.unwrap();
        }
        if let Some(prunable) = prunable {
            let step = async || store.real(prunable.prune(self.clock.believed())).await;
            while step().await.unwrap().is_more {}
        }
    }

    fn change_trouble(&mut self) {
        let percent = if self.rng.bool() {
            0
        } else {
            self.rng.u32(1..60)
        };
        self.ledger
            .note(|| format!("of 100 calls of the store {percent} fail"));
        self.ledger.may_repeat();
        *self.trouble.lock().unwrap() = percent;
    }

    async fn start(&mut self) {
        let (inner, prunable): (Arc<dyn Modelled>, Option<Arc<dyn Maintenance>>) = match &self.place
        {
            Place::Memory(disk) => (Arc::new(MemoryStore::open_by(disk, &self.clock)), None),
            Place::Sqlite(folder) => {
                let path = folder.path().join("store.db");
                let (warnings, health) = (Warnings::default(), StoreReporter::default());
                let bounds = Bounds::default();
                let store = SqliteStore::open_with(&path, &bounds, &self.clock, &warnings, &health);
                let store = Arc::new(store.unwrap());
                (store.clone(), Some(store))
            }
        };
        let store = Arc::new(Troubled {
            inner,
            has_threads: prunable.is_some(),
            rng: Mutex::new(self.rng.fork()),
            trouble: Arc::clone(&self.trouble),
            ledger: Arc::clone(&self.ledger),
        });
        let trusted = self.clock.trusted();
        store.real(store.inner.remember(trusted)).await.unwrap();
        let paused = store.real(store.inner.paused()).await.unwrap();
        let registry = Registry::default();
        let shutdown = CancellationToken::new();
        let mut dispatchers = JoinSet::new();
        let events = EventBus::default();
        for known in &self.destinations {
            let is_paused = paused.iter().any(|(name, _)| *name == known.name);
            assert_eq!(is_paused, known.is_paused);
            let handle = registry.of(&known.name);
            handle.set_paused(is_paused);
            let gate = Arc::new(Gate::new(Arc::clone(&handle)));
            let destination = Arc::new(Scripted {
                name: known.name.clone(),
                mood: Arc::clone(&known.mood),
                rng: Mutex::new(self.rng.fork()),
                ledger: Arc::clone(&self.ledger),
            });
            for lane in Lane::ALL {
                let dispatcher = LaneContext {
                    handle: Arc::clone(&handle),
                    lane,
                    destination: destination.clone(),
                    limits: known.limits.subscribe(),
                    gate: Arc::clone(&gate),
                    store: store.clone(),
                    handoff: handle.take_over(lane),
                    events: events.clone(),
                    clock: self.clock.clone(),
                };
                dispatchers.spawn(dispatcher.run(shutdown.clone()));
            }
        }
        self.process = Some(Process {
            store,
            prunable,
            registry,
            dispatchers,
            shutdown,
        });
    }

    async fn crash(&mut self) {
        self.ledger.note(|| "it crashes".into());
        self.ledger.may_repeat();
        let mut process = self.process.take().unwrap();
        process.dispatchers.shutdown().await;
        self.wait_for_the_end_of(process).await;
        self.start().await;
    }

    async fn restart(&mut self) {
        self.ledger.note(|| "it is restarted".into());
        let mut process = self.process.take().unwrap();
        process.shutdown.cancel();
        while let Some(ended) = process.dispatchers.join_next().await {
            ended.unwrap();
        }
        if self.ledger.under_way() > 0 {
            let what = "the dispatchers ended before their attempts";
            self.ledger.breaks_promise(what.into());
        }
        let store = &process.store;
        let trusted = self.clock.trusted();
        store.real(store.inner.remember(trusted)).await.unwrap();
        store.real(store.inner.close()).await;
        self.wait_for_the_end_of(process).await;
        self.start().await;
    }

    /// Aborted tasks hold the store until they are polled.
    async fn wait_for_the_end_of(&mut self, process: Process) {
        while Arc::strong_count(&process.store) > 1 {
            tokio::task::yield_now().await;
        }
        drop(process);
        self.clock = self.clock.restarted();
        self.ledger.restarted(self.clock.clone());
    }

    /// Runs everything that can run at this time.
    async fn quiesce(&self) {
        for _ in 0..12 {
            tokio::task::yield_now().await;
        }
    }

    async fn look_over(&mut self) -> Result<(), String> {
        let process = self.process.as_mut().unwrap();
        if process.dispatchers.try_join_next().is_some() {
            return Err("a dispatcher ended".into());
        }
        let store = &process.store;
        let tally = store.real(store.inner.tally()).await;
        self.ledger.compare(tally);
        self.ledger.verdict().map(drop)
    }

    async fn calm_down(&mut self) -> Result<(), String> {
        self.ledger.note(|| "all calms down".into());
        *self.trouble.lock().unwrap() = 0;
        for which in 0..self.destinations.len() {
            self.set_paused(which, false).await;
            *self.destinations[which].mood.lock().unwrap() = Mood::Good;
        }
        // Sometimes one of them hangs, which must delay nothing else.
        let hung = self.rng.bool().then(|| self.any());
        if let Some(hung) = hung {
            *self.destinations[hung].mood.lock().unwrap() = Mood::Hung;
            self.drain(Some(hung)).await?;
            *self.destinations[hung].mood.lock().unwrap() = Mood::Good;
        }
        self.drain(None).await?;
        // By then the breakers are ready to try again, and nothing is left to do.
        sleep(Duration::from_secs(61)).await;
        self.ledger.take_looks();
        sleep(Duration::from_secs(600)).await;
        for (lane, looks) in self.ledger.take_looks() {
            if looks > 12 {
                return Err(format!(
                    "{lane:?} looked {looks} times for nothing in ten minutes"
                ));
            }
        }
        for event_type in ["batch.completed", "realtime.call.incoming"] {
            self.post_to_all(event_type).await?;
        }
        let process = self.process.as_ref().unwrap();
        let store = &process.store;
        let tally = store.real(store.inner.tally()).await;
        self.ledger.close(tally);
        Ok(())
    }

    /// A message that arrives while everything is healthy is delivered at once.
    async fn post_to_all(&mut self, event_type: &str) -> Result<(), String> {
        self.post().await;
        let (mut message, _) = self.sent.last().cloned().unwrap();
        message.webhook_id = format!("wh_last_{event_type}");
        message.payload = payload(&message.webhook_id);
        message.event_type = Some(event_type.into());
        let id = message.webhook_id.clone();
        let names: Vec<String> = self.destinations.iter().map(|it| it.name.clone()).collect();
        self.receive(message, names.clone()).await;
        sleep(PROMPT + Duration::from_secs(2)).await;
        for name in names {
            if !self.ledger.is_delivered(&name, &id) {
                return Err(format!("{name} waits for {id}, and nothing is in the way"));
            }
        }
        self.look_over().await
    }

    /// Waits until no delivery waits, at the hanging destination or elsewhere.
    async fn drain(&mut self, except: Option<usize>) -> Result<(), String> {
        let except = except.map(|which| self.destinations[which].name.clone());
        let begun_at = Instant::now();
        loop {
            self.look_over().await?;
            let process = self.process.as_ref().unwrap();
            let store = &process.store;
            let mut backlog = store.real(waiting(&*store.inner)).await.unwrap();
            backlog.retain(|(name, _)| Some(name) != except.as_ref());
            if backlog.is_empty() {
                return Ok(());
            }
            if begun_at.elapsed() > CALM_MAX {
                return Err(format!(
                    "deliveries wait for ever: {backlog:?}, hung: {except:?}"
                ));
            }
            sleep(Duration::from_secs(10)).await;
        }
    }
}
