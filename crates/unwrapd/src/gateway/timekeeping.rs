//! Watches the clock: warns while it is in doubt, and stores the trusted time.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::{Clock, DOUBT_LASTS, Doubt};
use crate::observe::warnings::Warnings;
use crate::store::Lifecycle;
use tokio_util::sync::CancellationToken;

/// Interval between two readings of the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Interval between two writes of the trusted time, with which the next process compares its clock.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);
/// Time to store it at a stop.
const LAST_REMEMBER_MAX: Duration = Duration::from_secs(1);

/// The two kinds of the warning, so that the log also shows a change from one to the other.
const AHEAD: &str = "clock ahead";
const BEHIND: &str = "clock behind";

/// Runs until shutdown. A failing store does not end it.
pub(super) async fn run(
    clock: Clock,
    store: Arc<dyn Lifecycle>,
    warnings: Warnings,
    shutdown: CancellationToken,
) {
    let mut remember_at = Instant::now();
    loop {
        log_doubt(&clock, &warnings);
        if Instant::now() >= remember_at {
            remember_at = Instant::now() + REMEMBER_EVERY;
            remember(&clock, &*store).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep(LOOK_EVERY) => {}
        }
    }
    // A store that hangs does not hold up the stop.
    drop(timeout(LAST_REMEMBER_MAX, remember(&clock, &*store)).await);
}

/// Begins or ends the warning that the clock is in doubt. At a start this happens before the
/// gateway accepts webhooks.
pub(super) fn log_doubt(clock: &Clock, warnings: &Warnings) {
    let doubt = clock.doubt();
    let kind = doubt.map(|doubt| {
        if doubt.ahead.is_negative() {
            BEHIND
        } else {
            AHEAD
        }
    });
    let ending = if kind.is_none() {
        "the clock is trusted again"
    } else {
        "the clock has jumped again"
    };
    for ended in [AHEAD, BEHIND] {
        if kind != Some(ended) {
            warnings.end(ended, ending);
        }
    }
    if let (Some(kind), Some(doubt)) = (kind, doubt) {
        warnings.begin(kind, text(doubt));
    }
}

async fn remember(clock: &Clock, store: &dyn Lifecycle) {
    if let Err(error) = store.remember(clock.trusted()).await {
        tracing::debug!("cannot store the time: {error}");
    }
}

fn text(doubt: Doubt) -> String {
    let whose = if doubt.is_shared {
        "the clock of the database"
    } else {
        "the clock of this machine"
    };
    let hours = DOUBT_LASTS.as_secs() / 3600;
    let how = if doubt.ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let by = shown(doubt.ahead.abs());
    format!(
        "{whose} is {by} {how} the time that the gateway trusts. If it is wrong, correct it now \
         (NTP): webhooks may be refused with 401, and applications may refuse deliveries. If it is \
         right, wait: the gateway accepts it after {hours} h. Until then nothing is deleted or \
         given up by it"
    )
}

/// The duration in its largest whole unit.
fn shown(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    match seconds {
        172_800.. => format!("{} d", seconds / 86_400),
        7_200.. => format!("{} h", seconds / 3600),
        120.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
