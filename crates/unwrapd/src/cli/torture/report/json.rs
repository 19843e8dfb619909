//! JSON lines. `docs/reference/commands.md` has the fields, which stay as they are.

use std::io;

use serde::Serialize;

use super::Report;
use crate::cli::format::print_json;
use crate::cli::torture::checks::{CHECKS, Check, Group};
use crate::cli::torture::finding::{Finding, Grade};
use crate::cli::torture::request::{SentView, milliseconds};

#[derive(Serialize)]
struct CheckLine<'r> {
    kind: &'static str,
    name: &'static str,
    group: Group,
    grade: Grade,
    sent: &'static str,
    expected: &'static str,
    saw: &'r str,
    /// `null` if the check passed or was not judged.
    fault: Option<&'r str>,
    why: &'static str,
    remedy: &'r str,
    docs: String,
    took_ms: u64,
    requests: Vec<SentView<'r>>,
}

#[derive(Serialize)]
struct SummaryLine<'r> {
    kind: &'static str,
    url: &'r str,
    /// Whether a genuine event was accepted, so that the checks were run.
    graded: bool,
    ok: bool,
    pass: u64,
    fail: u64,
    warn: u64,
    unknown: u64,
    took_ms: u64,
}

#[derive(Serialize)]
struct ListLine {
    name: &'static str,
    group: Group,
    sent: &'static str,
    expected: &'static str,
    why: &'static str,
    remedy: &'static str,
    docs: String,
}

pub(super) fn print(report: &Report) -> io::Result<()> {
    for finding in &report.findings {
        print_json(&line(report, finding))?;
    }
    print_json(&SummaryLine {
        kind: "summary",
        url: &report.target,
        graded: report.ungraded.is_none(),
        ok: report.ungraded.is_none() && report.failures() == 0,
        pass: report.count(Grade::Pass),
        fail: report.count(Grade::Fail),
        warn: report.count(Grade::Warn),
        unknown: report.count(Grade::Unknown),
        took_ms: milliseconds(report.took),
    })
}

fn line<'r>(report: &'r Report, finding: &'r Finding) -> CheckLine<'r> {
    let Check {
        name,
        group,
        sent,
        expected,
        ..
    } = *finding.check;
    let requests = finding.sent.iter();
    CheckLine {
        kind: "check",
        name,
        group,
        grade: finding.grade,
        sent,
        expected,
        saw: &finding.saw,
        fault: finding.fault.as_deref(),
        why: finding.why,
        remedy: &finding.remedy,
        docs: finding.check.docs(),
        took_ms: milliseconds(finding.took),
        requests: requests
            .map(|sent| SentView::new(sent, report.effects(&sent.subject.webhook_id)))
            .collect(),
    }
}

pub(super) fn list() -> io::Result<()> {
    for check in CHECKS {
        print_json(&ListLine {
            name: check.name,
            group: check.group,
            sent: check.sent,
            expected: check.expected,
            why: check.why,
            remedy: check.remedy,
            docs: check.docs(),
        })?;
    }
    Ok(())
}
