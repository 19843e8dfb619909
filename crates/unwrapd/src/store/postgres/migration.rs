//! Brings the schema up to date: forward only, each step in one transaction. Gateways that start at once wait for each other.

use std::time::Duration;

use super::address::PostgresAddress;
use super::failure::Failure;
use super::link::{Begin, Link, given};
use super::rows::natural;
use crate::store::StoreError;

/// Each brings the schema from the version before. They are never changed, only followed.
const MIGRATIONS: &[&str] = &[include_str!("0001_store.sql")];

/// `unwr` in ASCII: which lock is ours, beside the schema.
const LOCK: i32 = 0x756E_7772;
/// How long a step may take, the wait for another gateway that takes it included.
const STEP_TIME: Duration = Duration::from_secs(3600);

/// Brings it up to the present version.
pub(super) async fn run(link: &Link, address: &PostgresAddress) -> Result<(), Failure> {
    let schema = address.schema();
    let begin = Begin::new(schema, "on", STEP_TIME);
    loop {
        link.begin(&begin).await?;
        // Held until the transaction ends, whoever ends it.
        let lock = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
        link.query(&begin, lock, given![LOCK => INT4, schema => TEXT])
            .await?;
        let version = version(link, &begin, schema).await?;
        let Some(migration) = MIGRATIONS.get(version) else {
            link.commit(&begin).await?;
            return Ok(());
        };
        if version > 0 {
            tracing::info!(
                "bringing the store from schema {version} to {}",
                version + 1
            );
        }
        link.batch(STEP_TIME, migration).await?;
        let note = "INSERT INTO migration (version) VALUES ($1)";
        let to = i64::try_from(version + 1).unwrap_or(i64::MAX);
        link.query(&begin, note, given![to => INT8]).await?;
        link.commit(&begin).await?;
    }
}

/// How many migrations were made. Makes what they are counted in.
async fn version(link: &Link, begin: &Begin, schema: &str) -> Result<usize, Failure> {
    let look = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
                       EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'migration'),
                       EXISTS (SELECT FROM pg_tables WHERE schemaname = $1)";
    let rows = link.query(begin, look, given![schema => TEXT]).await?;
    let (mut is_there, mut is_ours, mut has_tables) = (false, false, false);
    if let Some(row) = rows.first() {
        (is_there, is_ours, has_tables) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    if has_tables && !is_ours {
        return Err(unusable(format!(
            "the schema {schema} holds tables of another application; name another one with `?schema=NAME` in the URL"
        )));
    }
    if !is_there {
        link.batch(STEP_TIME, &format!("CREATE SCHEMA {schema}"))
            .await?;
    }
    if !is_ours {
        let make = "CREATE TABLE migration (version bigint PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now())";
        link.batch(STEP_TIME, make).await?;
        return Ok(0);
    }
    let count = "SELECT coalesce(max(version), 0) FROM migration";
    let rows = link.query(begin, count, &[]).await?;
    let version: usize = rows.first().map_or(Ok(0), |row| natural(row, 0))?;
    if version > MIGRATIONS.len() {
        return Err(unusable(
            "the schema was written by a newer version of unwrapd; run that version".into(),
        ));
    }
    Ok(version)
}

fn unusable(problem: String) -> Failure {
    Failure::OfTheStore(StoreError::Unusable(problem))
}
