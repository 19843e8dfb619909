//! Times, numbers and marks of the pages.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use crate::printable;
use crate::store::filter::Status;

/// Meaning of a mark, which has a shape as well as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Waiting,
    Bad,
    Neutral,
}

impl Mark {
    /// The mark, with its meaning for screen readers.
    pub(super) fn show(self, meaning: &str) -> Markup {
        let (class, shape) = match self {
            Self::Good => ("ok", "✓"),
            Self::Waiting => ("wait", "○"),
            Self::Bad => ("bad", "✕"),
            Self::Neutral => ("faint", "–"),
        };
        html! { span.mark.(class) role="img" aria-label=(meaning) title=(meaning) { (shape) } }
    }

    pub(super) fn of(status: Status) -> Self {
        match status {
            Status::Delivered => Self::Good,
            Status::Waiting => Self::Waiting,
            Status::Dead => Self::Bad,
            _ => Self::Neutral,
        }
    }
}

/// A duration in its largest unit: `3 s`, `14 min`, `2 h`, `5 d`.
pub(super) fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A duration in words, for sentences: `14 minutes`.
pub(super) fn long_span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// A short duration: `0.4 ms`, `31 ms`, `1.2 s`, `3 min`.
pub(super) fn milliseconds(ms: i64) -> String {
    match ms.unsigned_abs() {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => {
            // A tenth of a second is exact enough, and no number of this size is inexact.
            let tenths = ms / 100;
            format!("{}.{} s", tenths / 10, (tenths % 10).abs())
        }
        _ => span(SignedDuration::from_millis(ms)),
    }
}

/// A time in the past: `3 s ago`.
pub(super) fn ago(now: Timestamp, at: Timestamp) -> Markup {
    time(at, "ago", &format!("{} ago", span(now.duration_since(at))))
}

/// The age of a time: `3 s`.
pub(super) fn age(now: Timestamp, at: Timestamp) -> Markup {
    time(at, "age", &span(now.duration_since(at)))
}

/// A time in the future: `in 9 s`.
pub(super) fn from_now(now: Timestamp, at: Timestamp) -> Markup {
    let text = if at <= now {
        "now".to_owned()
    } else {
        format!("in {}", span(at.duration_since(now)))
    };
    time(at, "in", &text)
}

/// A time of day, and the date if it is not today.
pub(super) fn clock(now: Timestamp, at: Timestamp) -> Markup {
    let is_today = now.strftime("%F").to_string() == at.strftime("%F").to_string();
    let format = if is_today { "%T UTC" } else { "%F %T UTC" };
    time(at, "clock", &at.strftime(format).to_string())
}

/// A time. The script writes it anew as `form` says, and shows the exact time in the zone of the
/// reader.
fn time(at: Timestamp, form: &str, text: &str) -> Markup {
    let exact = at.strftime("%FT%T%.3fZ").to_string();
    let title = at.strftime("%F %T UTC").to_string();
    html! { time datetime=(exact) data-form=(form) title=(title) { (text) } }
}

/// A text whose names stand between backticks, as in the log. It may be untrusted.
pub(super) fn marked(text: &str) -> Markup {
    let text = printable::line(text);
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A number with commas: `4,812`.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 delivery`, `4,812 deliveries`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// A size in bytes: `169 bytes`, `12 KiB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => counted(bytes, "byte", "bytes"),
        10_240..1_048_576 => format!("{} KiB", bytes / 1_024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_largest_unit() {
        let shown = |seconds| span(SignedDuration::from_secs(seconds));
        assert_eq!(shown(-5), "0 s");
        assert_eq!(shown(59), "59 s");
        assert_eq!(shown(60), "1 min");
        assert_eq!(shown(3_599), "59 min");
        assert_eq!(shown(47 * 3_600), "47 h");
        assert_eq!(shown(72 * 3_600), "3 d");
        assert_eq!(long_span(SignedDuration::from_secs(60)), "1 minute");
        assert_eq!(long_span(SignedDuration::from_secs(840)), "14 minutes");
    }

    #[test]
    fn milliseconds_become_seconds_from_a_second_on() {
        assert_eq!(milliseconds(31), "31 ms");
        assert_eq!(milliseconds(1_234), "1.2 s");
        assert_eq!(milliseconds(-1_234), "-1.2 s");
        assert_eq!(milliseconds(180_000), "3 min");
    }

    #[test]
    fn a_number_has_a_comma_before_each_three_digits() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1,000");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(counted(1, "delivery", "deliveries"), "1 delivery");
    }
}
