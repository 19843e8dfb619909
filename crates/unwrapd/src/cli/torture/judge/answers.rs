//! The answers to one check, or to all, by its rule.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Ruling;
use crate::cli::torture::finding::{
    COPIES_REFUSED, ERROR_FOR_FORGERY, GONE_FOR_FORGERY, Grade, OTHER_FOR_FORGERY,
};
use crate::cli::torture::request::{Answer, Sent, Wish};
use crate::cli::torture::runner::Observed;

/// Most requests with one answer that are named.
const NAMED_MAX: usize = 6;

/// The genuine events of a check.
pub(super) fn accepted(one: &Observed) -> Ruling {
    let genuine: Vec<&Sent> = one
        .sent
        .iter()
        .filter(|sent| sent.wish != Wish::Refused)
        .collect();
    let mut saw = summary(&genuine);
    if let Some(rest) = &one.not_sent {
        saw = format!("{saw}; {rest}");
    }
    let is_refused = |wish: Wish| {
        let mut sent = genuine.iter().filter(|sent| sent.wish == wish);
        sent.any(|sent| sent.reply.is_some() && !sent.is_accepted())
    };
    if is_refused(Wish::Accepted) {
        Ruling::new(Grade::Fail, saw)
    } else if is_refused(Wish::RatherAccepted) {
        Ruling::new(Grade::Warn, saw)
    } else {
        Ruling::new(Grade::Pass, saw)
    }
}

pub(super) fn refused(sent: &[Sent]) -> Ruling {
    let saw = summary(&sent.iter().collect::<Vec<_>>());
    if sent.iter().any(Sent::is_accepted) {
        return Ruling::new(Grade::Fail, saw);
    }
    let is = |range: RangeInclusive<u16>| {
        move |sent: &Sent| sent.status().is_some_and(|status| range.contains(&status))
    };
    let fault = if sent.iter().any(is(410..=410)) {
        &GONE_FOR_FORGERY
    } else if sent.iter().any(is(500..=599)) {
        &ERROR_FOR_FORGERY
    } else if sent.iter().all(is(400..=499)) {
        return Ruling::new(Grade::Pass, saw);
    } else {
        &OTHER_FOR_FORGERY
    };
    Ruling::new(Grade::Warn, saw).with_fault(fault)
}

/// Copies at the same time, and a last one.
pub(super) fn copies(sent: &[Sent]) -> Ruling {
    let Some((last, copies)) = sent.split_last() else {
        return Ruling::new(Grade::Unknown, "nothing was sent");
    };
    let all: Vec<&Sent> = copies.iter().collect();
    let saw = format!("{}, then {}", summary(&all), last.said());
    if !last.is_accepted() {
        return Ruling::new(Grade::Fail, saw);
    }
    if copies.iter().all(Sent::is_accepted) {
        return Ruling::new(Grade::Pass, saw);
    }
    Ruling::new(Grade::Warn, saw).with_fault(&COPIES_REFUSED)
}

/// The slowest answer to a genuine event that was alone.
pub(super) fn prompt(all: &[Observed], within: Duration) -> Ruling {
    let answers = all.iter().flat_map(|one| {
        let alone = genuine_answers(one).filter(|(sent, _)| sent.alone);
        alone.map(move |(sent, answer)| (one, sent, answer))
    });
    let Some((one, sent, slowest)) = answers.max_by_key(|(_, _, answer)| answer.took) else {
        return Ruling::new(Grade::Unknown, "no genuine event was accepted");
    };
    let label = match one.sent.len() {
        1 => String::new(),
        _ => format!(" ({})", sent.label),
    };
    let saw = format!(
        "slowest answer {}, in {}{label}",
        shown(slowest.took),
        one.check.name
    );
    if slowest.took > within {
        return Ruling::new(
            Grade::Fail,
            format!("{saw}; the limit is {}", shown(within)),
        );
    }
    Ruling::new(Grade::Pass, saw)
}

pub(super) fn exactly_200(all: &[Observed]) -> Ruling {
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for (_, answer) in all.iter().flat_map(genuine_answers) {
        *statuses.entry(answer.status).or_default() += 1;
    }
    let saw: Vec<String> = statuses
        .iter()
        .map(|(status, count)| format!("{count} with {status}"))
        .collect();
    let saw = format!("answers to genuine events: {}", saw.join(", "));
    match statuses.keys().collect::<Vec<_>>()[..] {
        [] => Ruling::new(Grade::Unknown, "no genuine event was accepted"),
        [200] => Ruling::new(Grade::Pass, "200 for every genuine event"),
        _ => Ruling::new(Grade::Warn, saw),
    }
}

/// The answers by which genuine events were accepted.
fn genuine_answers(one: &Observed) -> impl Iterator<Item = (&Sent, &Answer)> {
    let genuine = one.sent.iter().filter(|sent| sent.wish != Wish::Refused);
    genuine.filter_map(|sent| match &sent.reply {
        Some(Ok(answer)) if answer.is_success() => Some((sent, answer)),
        _ => None,
    })
}

/// The answers in a few words: "200", "200 for all 34", or those that stand out first: "500 for
/// batch.failed; 200 for the other 33".
fn summary(sent: &[&Sent]) -> String {
    let answered = sent.iter().filter(|sent| sent.reply.is_some());
    let mut groups: BTreeMap<(bool, String), Vec<&str>> = BTreeMap::new();
    for sent in answered {
        let group = groups
            .entry((sent.is_as_wished(), sent.said()))
            .or_default();
        group.push(&sent.label);
    }
    if let [((_, said), labels)] = &groups.iter().collect::<Vec<_>>()[..] {
        return match labels.len() {
            1 => said.clone(),
            2 => format!("{said} for both"),
            count => format!("{said} for all {count}"),
        };
    }
    let last = groups.len() - 1;
    let groups = groups.iter().enumerate();
    let parts: Vec<String> = groups
        .map(|(place, ((_, said), labels))| match labels.len() {
            count if count > 1 && place == last => format!("{said} for the other {count}"),
            count if count > NAMED_MAX => {
                let named = labels[..NAMED_MAX].join(", ");
                format!("{said} for {named} and {} more", count - NAMED_MAX)
            }
            _ => format!("{said} for {}", labels.join(", ")),
        })
        .collect();
    parts.join("; ")
}

pub(super) fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        count => format!("{count} times"),
    }
}

/// A time as people read it: "12 ms", "3.4 s".
pub(in crate::cli::torture) fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::torture::judge::tests::sent;

    fn summary_of(answers: &[(&str, u16)]) -> String {
        let sent = answers.iter().map(|(label, status)| sent(label, *status));
        let sent: Vec<Sent> = sent.collect();
        summary(&sent.iter().collect::<Vec<_>>())
    }

    #[test]
    fn equal_answers_are_counted_and_those_that_stand_out_are_named_first() {
        let good = |labels: &'static str| labels.split(' ').map(|label| (label, 200));
        for (answers, expected) in [
            (vec![("a", 200)], "200"),
            (good("a b").collect(), "200 for both"),
            (good("a b c").collect(), "200 for all 3"),
            (
                good("a b").chain([("c", 500)]).collect(),
                "500 for c; 200 for the other 2",
            ),
            (vec![("a", 200), ("b", 404)], "404 for b; 200 for a"),
            (
                "a b c d e f g h"
                    .split(' ')
                    .map(|label| (label, 400))
                    .chain(good("i"))
                    .collect(),
                "400 for a, b, c, d, e, f and 2 more; 200 for i",
            ),
        ] {
            assert_eq!(summary_of(&answers), expected);
        }
    }
}
