//! Runs a property over random values, and says how to run it over the same ones again.

use std::hash::{BuildHasher as _, RandomState};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// The property holds for so many values of the strategy; else the smallest counterexample found is shown, and the seed.
/// `PROPTEST_RNG_SEED` takes that seed, `PROPTEST_CASES` another number of values.
pub(crate) fn holds<S: Strategy>(
    cases: u32,
    values: S,
    property: impl Fn(S::Value) -> TestCaseResult,
) {
    let seed = number_from("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let cases = number_from("PROPTEST_CASES").unwrap_or(cases);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    if let Err(failure) = TestRunner::new(config).run(&values, property) {
        panic!(
            "{failure}\nThe same {cases} values again: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases}"
        );
    }
}

fn number_from<N: std::str::FromStr>(variable: &str) -> Option<N> {
    std::env::var(variable).ok()?.parse().ok()
}
