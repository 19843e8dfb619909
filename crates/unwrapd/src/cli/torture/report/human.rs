//! The report for people: a line for each check, then each fault with its remedy. On a terminal it
//! has colours and columns.

use std::io::{self, Write as _};

use super::Report;
use crate::cli::format::plain;
use crate::cli::terminal::Terminal;
use crate::cli::torture::checks::{CHECKS, Check, effects_docs};
use crate::cli::torture::finding::{Finding, Grade};
use crate::cli::torture::judge::shown;
use crate::printable::counted;

pub(super) fn print(report: &Report) -> io::Result<()> {
    let mut page = Page::new();
    let target = page.dim(&plain(&report.target));
    page.lines.push(target);
    if report.ungraded.is_some() {
        if let Some(first) = report.findings.first() {
            page.gap();
            page.verdict(first);
        }
        let others = report.findings.len().saturating_sub(1);
        let others = counted(others as u64, "other check was", "other checks were");
        page.gap();
        page.paragraph(None, &format!("Not graded: {others} not run."));
        return page.write();
    }
    let mut group = None;
    for finding in &report.findings {
        if group != Some(finding.check.group) {
            group = Some(finding.check.group);
            page.gap();
            let title = page.bold(finding.check.group.title());
            page.lines.push(title);
        }
        let mark = page.mark(finding.grade);
        page.entry(Some(&mark), finding.check.name, &finding.saw);
    }
    for grade in [Grade::Fail, Grade::Warn] {
        for findings in by_cause(report, grade) {
            page.gap();
            page.fault(&findings);
        }
    }
    if report.counts.is_none() && report.count(Grade::Unknown) > 0 {
        page.gap();
        page.paragraph(
            None,
            &format!(
                "Answers do not show how often an event was processed. Let it be counted with \
                 --effects-command or --effects-url: see {}",
                effects_docs()
            ),
        );
    }
    page.gap();
    let numbers = format!("{}, in {}", report.numbers(), shown(report.took));
    let numbers = page.bold(&numbers);
    page.lines.push(numbers);
    page.write()
}

/// The findings of a grade; those with one cause are together.
fn by_cause(report: &Report, grade: Grade) -> Vec<Vec<&Finding>> {
    let mut causes: Vec<Vec<&Finding>> = Vec::new();
    for finding in report
        .findings
        .iter()
        .filter(|finding| finding.grade == grade)
    {
        let is_same = |cause: &&mut Vec<&Finding>| {
            cause[0].fault == finding.fault && cause[0].remedy == finding.remedy
        };
        match causes.iter_mut().find(is_same) {
            Some(cause) => cause.push(finding),
            None => causes.push(vec![finding]),
        }
    }
    causes
}

pub(super) fn list() -> io::Result<()> {
    let mut page = Page::new();
    for check in CHECKS {
        let about = format!("{}; expected: {}", check.sent, check.expected);
        page.entry(None, check.name, &about);
    }
    page.write()
}

/// Lines, of which every foreign part is plain.
struct Page {
    lines: Vec<String>,
    terminal: Terminal,
    /// Width of the column of names.
    names: usize,
}

impl Page {
    fn new() -> Self {
        let longest = |check: &Check| check.name.len();
        Self {
            lines: Vec::new(),
            terminal: Terminal::of_stdout(),
            names: CHECKS.iter().map(longest).max().unwrap_or_default(),
        }
    }

    /// An empty line, unless nothing is before it.
    fn gap(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
    }

    /// A name, and a text beside it.
    fn entry(&mut self, mark: Option<&str>, name: &str, about: &str) {
        let about = plain(about);
        let mark = mark.map(|mark| format!("  {mark} ")).unwrap_or_default();
        if self.terminal.width.is_none() {
            let line = format!("{}{name}  {about}", mark.trim_start());
            self.lines.push(line);
            return;
        }
        let column = self.names + 2 + if mark.is_empty() { 0 } else { 4 };
        for (place, line) in self.terminal.fitted(&about, column).iter().enumerate() {
            self.lines.push(match place {
                0 => format!("{mark}{name:names$}  {line}", names = self.names),
                _ => format!("{:column$}{line}", ""),
            });
        }
    }

    /// Findings with one cause, with everything that helps to mend it.
    fn fault(&mut self, findings: &[&Finding]) {
        let [first, others @ ..] = findings else {
            return;
        };
        let check = first.check;
        let names: Vec<&str> = findings.iter().map(|finding| finding.check.name).collect();
        let title = match names[..] {
            [name] => name.to_owned(),
            _ => format!("{} checks", names.len()),
        };
        let fault = first.fault.as_deref().unwrap_or(check.fault);
        self.headline(first.grade, &format!("{title}: {fault}"));
        if others.is_empty() {
            self.paragraph(Some("sent"), check.sent);
            self.paragraph(Some("expected"), check.expected);
            self.paragraph(Some("saw"), &first.saw);
        } else {
            self.paragraph(Some("checks"), &names.join(", "));
        }
        self.paragraph(Some("why"), first.why);
        self.paragraph(Some("remedy"), &first.remedy);
        self.paragraph(Some("more"), &check.docs());
    }

    /// The finding that takes the place of all others.
    fn verdict(&mut self, first: &Finding) {
        let fault = first.fault.as_deref().unwrap_or(first.check.fault);
        self.headline(Grade::Fail, fault);
        self.paragraph(Some("saw"), &first.saw);
        self.paragraph(Some("remedy"), &first.remedy);
        self.paragraph(Some("more"), &first.check.docs());
    }

    fn headline(&mut self, grade: Grade, text: &str) {
        for (place, line) in self.terminal.fitted(text, 2).iter().enumerate() {
            let mark = match place {
                0 => self.mark(grade),
                _ => " ".into(),
            };
            let line = format!("{mark} {}", self.bold(line));
            self.lines.push(line);
        }
    }

    /// The lines of a text, with its name before the first of them.
    fn paragraph(&mut self, name: Option<&str>, about: &str) {
        const NAME: usize = 8;
        let column = if name.is_some() { 4 + NAME + 2 } else { 0 };
        let lines = about
            .lines()
            .flat_map(|line| self.terminal.fitted(line, column));
        let lines: Vec<String> = lines.collect();
        for (place, line) in lines.into_iter().enumerate() {
            let line = match (name, place, self.terminal.width) {
                (None, ..) => line,
                (Some(name), 0, None) => format!("  {name}: {line}"),
                (Some(_), _, None) => format!("    {line}"),
                (Some(name), 0, _) => {
                    let name = format!("{name:NAME$}");
                    format!("    {}  {line}", self.dim(&name))
                }
                (Some(_), ..) => format!("{:column$}{line}", ""),
            };
            self.lines.push(line);
        }
    }

    fn mark(&self, grade: Grade) -> String {
        let (mark, color) = match grade {
            Grade::Pass => ("✓", "32"),
            Grade::Fail => ("✕", "31"),
            Grade::Warn => ("!", "33"),
            Grade::Unknown => ("?", "33"),
        };
        self.terminal.colored(mark, color)
    }

    fn bold(&self, text: &str) -> String {
        self.terminal.colored(text, "1")
    }

    fn dim(&self, text: &str) -> String {
        self.terminal.colored(text, "2")
    }

    fn write(&self) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{}", self.lines.join("\n"))
    }
}
