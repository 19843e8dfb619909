//! The command `unwrapd`.

#[cfg(windows)]
compile_error!(
    "unwrapd runs on Linux and macOS; on Windows, build and run it in the Windows Subsystem for Linux (WSL)"
);

#[cfg(not(windows))]
use std::process::ExitCode;

/// The store's thread frees memory that threads of the runtime have allocated, for which the
/// system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(not(windows))]
fn main() -> ExitCode {
    unwrapd::cli::main()
}

#[cfg(windows)]
fn main() {}
