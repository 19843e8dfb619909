//! Text for a terminal.

use std::io::{self, Write as _};
use std::iter::{once, repeat_n};

use jiff::Timestamp;
use serde::Serialize;

use crate::printable;
use crate::settings_file::looks_secret;
pub(super) use crate::settings_file::shown_path;

/// Text that others wrote, on one line. Characters that act on a terminal are escaped.
pub(super) fn plain(text: &str) -> String {
    printable::line(text).into_owned()
}

/// Prints lines for people. Characters that act on a terminal are escaped.
pub(super) fn print(lines: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", printable::lines(lines))
}

/// Prints a line of data for people, or returns an error if that fails. Characters that act on a
/// terminal are escaped.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::cli::format::print(&format!($($argument)*))
    };
}
pub(super) use outln;

/// Prints a value for programs. Characters that act on a terminal, or hide there, are JSON escapes.
pub(super) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value).map_err(io::Error::other)?;
    writeln!(io::stdout().lock(), "{}", printable::json(&json))
}

/// A name from the command line for an error. A URL or a secret by mistake is replaced.
pub(super) fn shown_name(text: &str) -> String {
    if text.contains("://") || text.contains('@') || looks_secret(text) {
        return "[not shown]".into();
    }
    plain(text)
}

/// A time, to the second.
pub(super) fn short(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Most characters of a type or an id in a body that are shown. A body may hold any text there, and
/// a long one would make every line of a table as long.
const NAMED_MAX: usize = 64;

/// The event type that a body names. `--output json` has it whole.
pub(super) fn event_type(named: Option<&str>) -> String {
    match named {
        Some("") => "(empty type)".into(),
        Some(named) => cut(named),
        None => "(no event)".into(),
    }
}

/// The text, or its beginning if it is long.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(NAMED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Lines of equally wide columns; the last is as wide as it is.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(heads[column].len())
        })
        .collect();
    let heads = heads.iter().map(|&head| head.to_owned()).collect();
    let mut text = String::new();
    for row in once(&heads).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let rest = width.saturating_sub(cell.chars().count());
            line += cell;
            line.extend(repeat_n(' ', rest + 2));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_for_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\u{d}\\u{a}");
        assert_eq!(plain("\u{202E}gpj.exe"), "\\u{202e}gpj.exe");
        assert_eq!(plain("résumé ✓"), "résumé ✓");
    }

    #[test]
    fn a_long_type_is_cut_and_an_empty_one_is_named() {
        assert_eq!(event_type(Some("batch.completed")), "batch.completed");
        assert_eq!(event_type(Some("")), "(empty type)");
        assert_eq!(event_type(None), "(no event)");
        let exact = "é".repeat(64);
        assert_eq!(event_type(Some(&exact)), exact);
        assert_eq!(event_type(Some(&format!("{exact}a"))), format!("{exact}…"));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".into(), "b".into()],
            vec!["longer".into(), String::new()],
        ];
        assert_eq!(table(&["x", "y"], &rows), "x       y\na       b\nlonger\n");
    }
}
