//! `unwrapd completions`: the script that makes a shell complete command lines. For each completion
//! the script runs this program, which knows the commands, the event types and the running gateway.

pub(super) mod candidates;

use std::io::Write as _;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::Cli;
use super::failure::{Failure, usage};

/// Environment variable by which a script asks for completions. It names the shell.
const VARIABLE: &str = "UNWRAPD_COMPLETE";
/// The program, as a script calls it.
const PROGRAM: &str = "unwrapd";
/// A completion function that zsh loads from a file only defines the real one at its first call.
const FIRST_CALL_IN_ZSH: &str = r#"
if [ "$funcstack[1]" = "_unwrapd" ]; then
    _clap_dynamic_completer_unwrapd "$@"
fi
"#;

#[derive(Args)]
#[command(
    after_help = "Examples: source <(unwrapd completions bash)\n          \
    unwrapd completions fish > ~/.config/fish/completions/unwrapd.fish"
)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = PossibleValuesParser::new(Shells::builtins().names()))]
    shell: String,
}

/// Prints the script of a shell.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&arguments.shell)
        .ok_or_else(|| usage("this shell is unknown"))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    if shell.name() == "zsh" {
        script.extend(FIRST_CALL_IN_ZSH.as_bytes());
    }
    Ok(std::io::stdout().lock().write_all(&script)?)
}

/// If a script asks for completions, prints them and returns the exit code. Errors are silent: their
/// text would end up in the command line that the user is typing.
pub(super) fn answer() -> Option<ExitCode> {
    let folder = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .bin(PROGRAM)
        .completer(PROGRAM)
        .try_complete(std::env::args_os(), folder.as_deref());
    match answered {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        Err(_) => Some(ExitCode::FAILURE),
    }
}
