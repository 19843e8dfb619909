//! The strip of a destination: its attempts of the last 24 hours as bars.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::words::{counted, number};
use crate::admin::json::Refusal;
use crate::admin::{Admin, traffic};
use crate::api::{DestinationStep, TrafficReport};
use crate::store::TrafficRange;

/// Number of bars.
const BARS: i64 = 96;
/// Time of a bar.
const STEP: SignedDuration = SignedDuration::from_mins(15);
/// Height of the strip.
const HEIGHT: u64 = 34;
/// Least height of what happened at all: a single dead letter among thousands of deliveries must be
/// seen.
const LEAST: u64 = 3;

/// Maximum number of counts: those of 256 destinations and of as many endpoints, of three kinds each,
/// are 147,456.
const SUMS_MAX: usize = 150_000;

/// The traffic that strips show.
pub(super) async fn traffic(admin: &Admin, now: Timestamp) -> Result<TrafficReport, Refusal> {
    traffic::up_to(admin, range(now), SUMS_MAX).await
}

/// The time that strips show. It begins with a whole step.
fn range(now: Timestamp) -> TrafficRange {
    let step = STEP.as_secs();
    let last = now.as_second() - now.as_second().rem_euclid(step);
    let since = Timestamp::from_second(last - (BARS - 1) * step);
    TrafficRange {
        since: since.unwrap_or(Timestamp::MIN),
        until: now,
        step: STEP.unsigned_abs(),
    }
}

/// Draws the steps of the [`range`] that begins at `since`.
pub(super) fn strip(steps: &[DestinationStep], since: Timestamp) -> Markup {
    let total = |step: &DestinationStep| step.delivered + step.retried + step.dead;
    let largest = steps.iter().map(total).max().unwrap_or_default().max(1);
    let sum = |of: fn(&DestinationStep) -> u64| steps.iter().map(of).sum::<u64>();
    let (delivered, retried, dead) = (
        sum(|step| step.delivered),
        sum(|step| step.retried),
        sum(|step| step.dead),
    );
    let label = format!(
        "Last 24 hours: {} delivered, {}, {}",
        number(delivered),
        counted(retried, "attempt failed", "attempts failed"),
        counted(dead, "dead letter", "dead letters"),
    );
    html! {
        svg.strip viewBox={ "0 0 " (BARS * 4) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-label=(label) {
            title { (label) }
            rect.base x="0" y=(HEIGHT - 1) width=(BARS * 4) height="1" {}
            @for step in steps {
                @let bar = step.at.duration_since(since).as_secs() / STEP.as_secs();
                @if (0..BARS).contains(&bar) {
                    @let x = bar * 4;
                    @let good = height(step.delivered, largest);
                    @let again = height(step.retried, largest);
                    @let lost = height(step.dead, largest);
                    @for (class, bar_height, below) in [
                        ("d", good, 0),
                        ("r", again, good),
                        ("x", lost, good + again),
                    ] {
                        @if bar_height > 0 {
                            rect.(class) x=(x) y=(HEIGHT.saturating_sub(below + bar_height))
                                width="3" height=(bar_height) {}
                        }
                    }
                }
            }
        }
        div.axis { span { "24 h ago" } span { "now" } }
    }
}

/// Height of a part of a bar. Three parts with the least height fit beside the largest one.
fn height(count: u64, largest: u64) -> u64 {
    if count == 0 {
        return 0;
    }
    let room = u128::from(HEIGHT - 2 * LEAST);
    let height = room * u128::from(count) / u128::from(largest);
    u64::try_from(height).unwrap_or(HEIGHT).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_has_96_steps_of_which_the_last_has_begun() {
        let range = range("2026-11-24T08:37:15Z".parse().unwrap());
        assert_eq!(range.since.to_string(), "2026-11-23T08:45:00Z");
        assert_eq!(range.step.as_secs(), 900);
    }

    #[test]
    fn a_single_dead_letter_is_seen_and_every_bar_fits() {
        assert_eq!(height(0, 1_000_000), 0);
        assert_eq!(height(1, 1_000_000), LEAST);
        assert!(height(1_000_000, 1_000_000) + 2 * LEAST <= HEIGHT);
        assert!(height(u64::MAX, u64::MAX) <= HEIGHT);
    }
}
