//! The option `--output`, and the answer of a command in the form that it asks for.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use super::format::print_json;

#[derive(Args)]
pub(super) struct OutputArguments {
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Human,
    /// For programs
    Json,
}

impl OutputArguments {
    /// Prints an answer: as JSON for programs, or for people.
    pub(super) fn print<A: Serialize>(
        &self,
        answer: A,
        for_people: impl FnOnce(A) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Json => Ok(print_json(&answer)?),
            Output::Human => for_people(answer),
        }
    }
}
