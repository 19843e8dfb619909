//! `scripts/bench unwrap`: time to unwrap a webhook with openai-webhooks, beside the necessary
//! SHA-256 work and the usual libraries.
//!
//! One call finds the headers in a `http::HeaderMap`, checks the time, computes the HMAC, compares,
//! parses to a typed owned event and drops it. The contestants take turns in many rounds, so that
//! disturbances of the machine affect all of them alike. The results are medians of the ratios
//! within a round.

mod allocations;
mod contestants;
mod report;
mod request;
mod rounds;
mod sdk;
mod walk;

use std::path::Path;
use std::process::ExitCode;

use contestants::Contestant;
use request::SIZES;
use sdk::Sdk;

const ROUNDS: usize = 101;

fn main() -> ExitCode {
    let sdks = std::env::args()
        .nth(1)
        .expect("usage: unwrap FOLDER, the folder of SDKs that scripts/bench installs");
    let sdks = Sdk::start_all(Path::new(&sdks));

    let mut contestants = contestants::in_rust();
    contestants.extend(sdks.into_iter().map(Contestant::from));
    let times = rounds::run(&mut contestants, &SIZES, ROUNDS);
    let allocations = SIZES.map(contestants::our_allocations);

    let passed = report::print(&times, allocations);
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
