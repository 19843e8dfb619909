//! Filled databases. Filling takes minutes, so they are reused until the schema changes or their
//! messages are too old.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use jiff::Timestamp;
use openai_webhooks::Webhooks;
use unwrapd::message::Message;
use unwrapd::store::sqlite::SqliteStore;
use unwrapd::store::{Bounds, Recipient, Store, StoreError};

use crate::contestants::{DATABASE, ENDPOINT, Installed};
use crate::folder::Folder;
use crate::webhook::{Ids, Kind, OpenAi, SECRET};

/// Age limit of a filled database, well below the retention of messages and their ids.
const AGE_MAX: Duration = Duration::from_secs(2 * 24 * 3600);
/// Number of concurrent `accept` calls, enough for the largest commits.
const CONCURRENT_ACCEPTS: usize = 512;
const PROGRESS_EVERY: u64 = 250_000;

/// Content of a filled database.
#[derive(Clone, Copy)]
pub struct Content {
    pub messages: u64,
    pub ids: Ids,
    /// The destination for which each message has a due delivery; `None`: no deliveries.
    pub due_to: Option<&'static str>,
}

/// Path of the reusable database, filled first if necessary. Changes to it affect later runs.
pub fn cached(installed: &Installed, content: Content) -> anyhow::Result<PathBuf> {
    let Content {
        messages,
        ids,
        due_to,
    } = content;
    let schema = schema(installed)?;
    let name = format!("{schema}-{messages}-{ids:?}-{}", due_to.unwrap_or("kept"));
    let folder = installed.work.join("filled").join(name);
    let database = folder.join(DATABASE);
    let complete_marker = folder.join("whole");
    let is_fresh = || {
        Some(
            complete_marker
                .metadata()
                .ok()?
                .modified()
                .ok()?
                .elapsed()
                .ok()?
                < AGE_MAX,
        )
    };
    if is_fresh() != Some(true) {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        tokio::runtime::Runtime::new()?.block_on(fill(open(&database)?, content))?;
        File::create(complete_marker)?;
    }
    Ok(database)
}

/// A copy of the reusable database in a new folder.
pub fn copied(installed: &Installed, content: Content) -> anyhow::Result<Folder> {
    let original = cached(installed, content)?;
    let folder = Folder::new(&installed.work)?;
    let copy = folder.file(DATABASE);
    std::fs::copy(&original, &copy).context("cannot copy a filled database")?;
    // Flushed now, so that write-back does not disturb the measurement.
    File::open(copy)?.sync_all()?;
    Ok(folder)
}

/// A short digest of the schema that this version creates.
fn schema(installed: &Installed) -> anyhow::Result<String> {
    let folder = Folder::new(&installed.work)?;
    let path = folder.file(DATABASE);
    drop(open(&path)?);
    let connection = rusqlite::Connection::open(path)?;
    let tables: String = connection.query_row(
        "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema ORDER BY name)",
        (),
        |row| row.get(0),
    )?;
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(tables);
    Ok(digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn open(path: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let store = SqliteStore::open(path, &Bounds::default(), Timestamp::now())?;
    Ok(Arc::new(store))
}

/// Fills the store and closes it.
pub async fn fill(store: Arc<dyn Store>, content: Content) -> anyhow::Result<()> {
    let Content { messages, ids, .. } = content;
    eprintln!("  filling a database with {messages} messages, ids {ids:?}");
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONCURRENT_ACCEPTS {
        let (store, next) = (Arc::clone(&store), Arc::clone(&next));
        senders.spawn(async move {
            let mut openai = OpenAi::new(ids, Kind::Response);
            let webhooks = Webhooks::new(SECRET)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    return anyhow::Ok(());
                }
                if number > 0 && number % PROGRESS_EVERY == 0 {
                    eprintln!("  {number}");
                }
                let message = message(&mut openai, &webhooks)?;
                accept(&*store, message, content.due_to).await?;
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    store.close().await;
    Ok(())
}

fn message(openai: &mut OpenAi, webhooks: &Webhooks) -> anyhow::Result<Message> {
    let (headers, body) = openai.event();
    let payload = Bytes::from(body);
    let verified = webhooks.verify_signature(&payload, &headers)?;
    Ok(Message::new(
        ENDPOINT,
        &verified,
        &payload,
        Timestamp::now(),
    ))
}

async fn accept(store: &dyn Store, message: Message, due_to: Option<&str>) -> anyhow::Result<()> {
    loop {
        let recipients = due_to.map(Recipient::from).into_iter().collect();
        match store.accept(message.clone(), recipients).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Busy) => tokio::task::yield_now().await,
            Err(error) => bail!("cannot fill the store: {error}"),
        }
    }
}
