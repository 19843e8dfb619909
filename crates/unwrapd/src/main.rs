//! The command `unwrapd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    unwrapd::cli::main()
}
