//! The settings of a destination that is a command.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::CommandDestination;
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::destinations::{Destination, KindSettings};
use crate::settings_file::{Key, Keys, Location, Mistake, Mistakes, looks_secret};
use crate::store::StoreUrl;

/// A command, run for each message.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// The arguments.
    pub arguments: Vec<String>,
}

impl CommandSettings {
    /// Whether the program exists and is executable.
    #[must_use]
    pub(crate) fn can_start(&self) -> bool {
        if self.program.contains('/') {
            return is_executable(Path::new(&self.program));
        }
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| is_executable(&folder.join(&self.program)))
        })
    }
}

impl KindSettings for CommandSettings {
    const KEY: &'static str = "command";
    const EXAMPLE: &'static str = "command = [\"program\", \"argument\", …]";
    const OTHER_KEYS: &'static str = "the gateway starts a command, and sends it no request";

    type Keys = CommandKeys;

    fn check(
        keys: CommandKeys,
        _: &Location,
        _: Option<&StoreUrl>,
    ) -> Result<Option<Self>, Mistakes> {
        Ok(keys.command.map(|command| check(&command)).transpose()?)
    }

    fn build(&self, limits: Limits, _: &Clock) -> anyhow::Result<Box<dyn Destination>> {
        Ok(Box::new(CommandDestination::new(self.clone(), limits)))
    }

    fn digest(&self, add: &mut dyn FnMut(&[u8])) {
        add(self.program.as_bytes());
        add(format!("{:?}", self.arguments).as_bytes());
    }

    fn target(&self) -> String {
        self.program.clone()
    }

    fn doubt(&self, name: &str, _: SocketAddr) -> Option<String> {
        (!self.can_start()).then(|| {
            format!(
                "the program `{}` of `{name}` is missing or not executable: its deliveries wait \
                 until you install it, or make it executable (chmod +x)",
                self.program
            )
        })
    }

    /// Each command has pipes for its input and its output.
    fn open_files(&self, deliveries: u64) -> u64 {
        4 * deliveries
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[derive(Default, Deserialize)]
pub(crate) struct CommandKeys {
    command: Key<Vec<String>>,
}

impl Keys for CommandKeys {
    const PROGRAMS: &'static [&'static str] = &["command"];
}

fn check(command: &Spanned<Vec<String>>) -> Result<CommandSettings, Mistake> {
    let mistake = |problem| Err(Mistake::new(command.span(), problem));
    if command.get_ref().iter().any(|word| looks_secret(word)) {
        return mistake(
            "this is a secret, and every user of the machine can see the arguments of a command: \
             let the command read it from a file, and replace the secret",
        );
    }
    if command.get_ref().iter().any(|word| word.contains('\0')) {
        return mistake("a command must not have the character NUL: remove it");
    }
    let mut words = command.get_ref().iter().cloned();
    match words.next() {
        Some(program) if is_of_a_shell(&program) => mistake(
            "no shell runs the command: write the program and each argument as an entry of its own, such as [\"notify\", \"--quiet\"]",
        ),
        Some(program) if !program.is_empty() => Ok(CommandSettings {
            program,
            arguments: words.collect(),
        }),
        _ => mistake(
            "this must be a program and its arguments, such as [\"/usr/local/bin/notify\", \"--quiet\"]",
        ),
    }
}

/// Whether the text is a program with its arguments, as a shell takes it. A file may have blanks in
/// its name.
fn is_of_a_shell(program: &str) -> bool {
    let starts = |program: &str| {
        let program = program.to_owned();
        CommandSettings {
            program,
            arguments: Vec::new(),
        }
        .can_start()
    };
    program
        .split_once(char::is_whitespace)
        .is_some_and(|(first, _)| starts(first) && !starts(program))
}
