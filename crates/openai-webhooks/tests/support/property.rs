//! Checks a property with random values, and reports how to repeat the same values.

use std::hash::{BuildHasher as _, RandomState};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// Checks the property with this number of values of the strategy. On failure it shows the smallest
/// counterexample found, and the seed. `PROPTEST_RNG_SEED` takes that seed, `PROPTEST_CASES`
/// another number of values.
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
