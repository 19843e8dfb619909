//! Writes each message as a line of JSON, to a file or to stdout.
//!
//! ```json
//! {"webhook_id":"wh_1","endpoint":"production","type":"batch.completed","received_at":"2026-01-01T00:00:00.123Z","attempt":1,"payload":{"id":"evt_1","type":"batch.completed"}}
//! ```
//! `payload` is the exact JSON that OpenAI signed: everything after the first `,"payload":` up to
//! the `}` at the end of the line. If it contains line ends, or has blanks around it, these are
//! replaced by blanks or removed, and `payload_base64` has the exact bytes. A payload that is not
//! JSON is only in `payload_base64`.

mod check;
mod file;
mod settings;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::Destination;
use crate::delivery::response_excerpt::ResponseExcerpt;
use crate::delivery::{Delivery, Outcome};
use crate::trace_context::AttemptTrace;
use file::LinesFile;
pub use settings::JsonLinesSettings;

/// Maximum number of lines that share a sync of the disk, and that wait for the next one.
const BATCH_MAX: usize = 64;

/// Delivers by writing a line. A message is delivered once its line is on the disk.
pub(crate) struct JsonLinesDestination {
    lines: mpsc::Sender<Line>,
}

impl JsonLinesDestination {
    /// Creates a destination with its own thread, because a disk, or the reader of stdout, may be
    /// slow.
    pub(crate) fn new(settings: JsonLinesSettings) -> anyhow::Result<Self> {
        let (lines, waiting) = mpsc::channel(BATCH_MAX);
        let output = match settings {
            JsonLinesSettings::File(path) => Output::File(LinesFile::new(path)),
            JsonLinesSettings::Stdout => Output::Stdout { is_torn: false },
        };
        std::thread::Builder::new()
            .name("json-lines".into())
            .spawn(move || write_all(waiting, output))
            .context("cannot start a thread to write lines")?;
        Ok(Self { lines })
    }
}

#[async_trait]
impl Destination for JsonLinesDestination {
    fn kind(&self) -> &'static str {
        "jsonl"
    }

    async fn send(&self, delivery: &Delivery, _: Option<AttemptTrace>) -> Outcome {
        const GONE: &str = "the thread that writes lines has ended: restart the gateway";
        let (written, fate) = oneshot::channel();
        let line = Line {
            bytes: line(delivery),
            written,
        };
        if self.lines.send(line).await.is_err() {
            return Outcome::failed(GONE);
        }
        match fate.await {
            Ok(Ok(())) => Outcome::Delivered {
                answer: "written".into(),
                status: None,
                said: ResponseExcerpt::default(),
            },
            Ok(Err(problem)) => Outcome::failed(problem),
            Err(_) => Outcome::failed(GONE),
        }
    }
}

/// A line, and the caller that waits for it.
struct Line {
    /// Begins with a line end, which is omitted unless the preceding line lacks one.
    bytes: Vec<u8>,
    written: oneshot::Sender<Result<(), String>>,
}

impl Line {
    fn bytes(&self, is_behind_torn: bool) -> &[u8] {
        &self.bytes[usize::from(!is_behind_torn)..]
    }
}

enum Output {
    File(LinesFile),
    Stdout {
        /// Whether the last line may be truncated.
        is_torn: bool,
    },
}

/// Takes all waiting lines, writes each with one write, and makes them durable together. If one
/// fails, all of them fail and are retried.
fn write_all(mut waiting: mpsc::Receiver<Line>, mut output: Output) {
    let mut batch = Vec::new();
    while let Some(line) = waiting.blocking_recv() {
        batch.push(line);
        while batch.len() < BATCH_MAX
            && let Ok(line) = waiting.try_recv()
        {
            batch.push(line);
        }
        // The caller has given up, so the delivery is retried.
        batch.retain(|line| !line.written.is_closed());
        let fate = match &mut output {
            Output::File(file) => file.append(&batch),
            Output::Stdout { is_torn } => {
                let printed = print(&batch, *is_torn);
                *is_torn = printed.is_err();
                printed.map_err(|error| format!("stdout: {error}"))
            }
        };
        for line in batch.drain(..) {
            drop(line.written.send(fate.clone()));
        }
    }
}

