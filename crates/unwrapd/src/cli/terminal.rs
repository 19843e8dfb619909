//! The form of lines for people: wrapped and coloured on a terminal, plain elsewhere.

use std::io::{self, IsTerminal as _};

use super::format::plain;

/// Width of lines where the terminal does not tell its own, and the widest that is easy to read.
const WIDTH_USUAL: usize = 80;
const WIDTH_MAX: usize = 100;
/// Narrower than this, columns are of no use.
const WIDTH_MIN: usize = 40;

pub(super) struct Terminal {
    /// `None` if the output is not a terminal: each text has one line then, whatever its length.
    pub(super) width: Option<usize>,
    is_colored: bool,
}

impl Terminal {
    /// The form for stdout as it is.
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let columns = rustix::termios::tcgetwinsize(&stdout).map(|size| usize::from(size.ws_col));
        let columns = columns.ok().filter(|columns| *columns > 0);
        let columns = columns.unwrap_or(WIDTH_USUAL).clamp(WIDTH_MIN, WIDTH_MAX);
        Self {
            width: is_terminal.then_some(columns),
            is_colored: is_terminal && !is_dumb && !no_color,
        }
    }

    /// The text in a colour, which is a number of ECMA-48.
    pub(super) fn colored(&self, text: &str, color: &str) -> String {
        if self.is_colored {
            format!("\x1b[{color}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The text in lines that fit behind this column.
    pub(super) fn fitted(&self, text: &str, column: usize) -> Vec<String> {
        let text = plain(text);
        match self.width {
            Some(width) => wrapped(&text, width.saturating_sub(column)),
            None => vec![text],
        }
    }
}

/// The text in lines of at most this many characters. A longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() {
            *line += word;
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            *line += word;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdefgh i", 4), ["abcdefgh", "i"]);
        assert_eq!(wrapped("é é é", 3), ["é é", "é"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}
