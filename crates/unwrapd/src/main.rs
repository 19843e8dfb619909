//! The command `unwrapd`.

use std::process::ExitCode;

/// What the store's thread frees, the threads of the runtime have allocated; the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    unwrapd::cli::main()
}
