//! Reads the content of the store with SQL of its own, independently of the code of the gateway.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::crash::webhooks::{self, Destination};

/// The content of a store, by `webhook-id`.
pub type StoredWebhooks = HashMap<String, StoredWebhook>;

/// The messages with one `webhook-id`, and their deliveries.
#[derive(Default)]
pub struct StoredWebhook {
    /// Number of messages with this id.
    pub copies: u32,
    /// Whether bytes and type are those that were posted.
    pub is_exact: bool,
    pub deliveries: Vec<StoredDelivery>,
}

/// A delivery, with its settled attempts.
pub struct StoredDelivery {
    pub destination: String,
    pub is_delivered: bool,
    /// Attempts that were settled as a success.
    pub succeeded: usize,
    /// All other settled attempts.
    pub failed: usize,
}

/// Reads the whole store, which no process has open.
pub fn read(path: &Path) -> rusqlite::Result<StoredWebhooks> {
    let store = open(path)?;
    let sound: String = store.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    assert_eq!(sound, "ok", "the database is damaged");

    let mut stored = StoredWebhooks::new();
    let mut messages = store.prepare(
        "SELECT webhook_id, event_type, bytes FROM message LEFT JOIN payload USING (seq)",
    )?;
    let mut rows = messages.query(())?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let kind: Option<String> = row.get(1)?;
        let payload: Option<Vec<u8>> = row.get(2)?;
        let is_exact = webhooks::number(&id).is_some_and(|number| {
            payload.as_deref() == Some(webhooks::payload(number).as_bytes())
                && kind.as_deref() == webhooks::kind(number)
        });
        let webhook = stored.entry(id).or_default();
        webhook.is_exact = is_exact && (webhook.copies == 0 || webhook.is_exact);
        webhook.copies += 1;
    }

    let mut deliveries = store.prepare(
        "SELECT webhook_id, destination, state = 'delivered',
                count(number) FILTER (WHERE summary LIKE 'HTTP 2%'), count(number) FILTER (WHERE summary NOT LIKE 'HTTP 2%')
         FROM delivery JOIN message ON message.seq = delivery.message LEFT JOIN attempt ON attempt.delivery = delivery.id
         GROUP BY delivery.id",
    )?;
    let mut rows = deliveries.query(())?;
    while let Some(row) = rows.next()? {
        let webhook = stored.entry(row.get(0)?).or_default();
        webhook.deliveries.push(StoredDelivery {
            destination: row.get(1)?,
            is_delivered: row.get(2)?,
            succeeded: row.get(3)?,
            failed: row.get(4)?,
        });
    }
    Ok(stored)
}

/// Number of deliveries that wait for an attempt, or for the end of one.
pub fn open_deliveries(path: &Path) -> u64 {
    open(path)
        .and_then(|store| {
            store.query_row(
                "SELECT count(*) FROM delivery WHERE state = 'waiting'",
                (),
                |row| row.get(0),
            )
        })
        .unwrap()
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

impl StoredWebhook {
    /// The deliveries to a destination. More than one is an offence.
    pub fn to(&self, destination: Destination) -> impl Iterator<Item = &StoredDelivery> {
        self.deliveries
            .iter()
            .filter(move |delivery| delivery.destination == destination.name())
    }
}
