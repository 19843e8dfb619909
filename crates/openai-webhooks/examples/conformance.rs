//! Runs a file of conformance cases and prints each deviation.
//!
//! ```sh
//! cargo run --release -p openai-webhooks --example conformance -- \
//!     crates/openai-webhooks/tests/vectors/cases.json
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

#[path = "../tests/support/answer.rs"]
mod answer;
#[path = "../tests/support/conformance.rs"]
mod conformance;

use std::process::ExitCode;

use conformance::Cases;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: conformance FILE");
        return ExitCode::from(2);
    };
    let cases = std::fs::read_to_string(&file)
        .map_err(|error| error.to_string())
        .and_then(|json| Cases::parse(&json).map_err(|error| error.to_string()));
    let cases = match cases {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::from(2);
        }
    };
    let deviations = cases.deviations();
    for deviation in &deviations {
        println!("{deviation}");
    }
    println!("{} cases, {} deviate", cases.len(), deviations.len());
    if deviations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
