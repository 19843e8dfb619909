//! The two forms of a log line.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FieldFn, Format, Full, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogHandle;
use crate::printable;

/// Fields that only repeat a part of the message. Lines for people omit them.
const REPEATED: [&str; 5] = ["event", "outcome", "answer", "reason", "retry_ms"];
/// Keys that every JSON line has.
const COMMON: [&str; 4] = ["timestamp", "level", "message", "target"];

/// Formats each line in the current form of the handle.
pub(super) struct Lines {
    log: LogHandle,
    human: Format<Full>,
}

impl Lines {
    pub(super) fn new(log: LogHandle) -> Self {
        Self {
            log,
            human: Format::default().with_target(false),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.log.is_json() {
            writeln!(writer, "{}", json(event, Timestamp::now()))
        } else {
            self.human.format_event(context, writer, event)
        }
    }
}

type WriteField = fn(&mut Writer<'_>, &Field, &dyn fmt::Debug) -> fmt::Result;

/// The message and the fields of a line for people. Every character that acts on a terminal is
/// escaped: clients choose a part of the text.
pub(super) fn human_fields() -> FieldFn<WriteField> {
    debug_fn(|writer, field, value| {
        let name = field.name();
        if REPEATED.contains(&name) {
            return Ok(());
        }
        let text = format!("{value:?}");
        let text = printable::line(&text);
        if name == "message" {
            write!(writer, "{text}")
        } else {
            write!(writer, " {name}={text}")
        }
    })
}

/// The line as one JSON object: what every line has, then the fields.
fn json(event: &Event<'_>, now: Timestamp) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let common = [
        ("timestamp", format!("{now:.3}")),
        ("level", metadata.level().as_str().to_ascii_lowercase()),
        ("message", fields.message),
        ("target", metadata.target().to_owned()),
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
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        // Only another crate could have such a field.
        if !COMMON.contains(&name) {
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
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, value);
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

    struct Written(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0
                .lock()
                .unwrap()
                .push(json(event, Timestamp::UNIX_EPOCH));
        }
    }

    #[test]
    fn a_json_line_is_flat_and_safe_to_print() {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Written(Arc::clone(&lines)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                target: "unwrapd::test",
                destination = "a\"b",
                attempt = 3_u32,
                absent = None::<u64>,
                "down:\n\u{1b}[2J \u{202e}"
            );
        });
        let expected = r#"{"timestamp":"1970-01-01T00:00:00.000Z","level":"warn","message":"down:\n\u001b[2J \u202e","target":"unwrapd::test","destination":"a\"b","attempt":3}"#;
        assert_eq!(*lines.lock().unwrap(), [expected]);
    }
}
