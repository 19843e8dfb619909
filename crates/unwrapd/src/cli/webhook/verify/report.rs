//! The report about one request: its checks with their results.

use std::io::{self, Write as _};

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::format::plain;
use crate::cli::terminal::Terminal;
use crate::diagnosis::{Cause, Tried};

/// Columns of the name of a check.
const NAME_COLUMNS: usize = 11;
/// Columns before the detail: the indentation, the mark, the name, and blanks.
const DETAIL_COLUMN: usize = 4 + NAME_COLUMNS + 2;

/// The checks of one request, in their order.
#[derive(Serialize)]
pub(super) struct Report {
    /// The file of the request.
    pub(super) request: String,
    /// The form in which it is saved.
    pub(super) form: &'static str,
    pub(super) authentic: bool,
    /// The name of the cause, if it is not authentic and the cause was found.
    pub(super) cause: Option<String>,
    pub(super) webhook_id: Option<String>,
    pub(super) sent_at: Option<Timestamp>,
    pub(super) arrived_at: Option<Timestamp>,
    /// The source of the secret that matches.
    pub(super) secret: Option<String>,
    pub(super) checks: Vec<Check>,
    /// Number of the trials of each kind, if it is not authentic.
    pub(super) tried: Option<Tried>,
}

/// A check.
#[derive(Serialize)]
pub(super) struct Check {
    name: &'static str,
    result: CheckResult,
    pub(super) detail: String,
    /// Result of the trials.
    pub(super) finding: Option<String>,
    pub(super) remedy: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckResult {
    Ok,
    Failed,
    NotChecked,
}

impl CheckResult {
    /// Its mark, and the colour of the mark.
    fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("✓", "32"),
            Self::Failed => ("✕", "31"),
            Self::NotChecked => ("·", "2"),
        }
    }
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResult::Ok, detail)
    }

    pub(super) fn failed(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResult::Failed, detail)
    }

    pub(super) fn not_checked(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckResult::NotChecked, detail)
    }

    fn new(name: &'static str, result: CheckResult, detail: impl Into<String>) -> Self {
        Self {
            name,
            result,
            detail: detail.into(),
            finding: None,
            remedy: None,
        }
    }

    pub(super) fn finding(mut self, finding: impl Into<String>) -> Self {
        self.finding = Some(finding.into());
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With the remedy of a cause whose finding the detail has.
    pub(super) fn remedied(self, cause: &Cause) -> Self {
        self.remedy(sentence(&cause.remedy()))
    }

    pub(super) fn of_cause(self, cause: &Cause) -> Self {
        self.finding(sentence(&cause.finding())).remedied(cause)
    }

    fn lines(&self, terminal: &Terminal) -> Vec<String> {
        let (mark, color) = self.result.mark();
        let mark = terminal.colored(mark, color);
        let name = self.name;
        let more = [&self.finding, &self.remedy].into_iter().flatten();
        if terminal.width.is_none() {
            let first = format!("{mark} {name}: {}", plain(&self.detail));
            let more = more.map(|sentence| format!("  {}", plain(sentence)));
            return std::iter::once(first).chain(more).collect();
        }
        let texts = std::iter::once(&self.detail).chain(more);
        let fitted = texts.flat_map(|text| terminal.fitted(text, DETAIL_COLUMN));
        let lines = fitted.enumerate().map(|(place, line)| match place {
            0 => format!("  {mark} {name:<NAME_COLUMNS$}  {line}"),
            _ => format!("{:DETAIL_COLUMN$}{line}", ""),
        });
        lines.collect()
    }
}

impl Report {
    /// Prints it for people, below this heading.
    pub(super) fn print(&self, heading: Option<&str>) -> io::Result<()> {
        let terminal = Terminal::of_stdout();
        let mut lines: Vec<String> = heading.map(plain).into_iter().collect();
        lines.extend(self.checks.iter().flat_map(|check| check.lines(&terminal)));
        let result = if self.authentic {
            CheckResult::Ok
        } else {
            CheckResult::Failed
        };
        let (_, color) = result.mark();
        let verdict = match (self.authentic, &self.cause) {
            (true, _) => "authentic".to_owned(),
            (false, Some(cause)) => format!("not authentic: {}", plain(cause)),
            (false, None) => "not authentic: no cause found".to_owned(),
        };
        lines.push(terminal.colored(&verdict, color));
        writeln!(io::stdout().lock(), "{}", lines.join("\n"))
    }
}

/// The text as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    format!("{}{}.", first.collect::<String>(), letters.as_str())
}
