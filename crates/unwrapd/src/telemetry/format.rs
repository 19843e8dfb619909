//! The two forms of a log line.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogHandle;
use crate::{pipeline_events, printable};

/// Fields of pipeline events that only repeat a part of the message. Lines for people omit them.
const REPEATED: [&str; 8] = [
    "event",
    "code",
    "request",
    "outcome",
    "answer",
    "answer_status",
    "reason",
    "retry_ms",
];
/// Keys that every JSON line has.
const COMMON: [&str; 4] = ["timestamp", "level", "message", "target"];
/// Beginning of the fields that lines of the `log` crate have: target, module, file and line.
const OF_LOG_CRATE: &str = "log.";
/// Field with the target of a line of the `log` crate. The target of its metadata is always `log`.
const LOG_CRATE_TARGET: &str = "log.target";

/// Formats each line in the current form of the handle.
pub(super) struct Lines {
    log: LogHandle,
}

impl Lines {
    pub(super) fn new(log: LogHandle) -> Self {
        Self { log }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = Timestamp::now();
        let line = if self.log.is_json() {
            json(event, now)
        } else {
            human(event, now, writer.has_ansi_escapes())
        };
        writeln!(writer, "{line}")
    }
}

/// The line for people: time, level, message, fields. Every character of the message and the fields
/// that acts on a terminal is escaped: clients choose a part of the text.
fn human(event: &Event<'_>, now: Timestamp, is_colored: bool) -> String {
    let metadata = event.metadata();
    let mut text = Text {
        omits_repeated: metadata.target() == pipeline_events::TARGET,
        message: String::new(),
        fields: String::new(),
    };
    event.record(&mut text);
    let Text {
        message, fields, ..
    } = text;
    let level = metadata.level();
    if !is_colored {
        return format!("{now:.6} {level:>5} {message}{fields}");
    }
    let color = match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    format!("\x1b[2m{now:.6}\x1b[0m \x1b[{color}m{level:>5}\x1b[0m {message}{fields}")
}

/// The message and the fields of a line for people.
struct Text {
    omits_repeated: bool,
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        if name.starts_with(OF_LOG_CRATE) || self.omits_repeated && REPEATED.contains(&name) {
            return;
        }
        let text = format!("{value:?}");
        let text = printable::line(&text);
        if name == "message" {
            self.message = text.into_owned();
        } else {
            // A write to a string cannot fail.
            let _ = write!(self.fields, " {name}={text}");
        }
    }
}

/// The line as one JSON object: what every line has, then the fields.
fn json(event: &Event<'_>, now: Timestamp) -> String {
    let metadata = event.metadata();
    let mut fields = Fields {
        message: String::new(),
        target: metadata.target().to_owned(),
        others: Vec::new(),
    };
    event.record(&mut fields);
    let common = [
        ("timestamp", format!("{now:.3}")),
        ("level", metadata.level().as_str().to_ascii_lowercase()),
        ("message", fields.message),
        ("target", fields.target),
    ];
    let common = common.map(|(name, text)| (name, Value::String(text)));
    let members: Vec<String> = common
        .into_iter()
        .chain(fields.others)
        .map(|(name, value)| format!("{}:{value}", Value::from(name)))
        .collect();
    printable::json(&format!("{{{}}}", members.join(","))).into_owned()
}

/// The fields of an event, in their order.
struct Fields {
    message: String,
    target: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        // Only another crate could have such a field.
        if !COMMON.contains(&name) && !name.starts_with(OF_LOG_CRATE) {
            self.others.push((name, value.into()));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            LOG_CRATE_TARGET => value.clone_into(&mut self.target),
            _ => self.add(field, value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    /// Keeps each line in both forms: for people, then as JSON.
    struct Written(Arc<Mutex<Vec<[String; 2]>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let now = Timestamp::UNIX_EPOCH;
            let forms = [human(event, now, false), json(event, now)];
            self.0.lock().unwrap().push(forms);
        }
    }

    /// The two forms of the line that `write` writes.
    fn written(write: impl FnOnce()) -> [String; 2] {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Written(Arc::clone(&lines)));
        tracing::subscriber::with_default(subscriber, write);
        lines.lock().unwrap().pop().unwrap()
    }

    #[test]
    fn a_line_is_flat_and_safe_to_print() {
        let [human, json] = written(|| {
            tracing::warn!(
                target: "unwrapd::test",
                destination = "a\"b",
                attempt = 3_u32,
                absent = None::<u64>,
                "down:\n\u{1b}[2J \u{202e}"
            );
        });
        assert_eq!(
            human,
            r#"1970-01-01T00:00:00.000000Z  WARN down:\u{a}\u{1b}[2J \u{202e} destination="a\"b" attempt=3"#
        );
        assert_eq!(
            json,
            r#"{"timestamp":"1970-01-01T00:00:00.000Z","level":"warn","message":"down:\n\u001b[2J \u202e","target":"unwrapd::test","destination":"a\"b","attempt":3}"#
        );
    }

    /// Such a line has the path at which the crate was built.
    #[test]
    fn a_line_of_the_log_crate_has_its_target_and_no_path() {
        let [human, json] = written(|| {
            tracing::warn!(
                target: "log",
                {
                    log.target = "rustls::client",
                    log.module_path = "rustls::client",
                    log.file = "/build/rustls/client.rs",
                    log.line = 3_u32
                },
                "no such name"
            );
        });
        assert_eq!(human, "1970-01-01T00:00:00.000000Z  WARN no such name");
        assert_eq!(
            json,
            r#"{"timestamp":"1970-01-01T00:00:00.000Z","level":"warn","message":"no such name","target":"rustls::client"}"#
        );
    }

    #[test]
    fn lines_of_pipeline_events_omit_repeated_fields_and_other_lines_do_not() {
        let [human, json] = written(|| {
            tracing::info!(target: pipeline_events::TARGET, reason = "old", "refused: old");
        });
        assert_eq!(human, "1970-01-01T00:00:00.000000Z  INFO refused: old");
        assert!(json.contains(r#""reason":"old""#), "{json}");
        let [human, _] = written(|| tracing::info!(target: "h2", reason = "old", "refused"));
        assert_eq!(
            human,
            "1970-01-01T00:00:00.000000Z  INFO refused reason=\"old\""
        );
    }
}
