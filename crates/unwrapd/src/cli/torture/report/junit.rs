//! JUnit XML, in the form that GitLab, Jenkins and GitHub actions read: a failed check is a
//! failure, a check that was not judged is skipped, and a warning is output of a passed one.

use std::io::{self, Write as _};
use std::time::Duration;

use super::Report;
use crate::cli::torture::finding::{Finding, Grade};
use crate::printable::is_hidden;

pub(super) fn print(report: &Report) -> io::Result<()> {
    let is_failure = |finding: &&Finding| is_failure(report, finding);
    let is_skipped = |finding: &&Finding| finding.grade == Grade::Unknown && !is_failure(finding);
    let findings = || report.findings.iter();
    let cases: Vec<String> = findings().map(|finding| case(report, finding)).collect();
    writeln!(
        io::stdout().lock(),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <testsuites>\n  \
        <testsuite name=\"unwrapd torture\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{}\">\n    \
        <properties>\n      <property name=\"url\" value=\"{}\"/>\n    </properties>\n\
        {}  </testsuite>\n\
        </testsuites>",
        report.findings.len(),
        findings().filter(is_failure).count(),
        findings().filter(is_skipped).count(),
        seconds(report.took),
        escaped(&report.target),
        cases.concat()
    )
}

/// Whether the check makes the command fail. The first one does so too if nothing was graded.
fn is_failure(report: &Report, finding: &Finding) -> bool {
    match finding.grade {
        Grade::Pass => false,
        Grade::Fail => true,
        Grade::Warn => report.strict,
        Grade::Unknown => report.strict || finding.fault.is_some(),
    }
}

fn case(report: &Report, finding: &Finding) -> String {
    let Finding { check, saw, .. } = finding;
    let head = format!(
        "    <testcase classname=\"torture.{}\" name=\"{}\" time=\"{}\"",
        format!("{:?}", check.group).to_lowercase(),
        check.name,
        seconds(finding.took)
    );
    let fault = finding.fault.as_deref().unwrap_or(saw);
    let inner = match finding.grade {
        _ if is_failure(report, finding) => format!(
            "<failure message=\"{}\" type=\"{}\">{}</failure>",
            escaped(fault),
            check.name,
            escaped(&details(finding))
        ),
        Grade::Unknown => format!("<skipped message=\"not judged: {}\"/>", escaped(saw)),
        Grade::Warn => format!("<system-out>{}</system-out>", escaped(&details(finding))),
        _ => return format!("{head}/>\n"),
    };
    format!("{head}>\n      {inner}\n    </testcase>\n")
}

fn details(finding: &Finding) -> String {
    let check = finding.check;
    format!(
        "{}\nsent: {}\nexpected: {}\nsaw: {}\nwhy: {}\nremedy: {}\nmore: {}",
        finding.fault.as_deref().unwrap_or(check.fault),
        check.sent,
        check.expected,
        finding.saw,
        finding.why,
        finding.remedy,
        check.docs()
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// The text for an element or an attribute. Characters that XML 1.0 forbids, or that act on a
/// terminal, are written as `\u{…}`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped.push('\n'),
            letter if is_hidden(letter) => escaped.extend(letter.escape_unicode()),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            escaped("<a b=\"c\">&\u{0}\u{1b}]\u{fffe}é\n"),
            "&lt;a b=&quot;c&quot;&gt;&amp;\\u{0}\\u{1b}]\\u{fffe}é\n"
        );
    }
}
