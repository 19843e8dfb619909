//! Checks whether the content of a schema is consistent. It only reads, so it may run beside
//! gateways. Use the server's own tools to check pages and indexes.

use std::time::Duration;

use crate::check::Check;
use crate::error::StoreError;
use crate::postgres::connect::address::PostgresAddress;
use crate::postgres::connect::connection::{Begin, PgConnection, Work, params};
use crate::postgres::connect::failure::Failure;
use crate::postgres::connect::hosts::{Connected, Hosts};
use crate::postgres::migration;
use crate::postgres::rows::natural;

/// Maximum duration of a scan of all rows.
const LOOK_TIME: Duration = Duration::from_secs(3600);

const SIZE: &str = "
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::int8
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relkind = 'r'";

/// Rows that must not exist. Each statement sees the database at one moment.
const WRONG: [(&str, &[(&str, &str)]); 2] = [
    (
        "messages",
        &[
            (
                "have lost their payload",
                "SELECT count(*) FROM message LEFT JOIN payload USING (partition, seq) WHERE partition IS NOT NULL AND bytes IS NULL",
            ),
            (
                "have their payload in a partition that will be filled again",
                "SELECT count(*) FROM message JOIN payload_partition USING (partition)
                 WHERE opened_at IS NULL AND partition <> (SELECT partition FROM current_partition)",
            ),
        ],
    ),
    (
        "deliveries",
        &[
            (
                "belong to no message",
                "SELECT count(*) FROM delivery WHERE NOT EXISTS (SELECT FROM message WHERE seq = delivery.id >> 8)",
            ),
            (
                "wait for a payload that is missing",
                "SELECT count(*) FROM delivery JOIN message ON seq = delivery.id >> 8 WHERE state = 'waiting' AND partition IS NULL",
            ),
            (
                "have an unknown state or lane",
                "SELECT count(*) FROM delivery WHERE state NOT IN ('waiting', 'delivered', 'dead') OR lane NOT IN ('call', 'standard')",
            ),
            (
                "may be claimed before they are due",
                "SELECT count(*) FROM delivery WHERE state = 'waiting' AND ready_at < due_at",
            ),
            (
                "are missing, but have attempts",
                "SELECT count(DISTINCT attempt.delivery) FROM attempt LEFT JOIN delivery ON delivery.id = attempt.delivery
                 WHERE delivery.id IS NULL",
            ),
            (
                "messages are not rightly listed as unrouted",
                "SELECT count(*) FROM message
                 WHERE (is_unrouted IS TRUE) <> (partition IS NOT NULL AND NOT EXISTS (
                     SELECT FROM delivery WHERE id BETWEEN message.seq * 256 AND message.seq * 256 + 255 OFFSET 0))",
            ),
        ],
    ),
];

/// Findings if nothing is wrong.
const SOUND: [&str; 2] = [
    "SELECT count(*) || ' stored, ' || count(partition) || ' of them with their payload' FROM message",
    "SELECT count(*) FILTER (WHERE state = 'waiting') || ' wait, ' || count(*) FILTER (WHERE state <> 'waiting') || ' are settled'
     FROM delivery",
];

/// Makes all checks. `None`: there is no store in that schema. An error means that it cannot be
/// read.
pub async fn check(address: &PostgresAddress) -> Result<Option<Vec<Check>>, StoreError> {
    let Connected { link, does, .. } = Hosts::new(address)?.connect(None).await?;
    let schema = address.schema();
    let begin = Begin::new(schema, &does.synchronous_commit, LOOK_TIME);
    if !migration::check_present(&link, &begin, schema).await? {
        return Ok(None);
    }
    migration::check_whole(&link, &begin, schema).await?;
    let rows = link
        .once(&begin, Work::Statement(SIZE), params![schema => TEXT])
        .await?;
    let bytes: u64 = rows.first().map_or(Ok(0), |row| natural(row, 0))?;
    let mut checks = vec![Check {
        name: "schema",
        result: Ok(format!("{schema}, of this version; {bytes} bytes in use")),
    }];
    for ((name, wrongs), sound) in WRONG.iter().zip(SOUND) {
        let result = match wrong(&link, &begin, wrongs).await? {
            Some(wrong) => Err(wrong),
            None => Ok(text(&link, &begin, sound).await?),
        };
        checks.push(Check { name, result });
    }
    Ok(Some(checks))
}

/// The first of these problems that exists.
async fn wrong(
    link: &PgConnection,
    begin: &Begin,
    wrongs: &[(&str, &str)],
) -> Result<Option<String>, Failure> {
    for (what, sql) in wrongs {
        let rows = link.once(begin, Work::Statement(sql), &[]).await?;
        let count: u64 = rows.first().map_or(Ok(0), |row| natural(row, 0))?;
        if count > 0 {
            return Ok(Some(format!("{count} {what}")));
        }
    }
    Ok(None)
}

async fn text(link: &PgConnection, begin: &Begin, sql: &str) -> Result<String, Failure> {
    let rows = link.once(begin, Work::Statement(sql), &[]).await?;
    rows.first()
        .map_or(Ok(String::new()), |row| Ok(row.try_get(0)?))
}
