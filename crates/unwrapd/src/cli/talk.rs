//! What is said to people beside the data, and asked of them.

use std::io::{IsTerminal as _, Write as _};

use super::{Failure, usage};
use crate::printable;

/// For people, beside the data. Where nobody can read it, that is no failure. Whatever would do something to a terminal is escaped.
pub(super) fn talk(text: &str) {
    drop(write!(std::io::stderr(), "{}", printable::lines(text)));
}

/// Asks on the terminal. Where there is none, nobody can say yes.
pub(super) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(usage(format!(
            "{question} There is no terminal to ask on, so nothing was done: say --yes to do it without a question"
        )));
    }
    talk(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
