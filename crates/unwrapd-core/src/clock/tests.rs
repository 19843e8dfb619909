use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn start() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

/// Lets time pass, and reads the clock from time to time, as a gateway does.
async fn pass(clock: &Clock, seconds: u64) {
    for _ in 0..seconds / 10 {
        tokio::time::advance(Duration::from_secs(10)).await;
        let _ = clock.now();
    }
    tokio::time::advance(Duration::from_secs(seconds % 10)).await;
    let _ = clock.now();
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_any_size_for_some_seconds_moves_nothing() {
    for jump in [61, 2 * HOUR, 31 * DAY, 400 * DAY, 20_000 * DAY] {
        for jump in [jump, -jump] {
            let clock = Clock::simulated(start());
            pass(&clock, 100).await;
            clock.shift(jump * 1000);
            pass(&clock, 5).await;
            assert_eq!(clock.now(), at(105), "{jump}");
            assert!(clock.believed() <= at(105), "{jump}");
            assert!(clock.stamp() >= at(105), "{jump}");
            assert_eq!(clock.wall(), at(105 + jump));
            let doubt = clock.doubt().expect("it is in doubt");
            assert_eq!(doubt.ahead.as_secs(), jump);
            clock.shift(-jump * 1000);
            pass(&clock, 5).await;
            assert_eq!(clock.doubt(), None, "{jump}");
            for time in [clock.now(), clock.believed(), clock.stamp(), clock.wall()] {
                assert_eq!(time, at(110), "{jump}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_jump_is_believed_once_it_has_lasted_an_hour() {
    for jump in [2 * HOUR, 31 * DAY, -2 * HOUR, -400 * DAY] {
        let clock = Clock::simulated(start());
        clock.shift(jump * 1000);
        pass(&clock, 3500).await;
        assert!(clock.doubt().is_some());
        assert_eq!(clock.now(), at(3500));
        pass(&clock, 200).await;
        assert_eq!(clock.doubt(), None);
        for time in [clock.now(), clock.believed(), clock.stamp()] {
            assert_eq!(time, at(3700 + jump));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_on_and_on_is_believed_as_far_as_it_always_was() {
    let clock = Clock::simulated(start());
    clock.shift(DAY * 1000);
    pass(&clock, 1800).await;
    clock.shift(400 * DAY * 1000);
    pass(&clock, 1900).await;
    assert_eq!(clock.now(), at(3700 + DAY));
    assert!(clock.doubt().is_some(), "about the rest");
}

#[tokio::test(start_paused = true)]
async fn small_steps_are_followed_and_many_of_them_are_a_jump() {
    let clock = Clock::simulated(start());
    clock.shift(30_000);
    assert_eq!(clock.now(), at(30));
    clock.shift(-40_000);
    assert_eq!(clock.now(), at(30), "the slack is used up");
    assert_eq!(clock.believed(), at(-10));
    clock.shift(40_000);
    // The clock is fast by an eighth.
    for _ in 0..360 {
        pass(&clock, 10).await;
        clock.shift(1250);
    }
    let ahead = clock.now().duration_since(at(30 + 3600)).as_secs();
    assert!((0..=70).contains(&ahead), "{ahead}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_drift_is_followed() {
    let clock = Clock::simulated(start());
    // 500 parts in a million, the fastest slew of NTP.
    for _ in 0..2000 {
        pass(&clock, 100).await;
        clock.shift(50);
    }
    assert_eq!(clock.doubt(), None);
    let behind = clock.wall().duration_since(clock.now());
    assert!(behind.as_millis() <= 100, "{behind}");
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_compared_with_the_time_in_the_store_at_the_start() {
    let new = Clock::simulated(start());
    new.anchor(None);
    assert_eq!((new.doubt(), new.believed()), (None, start()));

    let restarted = Clock::simulated(start());
    restarted.anchor(Some(at(-100)));
    assert_eq!((restarted.doubt(), restarted.believed()), (None, start()));

    let updated = Clock::simulated(start());
    updated.anchor(Some(at(-1000)));
    assert_eq!(updated.doubt(), None, "nobody need know");
    assert_eq!(updated.believed(), at(-1000));

    let idle = Clock::simulated(start());
    idle.anchor(Some(at(-31 * DAY)));
    assert_eq!(idle.doubt().unwrap().ahead.as_secs(), 31 * DAY);
    assert_eq!(idle.believed(), at(-31 * DAY), "nothing is destroyed");
    assert_eq!(idle.now(), start(), "and nothing withheld");
    assert_eq!(idle.stamp(), start());
    pass(&idle, 3700).await;
    assert_eq!(idle.doubt(), None);
    assert_eq!(idle.believed(), at(3700));

    let set_back = Clock::simulated(start());
    set_back.anchor(Some(at(5 * DAY)));
    assert_eq!(set_back.believed(), start());
    assert_eq!(set_back.stamp(), at(5 * DAY));
}

#[tokio::test(start_paused = true)]
async fn an_age_is_the_time_that_has_passed_whatever_the_clock_did() {
    let clock = Clock::simulated(start());
    pass(&clock, 50).await;
    let mut stamps = vec![clock.stamp()];
    for jump in [31 * DAY, -31 * DAY, -2 * HOUR, 2 * HOUR, 400 * DAY] {
        clock.shift(jump * 1000);
        stamps.push(clock.stamp());
        pass(&clock, 7).await;
    }
    let age = |stamp: &Timestamp| clock.age(*stamp).as_secs();
    let ages: Vec<u64> = stamps.iter().map(age).collect();
    assert_eq!(ages, [35, 35, 28, 21, 14, 7]);
    let by_wall: Vec<u64> = stamps
        .iter()
        .map(|stamp| clock.age_by_wall(*stamp).as_secs())
        .collect();
    assert_eq!(by_wall, ages);
}

#[tokio::test(start_paused = true)]
async fn stamps_of_an_earlier_process_age_by_the_believed_time_and_calls_by_the_wall() {
    let clock = Clock::simulated(start());
    clock.anchor(Some(at(-5 * DAY)));
    let left = at(-5 * DAY - 60);
    assert_eq!(clock.age(left), Duration::from_secs(60));
    let wall = Duration::from_secs(5 * 24 * 3600 + 60);
    assert_eq!(clock.age_by_wall(left), wall);
    // The clock of that process was ahead. Its stamp only shows that the process ran before this
    // one.
    let ahead = at(400 * DAY);
    assert_eq!(clock.age(ahead), Duration::ZERO);
    pass(&clock, 500).await;
    assert_eq!(clock.age(ahead), Duration::from_secs(500));
    assert_eq!(clock.age_by_wall(ahead), Duration::from_secs(500));
}

#[tokio::test(start_paused = true)]
async fn a_lease_lasts_as_long_when_the_clock_is_believed_in_the_middle_of_it() {
    let clock = Clock::simulated(start());
    clock.shift(31 * DAY * 1000);
    pass(&clock, 3590).await;
    let began_at = clock.now();
    let ends_at = clock.steady(began_at) + SignedDuration::from_secs(60);
    pass(&clock, 30).await;
    assert_eq!(
        clock.steady(began_at) + SignedDuration::from_secs(60),
        ends_at
    );
    assert_eq!(clock.now(), at(3620 + 31 * DAY));
    let left = clock.of_steady(ends_at).duration_since(clock.now());
    assert_eq!(left, SignedDuration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn gateways_agree_on_the_time_by_the_clock_of_the_database() {
    let right = Clock::simulated(start());
    let wrong = Clock::simulated(at(5 * DAY));
    for clock in [&right, &wrong] {
        clock.refer(clock.monotonic(), at(100).as_millisecond());
        clock.anchor(Some(at(90)));
        assert_eq!(clock.doubt(), None);
    }
    pass(&right, 10).await;
    for clock in [&right, &wrong] {
        let off = clock.now().duration_since(at(110)).as_millis();
        assert!((-2..=2).contains(&off), "{off}");
    }
    // The clock of this machine has no effect.
    wrong.shift(-400 * DAY * 1000);
    assert_eq!(wrong.doubt(), None);
    // The clock of the database jumps, as after a change of the server.
    right.refer(right.monotonic(), at(110 + 31 * DAY).as_millisecond());
    let doubt = right.doubt().unwrap();
    assert!(doubt.is_shared);
    assert_eq!(right.now(), right.wall());
    assert!(right.believed() <= at(111));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_took_long_does_not_move_a_clock_that_is_known_better() {
    let clock = Clock::simulated(start());
    let asked = clock.monotonic();
    clock.refer(asked, start().as_millisecond());
    let asked = clock.monotonic();
    tokio::time::advance(Duration::from_secs(4)).await;
    // The server answered at once, and the answer was slow.
    clock.refer(asked, start().as_millisecond());
    let off = clock.now().duration_since(at(4)).as_millis();
    assert!((-2..=2).contains(&off), "{off}");
}

#[tokio::test(start_paused = true)]
async fn stamps_of_a_clock_that_was_ahead_stay_young_after_any_number_of_jumps() {
    let clock = Clock::simulated(start());
    pass(&clock, 10_000).await;
    clock.shift(31 * DAY * 1000);
    let stamp = clock.stamp();
    clock.shift(-31 * DAY * 1000);
    for jump in 0..100 {
        clock.shift(if jump % 2 == 0 { 1000 } else { -1000 });
        pass(&clock, 1).await;
    }
    let age = clock.age(stamp).as_secs();
    assert!(age <= 100, "{age}");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_signed_by_each_possible_time_and_first_by_the_proven_one() {
    let clock = Clock::simulated(start());
    assert_eq!(clock.plausible(), [start()]);
    assert_eq!(clock.to_sign_by(2), start());
    clock.shift(2 * HOUR * 1000);
    let signed = [1, 2, 3].map(|attempt| clock.to_sign_by(attempt));
    assert_eq!(signed, [at(2 * HOUR), start(), at(2 * HOUR)]);
    assert_eq!(clock.likeliest(), at(2 * HOUR));

    // The sender is a little behind.
    let _ = clock.prove(at(-2));
    pass(&clock, 10).await;
    let signed = [1, 2].map(|attempt| clock.to_sign_by(attempt));
    assert_eq!(signed, [at(8), at(2 * HOUR + 10)]);
    assert_eq!(clock.likeliest(), at(8));

    // A proof holds for this jump, and not for the next.
    clock.shift(-2 * HOUR * 1000);
    assert_eq!(clock.plausible(), [at(10)]);
    clock.shift(-5 * HOUR * 1000);
    assert_eq!(clock.likeliest(), at(10 - 5 * HOUR));
}

/// An attacker may hold back a genuine webhook, and send it once the clock is in doubt.
#[tokio::test(start_paused = true)]
async fn a_webhook_that_proves_the_wall_clock_replaces_the_time_proven_by_another() {
    let clock = Clock::simulated(start());
    clock.shift(2 * HOUR * 1000);
    let _ = clock.prove(start());
    assert_eq!(clock.likeliest(), start());
    let _ = clock.prove_wall();
    assert_eq!(clock.likeliest(), at(2 * HOUR));
    assert_eq!(clock.to_sign_by(1), at(2 * HOUR));
}

/// A machine without a battery-backed clock begins in 1970, and was down for two minutes.
#[tokio::test(start_paused = true)]
async fn the_time_that_the_store_remembers_may_be_right_and_is_not_signed_by() {
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    clock.anchor(Some(start()));
    assert_eq!(clock.possible(), [Timestamp::UNIX_EPOCH, start()]);
    assert_eq!(clock.plausible(), [Timestamp::UNIX_EPOCH]);
    let _ = clock.prove(at(120));
    assert_eq!(clock.to_sign_by(1), at(120));
}

#[tokio::test(start_paused = true)]
async fn a_jump_is_the_distance_of_the_wall_clock_while_that_is_in_doubt() {
    let clock = Clock::simulated(start());
    clock.shift(30_000);
    assert_eq!(clock.jump(), SignedDuration::ZERO, "a step is followed");
    for jump in [2 * HOUR, -31 * DAY] {
        clock.shift(jump * 1000);
        assert_eq!(clock.jump(), SignedDuration::from_secs(jump));
        clock.shift(-jump * 1000);
        assert_eq!(clock.jump(), SignedDuration::ZERO);
    }
}

proptest! {
    /// The promise of the module: an age by the believed time never exceeds the real time that has
    /// passed, unless a jump ahead has lasted an hour.
    #[test]
    fn ages_never_exceed_the_time_that_has_passed(steps in prop::collection::vec((-40_000_000_000i64..40_000_000_000, 0u64..300), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let clock = Clock::simulated(start());
            let begun = tokio::time::Instant::now();
            let mut stamps = Vec::new();
            let mut shift = 0;
            for (jump, seconds) in steps {
                // The clock is never ahead for an hour: it jumps back in between.
                let jump = if shift > 0 { -shift } else { jump };
                shift += jump;
                clock.shift(jump);
                stamps.push((begun.elapsed(), clock.stamp()));
                pass(&clock, seconds).await;
                for (stamped, stamp) in &stamps {
                    let passed = begun.elapsed().checked_sub(*stamped).unwrap();
                    let believed = Duration::try_from(clock.believed().duration_since(*stamp)).unwrap_or_default();
                    // The slack is used only once.
                    prop_assert!(believed <= passed + Duration::from_secs(121), "{believed:?} {passed:?}");
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_store_is_compared_with_a_database_that_answers_later() {
    let clock = Clock::simulated(start());
    clock.anchor(Some(start()));
    clock.refer(clock.monotonic(), at(31 * DAY).as_millisecond());
    assert_eq!(clock.believed(), start());
    assert_eq!(clock.doubt().map(|doubt| doubt.is_shared), Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_due_at_once_stays_due_after_the_database_clock_is_set_back() {
    let clock = Clock::simulated(start());
    clock.refer(clock.monotonic(), start().as_millisecond());
    clock.anchor(Some(start()));
    clock.refer(clock.monotonic(), at(3000).as_millisecond());
    let due_at = clock.due_now();
    assert!(clock.now() > at(2990), "{}", clock.now());
    clock.refer(clock.monotonic(), start().as_millisecond());
    assert!(due_at <= clock.now(), "{due_at}");
}
