//! Messages to a service manager, by the protocol of systemd (`sd_notify`): that the gateway is up,
//! reloads or stops, what it does, and that it is alive. Without `NOTIFY_SOCKET` they go nowhere.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::gateway::{Health, Liveness};
use crate::printable;

/// Time between two checks without a watchdog. The checks then only keep the status line true.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// Time between two checks while the gateway is not alive: it may recover before the watchdog acts.
const CHECK_AGAIN: Duration = Duration::from_millis(250);
/// Longest wait for a message to be taken. A service manager that hangs must not stop the gateway.
const SEND_MAX: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
#[derive(Clone, Default)]
pub(super) struct ServiceManager(Option<Arc<Mutex<Sending>>>);

/// The message that is being sent. No second one is begun meanwhile, so that messages keep their
/// order and wait on one thread at most.
type Sending = Option<JoinHandle<()>>;

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of_this_process() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        Self(is_there.then(Arc::default))
    }

    /// Says that the gateway receives.
    pub(super) async fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)])
            .await;
    }

    /// Says that the configuration is read again. [`ready`](Self::ready) follows.
    pub(super) async fn reloading(&self) {
        let mut states = vec![
            NotifyState::Reloading,
            NotifyState::Status("reading the configuration again"),
        ];
        // Of the clock that systemd compares with, for its `Type=notify-reload`.
        states.extend(NotifyState::monotonic_usec_now());
        self.tell(&states).await;
    }

    /// Says that the gateway stops.
    pub(super) async fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(status)])
            .await;
    }

    /// Says what the gateway does.
    pub(super) async fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)]).await;
    }

    /// Says that the gateway is alive as long as it is, and whether it receives: until the set is
    /// dropped. `receiving` is the status of a gateway that does.
    pub(super) fn watch(&self, liveness: Liveness, receiving: String) -> JoinSet<()> {
        let mut watch = JoinSet::new();
        if self.0.is_some() {
            watch.spawn(self.clone().report(liveness, receiving));
        }
        watch
    }

    async fn report(self, liveness: Liveness, receiving: String) {
        let mut ticks = interval(ping_interval().unwrap_or(CHECK_EVERY));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Health::Ready;
        loop {
            ticks.tick().await;
            let mut health = liveness.check().await;
            if health == Health::Silent {
                tracing::error!(
                    "the store does not answer, not even with an error: the service manager is not \
                     told that the gateway is alive, and may restart it"
                );
            }
            while health == Health::Silent {
                sleep(CHECK_AGAIN).await;
                health = liveness.check().await;
            }
            let mut message = vec![NotifyState::Watchdog];
            let status = match &health {
                Health::Refusing(reason) => format!("webhooks are refused: {reason}"),
                Health::Ready | Health::Silent => receiving.clone(),
            };
            if health != last {
                message.push(NotifyState::Status(&status));
            }
            self.tell(&message).await;
            last = health;
        }
    }

    /// Says that the gateway is alive while it stops, which takes at most the time that the service
    /// manager allows: until the set is dropped.
    pub(super) fn watch_end(&self) -> JoinSet<()> {
        let mut watch = JoinSet::new();
        if let (Some(_), Some(every)) = (&self.0, ping_interval()) {
            let manager = self.clone();
            watch.spawn(async move {
                let mut ticks = interval(every);
                loop {
                    ticks.tick().await;
                    manager.tell(&[NotifyState::Watchdog]).await;
                }
            });
        }
        watch
    }

    async fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(sending) = &self.0 else {
            return;
        };
        let lines: Vec<String> = states
            .iter()
            .map(|state| printable::line(&state.to_string()).into_owned())
            .collect();
        let text = lines.join("\n");
        let mut sending = sending.lock().await;
        if let Some(mut earlier) = sending.take()
            && timeout(SEND_MAX, &mut earlier).await.is_err()
        {
            *sending = Some(earlier);
            return;
        }
        // On another thread, because the queue of the service manager may be full.
        let mut begun = spawn_blocking(move || {
            if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&text)]) {
                tracing::warn!("cannot tell the service manager how the gateway is: {error}");
            }
        });
        if timeout(SEND_MAX, &mut begun).await.is_err() {
            *sending = Some(begun);
        }
    }
}

/// Time between two messages to the watchdog, if it expects them from this process: half of the
/// time after which it acts.
fn ping_interval() -> Option<Duration> {
    let acts_after = sd_notify::watchdog_enabled()?;
    Some((acts_after / 2).max(Duration::from_millis(1)))
}
