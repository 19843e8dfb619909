//! The posted webhooks: the number of a webhook decides its id, its bytes and its destinations.
//! These functions are pure, so nothing has to be recorded.

/// Types of events: wanted by the first destination, the second, both or none. `None`: a body that
/// is no event. Calls are omitted: they expire by design when they cannot be delivered at once.
const KINDS: [Option<&str>; 8] = [
    Some("response.completed"),
    Some("batch.completed"),
    Some("response.cancelled"),
    Some("eval.run.succeeded"),
    Some("response.invented_tomorrow"),
    Some("batch.failed"),
    Some("fine_tuning.job.succeeded"),
    None,
];
/// One out of so many webhooks has a body of many pages.
const LARGE_ONE_IN: u64 = 17;
const LARGE_LETTERS: usize = 30_000;

pub fn id(number: usize) -> String {
    format!("wh_{number}")
}

/// The number in an id of any form.
pub fn number(id: &str) -> Option<usize> {
    let number = id.strip_prefix("wh_")?.parse().ok()?;
    // `wh_007` is not one of our ids.
    (self::id(number) == id).then_some(number)
}

pub fn kind(number: usize) -> Option<&'static str> {
    KINDS[number % KINDS.len()]
}

pub fn payload(number: usize) -> String {
    let letters = match number as u64 % LARGE_ONE_IN {
        0 => LARGE_LETTERS,
        rest => usize::try_from(rest * 13).unwrap(),
    };
    let note = "x".repeat(letters);
    match kind(number) {
        // Blanks, escapes and letters that a new serialisation would change.
        Some(kind) => format!(
            "{{ \"type\":\"{kind}\",\r\n\"id\" : \"evt_{number}\", \"object\":\"event\", \
             \"created_at\":1750287018, \"data\":{{\"id\":\"r\\u00e9é_{number}\"}},\"note\":\"{note}\"}} "
        ),
        None => format!("no event, {number}: {note}"),
    }
}

/// The two destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    App,
    Audit,
}

impl Destination {
    pub const ALL: [Self; 2] = [Self::App, Self::Audit];

    pub fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Audit => "audit",
        }
    }

    pub fn secret(self) -> &'static str {
        match self {
            Self::App => "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA",
            Self::Audit => "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3",
        }
    }

    /// The patterns of the destination, as in the configuration.
    pub fn events(self) -> &'static str {
        match self {
            Self::App => r#"["response.*", "batch.*", "!response.cancelled"]"#,
            Self::Audit => r#"["!response.*"]"#,
        }
    }

    /// The meaning of these patterns, implemented independently of the gateway.
    pub fn wants(self, number: usize) -> bool {
        match (self, kind(number)) {
            (Self::App, Some("response.cancelled") | None) => false,
            (Self::App, Some(kind)) => kind.starts_with("response.") || kind.starts_with("batch."),
            (Self::Audit, Some(kind)) => !kind.starts_with("response."),
            (Self::Audit, None) => true,
        }
    }
}
