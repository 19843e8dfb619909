//! Watches the clock: says when it is in doubt, and has the store remember what time it is.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, sleep};

use crate::clock::{Clock, DOUBT_LASTS, Doubt};
use crate::observe::warnings::Warnings;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the store remembers the time, for the next process to hold its clock against.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// The kind of the warning.
const KIND: &str = "clock";

/// Goes on until shutdown. A failing store does not end it.
pub(super) async fn run(
    clock: Clock,
    store: Arc<dyn Store>,
    warnings: Warnings,
    mut shutdown: Shutdown,
) {
    let mut remember_at = Instant::now();
    loop {
        tell(&clock, &warnings);
        if Instant::now() >= remember_at {
            remember_at = Instant::now() + REMEMBER_EVERY;
            remember(&clock, &*store).await;
        }
        tokio::select! {
            () = shutdown.begun() => break,
            () = sleep(LOOK_EVERY) => {}
        }
    }
    remember(&clock, &*store).await;
}

/// Says whether the clock is in doubt. A gateway that starts does so before it receives.
pub(super) fn tell(clock: &Clock, warnings: &Warnings) {
    match clock.doubt() {
        Some(doubt) => warnings.begin(KIND, text(doubt)),
        None => warnings.end(KIND, "the clock is not in doubt any more"),
    }
}

async fn remember(clock: &Clock, store: &dyn Store) {
    if let Err(error) = store.remember(clock.trusted()).await {
        tracing::debug!("cannot remember the time in the store: {error}");
    }
}

fn text(doubt: Doubt) -> String {
    let whose = if doubt.is_shared {
        "the clock of the database"
    } else {
        "the clock of this machine"
    };
    let hours = DOUBT_LASTS.as_secs() / 3600;
    if doubt.ahead.is_negative() {
        format!(
            "{whose} is {} behind the time that this gateway or the last one knew: it was set back. Waiting deliveries go on; recorded \
             times follow it once that has lasted {hours} h. If it is wrong, set it (NTP)",
            shown(doubt.ahead.abs())
        )
    } else {
        format!(
            "{whose} is {} ahead of the time that this gateway or the last one knew: it has jumped, or no gateway ran for so long. \
             Nothing is forgotten or given up by it before that has lasted {hours} h. If it is wrong, set it (NTP)",
            shown(doubt.ahead)
        )
    }
}

/// In the largest unit that is whole.
fn shown(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    match seconds {
        172_800.. => format!("{} d", seconds / 86_400),
        7_200.. => format!("{} h", seconds / 3600),
        120.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
