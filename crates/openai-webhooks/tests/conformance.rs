//! The committed cases of the conformance suite.

#[path = "support/answer.rs"]
mod answer;
#[path = "support/conformance.rs"]
mod conformance;

use conformance::Cases;

#[test]
fn every_conformance_case_is_answered_as_expected() {
    let cases = Cases::parse(include_str!("vectors/cases.json")).unwrap();
    assert_eq!(cases.len(), 235);
    assert_eq!(cases.deviations(), Vec::<String>::new());
}
