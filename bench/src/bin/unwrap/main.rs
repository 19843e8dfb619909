//! How long it takes to unwrap a webhook: ours, the SHA-256 work nobody can avoid, and the
//! libraries people use today.
//!
//! One call finds the headers in a `http::HeaderMap`, checks the time, computes the HMAC, compares,
//! parses to a typed owned event and drops it. All contestants take turns within each of many
//! rounds, so that whatever else the machine does meets them alike; what counts are ratios within a
//! round, and of those the medians.

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
        .expect("usage: unwrap FOLDER, with the SDKs as scripts/bench installs them");
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
