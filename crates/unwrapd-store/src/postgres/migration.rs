//! Migrates the schema. Migration only goes forward; each step is one transaction. Gateways that
//! start at the same time wait for each other.

use std::time::Duration;

use crate::error::StoreError;
use crate::postgres::connect::address::PostgresAddress;
use crate::postgres::connect::connection::{Begin, PgConnection, Work, params};
use crate::postgres::connect::failure::{self, Failure};
use crate::postgres::fleet::heartbeat;
use crate::postgres::rows::natural;

/// Each migration starts from the previous version. A released migration is never changed.
const MIGRATIONS: &[&str] = &[include_str!("0001_schema.sql")];

/// Finds the mark of an incomplete copy.
const HALF: &str = "SELECT 1 FROM copying";

/// `unwr` in ASCII: our part of the key of the advisory lock, besides the schema.
const LOCK: i32 = 0x756E_7772;
/// Maximum duration of a step, including the wait for another gateway that makes it.
const STEP_TIME: Duration = Duration::from_secs(3600);

/// Version of the schema that this program reads and writes.
pub(crate) const VERSION: usize = MIGRATIONS.len();

/// Migrates to the present version, and returns whether the schema was created. Registers the
/// gateway `holder`, if given, unless the schema holds an incomplete copy.
pub(crate) async fn run(
    link: &PgConnection,
    address: &PostgresAddress,
    holder: Option<i64>,
) -> Result<bool, Failure> {
    let schema = address.schema();
    let begin = Begin::new(schema, "on", STEP_TIME);
    let mut is_new = false;
    loop {
        link.begin(&begin).await?;
        lock(link, &begin, schema).await?;
        let version = version(link, &begin, schema).await?;
        is_new |= version == 0;
        if version > 0 && holder.is_some() && !link.query(&begin, HALF, &[]).await?.is_empty() {
            return Err(half_copied(schema));
        }
        let Some(migration) = MIGRATIONS.get(version) else {
            if let Some(holder) = holder {
                heartbeat::register(link, &begin, holder).await?;
            }
            link.commit(&begin).await?;
            return Ok(is_new);
        };
        if version > 0 {
            tracing::info!(
                "migrating the store from schema {version} to {}",
                version + 1
            );
        }
        link.batch(STEP_TIME, migration).await?;
        let note = "INSERT INTO migration (version) VALUES ($1)";
        let to = i64::try_from(version + 1).unwrap_or(i64::MAX);
        link.query(&begin, note, params![to => INT8]).await?;
        link.commit(&begin).await?;
    }
}

/// Locks out other migrations, starts and copies until the transaction ends.
pub(crate) async fn lock(link: &PgConnection, begin: &Begin, schema: &str) -> Result<(), Failure> {
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
    let given = params![LOCK => INT4, schema => TEXT];
    link.query(begin, lock, given).await.map(drop)
}

/// Returns an error if a copy into the schema is incomplete.
pub(crate) async fn check_whole(
    link: &PgConnection,
    begin: &Begin,
    schema: &str,
) -> Result<(), Failure> {
    if link
        .once(begin, Work::Statement(HALF), &[])
        .await?
        .is_empty()
    {
        return Ok(());
    }
    Err(half_copied(schema))
}

fn half_copied(schema: &str) -> Failure {
    unusable(format!(
        "the schema {schema} has an incomplete copy: run the same `unwrapd db copy` again to continue it, or drop the schema"
    ))
}

/// Whether the schema holds a store. Returns an error for another version, or for tables of another
/// application.
pub(crate) async fn check_present(
    link: &PgConnection,
    begin: &Begin,
    schema: &str,
) -> Result<bool, Failure> {
    link.begin(begin).await?;
    let version = if There::look(link, begin, schema).await?.is_ours {
        count(link, begin).await?
    } else {
        0
    };
    link.commit(begin).await?;
    if version > 0 && version < MIGRATIONS.len() {
        return Err(unusable(format!(
            "the schema {schema} was written by an earlier version of unwrapd; start a gateway on it once to migrate it"
        )));
    }
    Ok(version > 0)
}

/// Number of migrations made. Creates the table that counts them.
async fn version(link: &PgConnection, begin: &Begin, schema: &str) -> Result<usize, Failure> {
    let there = There::look(link, begin, schema).await?;
    if !there.is_there {
        link.batch(STEP_TIME, &format!("CREATE SCHEMA \"{schema}\""))
            .await?;
    }
    if there.is_ours {
        return count(link, begin).await;
    }
    let make = "CREATE TABLE migration (version bigint PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now())";
    link.batch(STEP_TIME, make).await?;
    Ok(0)
}

async fn count(link: &PgConnection, begin: &Begin) -> Result<usize, Failure> {
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

/// The current content of the schema.
struct There {
    is_there: bool,
    is_ours: bool,
}

impl There {
    async fn look(link: &PgConnection, begin: &Begin, schema: &str) -> Result<Self, Failure> {
        let look = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
                           EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'migration'),
                           EXISTS (SELECT FROM pg_tables WHERE schemaname = $1),
                           (SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace
                            WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE'))";
        let rows = link.query(begin, look, params![schema => TEXT]).await?;
        let (mut is_there, mut is_ours, mut has_tables) = (false, false, false);
        if let Some(row) = rows.first() {
            (is_there, is_ours, has_tables) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        }
        let owner: Option<String> = rows.first().map_or(Ok(None), |row| row.try_get(3))?;
        if let Some(owner) = owner {
            return Err(unusable(format!(
                "the schema {schema} belongs to the role {owner:?}, and the configured role may not use it: {}",
                failure::SAME_ROLE
            )));
        }
        if has_tables && !is_ours {
            return Err(unusable(format!(
                "the schema {schema} has tables of another application; name another schema with `?schema=NAME` in the URL"
            )));
        }
        Ok(Self { is_there, is_ours })
    }
}

fn unusable(problem: String) -> Failure {
    Failure::OfTheStore(StoreError::Unusable(problem))
}