fn print(batch: &[Line], mut is_torn: bool) -> io::Result<()> {
    // Serialises with other output of this process. Nothing after the lock buffers, so no line is
    // split.
    let lock = io::stdout().lock();
    let mut stdout = std::fs::File::from(lock.as_fd().try_clone_to_owned()?);
    for line in batch {
        stdout.write_all(line.bytes(is_torn))?;
        is_torn = false;
    }
    Ok(())
}

/// The line of a delivery, with a line end before and after it.
fn line(delivery: &Delivery) -> Vec<u8> {
    #[derive(Serialize)]
    struct Record<'a> {
        webhook_id: &'a str,
        endpoint: &'a str,
        #[serde(rename = "type")]
        event_type: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        origin: Option<&'a str>,
        received_at: String,
        attempt: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload_base64: Option<String>,
        // Last, so that it can be found without a parser.
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Box<RawValue>>,
    }
    let message = &delivery.message;
    let payload = on_one_line(&message.payload);
    let is_exact = payload
        .as_ref()
        .is_some_and(|json| json.get().as_bytes() == &*message.payload);
    let record = Record {
        webhook_id: &message.webhook_id,
        endpoint: &message.endpoint,
        event_type: message.event_type.as_deref(),
        resource: message.resource(),
        origin: message.origin.column(),
        received_at: message.received_at.to_string(),
        attempt: delivery.attempt,
        payload_base64: (!is_exact).then(|| STANDARD.encode(&message.payload)),
        payload,
    };
    let mut line = b"\n".to_vec();
    serde_json::to_writer(&mut line, &record).expect("texts and numbers into memory");
    line.push(b'\n');
    line
}

/// The payload without line ends, if it is JSON. In JSON, line ends are only between tokens, where
/// a blank has the same meaning.
fn on_one_line(payload: &[u8]) -> Option<Box<RawValue>> {
    let text = str::from_utf8(payload).ok()?;
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Message, Origin};

    fn line_of(payload: &[u8]) -> Vec<u8> {
        let message = Message {
            origin: Origin::OpenAi,
            endpoint: "production".into(),
            // No id looks like this; it shows that the key is found reliably.
            webhook_id: r#"x","payload":"#.into(),
            event_type: Some(r#"","payload":{"#.into()),
            sent_at: Timestamp::UNIX_EPOCH,
            received_at: Timestamp::UNIX_EPOCH,
            secret: None,
            payload: Bytes::copy_from_slice(payload),
        };
        line(&Delivery::unstored("file", message))
    }

    /// Finds the payload as the documentation describes.
    fn payload_in(line: &[u8]) -> Vec<u8> {
        let line = str::from_utf8(line).unwrap();
        let line = line.strip_prefix('\n').unwrap().strip_suffix('\n').unwrap();
        assert!(!line.contains(['\n', '\r']));
        let fields: HashMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
        if let Some(exact) = fields.get("payload_base64") {
            return STANDARD.decode(exact.get().trim_matches('"')).unwrap();
        }
        let (_, rest) = line.split_once(r#","payload":"#).unwrap();
        rest.strip_suffix('}').unwrap().into()
    }

    #[test]
    fn json_that_fits_on_a_line_is_written_unchanged() {
        let payload = br#"{ "type":"a" ,"n":[1e400,0.10,"r\u00e9"],"n":1}"#;
        let line = line_of(payload);
        assert!(!line.windows(6).any(|part| part == b"base64"));
        assert_eq!(payload_in(&line), payload);
    }

    #[test]
    fn other_json_is_written_beside_its_exact_bytes() {
        let line = line_of(b" {\r\n  \"type\": \"a\"\n}\n");
        let fields: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(fields["payload"]["type"], "a");
        assert_eq!(payload_in(&line), b" {\r\n  \"type\": \"a\"\n}\n");
    }

    proptest! {
        #[test]
        fn any_payload_can_be_recovered_byte_for_byte(payload: Vec<u8>) {
            prop_assert_eq!(payload_in(&line_of(&payload)), payload);
        }

        #[test]
        fn any_payload_close_to_json_can_be_recovered_byte_for_byte(payload in r#"[ \n\r]?[{\["]{0,2}[a-z0-9:", \n\r]{0,8}[}\]"]{0,2}[ \n\r]?"#) {
            prop_assert_eq!(payload_in(&line_of(payload.as_bytes())), payload.as_bytes());
        }
    }
}
