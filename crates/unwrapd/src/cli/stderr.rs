//! Messages and questions for people, beside the data.

use std::io::{IsTerminal as _, Write as _};

use super::failure::{Failure, usage};
use crate::printable;

/// Prints a message for people. A closed stderr is no failure. Characters that act on a terminal
/// are escaped.
pub(super) fn message(text: &str) {
    drop(write!(std::io::stderr(), "{}", printable::lines(text)));
}

/// Asks on the terminal. Without a terminal this is an error.
pub(super) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(usage(format!(
            "{question} Nothing was done: stdin or stderr is not a terminal. Pass --yes to confirm"
        )));
    }
    message(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
