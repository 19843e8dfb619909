//! Rounds in which the contestants take turns.

use crate::contestants::{Contestant, ContestantId};
use crate::request::Request;

const SIZES: usize = crate::request::SIZES.len();

/// Rounds before the measurement: caches fill, and Node compiles hot code.
const WARM_UP_ROUNDS: usize = 10;

/// Times of one contestant in nanoseconds per call: a list for each size, an item for each round.
pub struct Times {
    pub id: ContestantId,
    rounds: [Vec<f64>; SIZES],
}

impl Times {
    pub fn medians(&self) -> [f64; SIZES] {
        self.rounds.each_ref().map(|times| median(times.clone()))
    }

    /// Ratios of these times to those of `other`: the median of the rounds' ratios, for each size.
    /// A disturbance of a whole round cancels out.
    pub fn ratios_to(&self, other: &Self) -> [f64; SIZES] {
        std::array::from_fn(|size| {
            let pairs = self.rounds[size].iter().zip(&other.rounds[size]);
            median(pairs.map(|(ours, others)| ours / others).collect())
        })
    }
}

pub fn run(
    contestants: &mut [Contestant],
    sizes: &[fn() -> String; SIZES],
    rounds: usize,
) -> Vec<Times> {
    let calls: Vec<[u32; SIZES]> = contestants
        .iter_mut()
        .map(|contestant| sizes.map(|body| calls_a_round(contestant, body)))
        .collect();
    let mut times: Vec<Times> = contestants
        .iter()
        .map(|contestant| Times {
            id: contestant.id,
            rounds: Default::default(),
        })
        .collect();

    for round in 0..WARM_UP_ROUNDS + rounds {
        for (size, body) in sizes.iter().enumerate() {
            let request = Request::signed_now(body());
            for turn in 0..contestants.len() {
                // Each round begins with another contestant, because one that follows a process
                // finds cold caches.
                let index = (turn + round) % contestants.len();
                let nanoseconds = (contestants[index].run)(&request, calls[index][size]);
                if round >= WARM_UP_ROUNDS {
                    times[index].rounds[size].push(nanoseconds);
                }
            }
        }
    }
    times
}

fn calls_a_round(contestant: &mut Contestant, body: fn() -> String) -> u32 {
    let request = Request::signed_now(body());
    let nanoseconds_a_round = contestant.seconds_a_round * 1e9;
    let mut calls = 1;
    loop {
        let nanoseconds = (contestant.run)(&request, calls) * f64::from(calls);
        if nanoseconds >= nanoseconds_a_round {
            return calls;
        }
        calls *= 2;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
