//! The report, for people and for programs.

mod human;
mod json;
mod junit;

use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Url;

use super::effects::Counts;
use super::finding::{Finding, Grade};
use super::gate::End;
use crate::printable::counted;

#[derive(Args)]
pub(super) struct OutputArguments {
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Human,
    /// JSON lines: one object for each check, and one for the whole
    Json,
    /// JUnit XML, for CI
    Junit,
}

pub(super) struct Report {
    /// The URL without its query, which may hold a key.
    pub(super) target: String,
    pub(super) findings: Vec<Finding>,
    pub(super) counts: Option<Counts>,
    /// Why the handler was not graded; the first finding has the rest.
    pub(super) ungraded: Option<End>,
    /// Whether warnings and checks that were not judged count as failures.
    pub(super) strict: bool,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn count(&self, grade: Grade) -> u64 {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.grade == grade).count() as u64
    }

    /// Number of findings that make the command fail.
    pub(super) fn failures(&self) -> u64 {
        let failed = self.count(Grade::Fail);
        if self.strict {
            failed + self.count(Grade::Warn) + self.count(Grade::Unknown)
        } else {
            failed
        }
    }

    /// Number of times that the event of a webhook was processed, if that was counted.
    fn effects(&self, webhook_id: &str) -> Option<u64> {
        self.counts.as_ref()?.of(webhook_id)
    }

    /// The numbers in one line: "23 checks: 19 passed, 1 failed, 3 not judged".
    fn numbers(&self) -> String {
        let all = counted(self.findings.len() as u64, "check", "checks");
        let parts = [
            (Grade::Pass, "passed"),
            (Grade::Fail, "failed"),
            (Grade::Warn, "with a warning"),
            (Grade::Unknown, "not judged"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(grade, _)| self.count(*grade) > 0)
            .map(|(grade, word)| format!("{} {word}", self.count(*grade)))
            .collect();
        format!("{all}: {}", parts.join(", "))
    }
}

impl OutputArguments {
    pub(super) fn print(&self, report: &Report) -> std::io::Result<()> {
        match self.output {
            Output::Human => human::print(report),
            Output::Json => json::print(report),
            Output::Junit => junit::print(report),
        }
    }

    /// Prints the table of checks.
    pub(super) fn list(&self) -> std::io::Result<()> {
        match self.output {
            Output::Json => json::list(),
            Output::Human | Output::Junit => human::list(),
        }
    }
}

/// A URL for a report.
pub(super) fn target(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}
