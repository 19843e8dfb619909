//! The PostgreSQL server that several gateways share, and its content.

use std::fmt::Write as _;

use crate::store::{StoredDelivery, StoredWebhooks};
use crate::support::postgres::Server;
use crate::webhooks;

/// The schema of the gateways.
pub(crate) const SCHEMA: &str = "crashed";

pub(crate) struct Database(pub(crate) Server);

impl Database {
    pub(crate) fn start() -> Self {
        Self(Server::start_on_loopback(&[]))
    }

    /// The URL in the configuration of a process, with its number as the application name.
    pub(crate) fn url(&self, life: u32) -> String {
        let url = self.0.url("postgres", SCHEMA);
        format!("{url}&application_name=life_{life}")
    }

    /// Reads all stored messages.
    pub(crate) fn read(&self) -> StoredWebhooks {
        let mut stored = StoredWebhooks::new();
        for [id, kind, payload] in self.rows(
            "SELECT webhook_id, event_type, encode(bytes, 'hex') FROM message LEFT JOIN payload USING (partition, seq)",
        ) {
            let is_exact = webhooks::number(&id).is_some_and(|number| {
                let mut expected = String::new();
                for byte in webhooks::payload(number).bytes() {
                    write!(expected, "{byte:02x}").unwrap();
                }
                payload == expected && kind == webhooks::kind(number).unwrap_or_default()
            });
            let webhook = stored.entry(id).or_default();
            webhook.is_exact = is_exact && (webhook.copies == 0 || webhook.is_exact);
            webhook.copies += 1;
        }
        for [id, destination, is_delivered, succeeded, failed] in self.rows(
            "SELECT webhook_id, destination, state = 'delivered',
                    count(number) FILTER (WHERE summary LIKE 'HTTP 2%'), count(number) FILTER (WHERE summary NOT LIKE 'HTTP 2%')
             FROM delivery JOIN message ON message.seq = delivery.id >> 8 LEFT JOIN attempt ON attempt.delivery = delivery.id
             GROUP BY delivery.id, webhook_id",
        ) {
            stored.entry(id).or_default().deliveries.push(StoredDelivery {
                destination,
                is_delivered: is_delivered == "t",
                succeeded: succeeded.parse().unwrap(),
                failed: failed.parse().unwrap(),
            });
        }
        stored
    }

    /// Number of deliveries that wait for an attempt, or for the end of one.
    pub(crate) fn open_deliveries(&self) -> u64 {
        let [count] = self
            .rows("SELECT count(*) FROM delivery WHERE state = 'waiting'")
            .remove(0);
        count.parse().unwrap()
    }

    /// The waiting deliveries, their holders, and the records of the triggers, for the report of a
    /// failed test.
    pub(crate) fn waiting(&self) -> String {
        let rows = self.rows::<6>(
            "WITH now AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms)
             SELECT webhook_id, destination, coalesce(gateway::text, 'nobody'), ready_at - ms,
                    coalesce(extract(epoch FROM clock_timestamp() - heartbeat_at)::text, 'unknown'),
                    (SELECT string_agg(
                         format(
                             '%s ms ago %s: claimed %s to %s, settled %s to %s, gateway %s to %s', ms - at_ms, life, claimed_before,
                             change.claimed, settled_before, change.settled, gateway_before, change.gateway
                         ), '; ' ORDER BY place
                     ) FROM audit.change WHERE change.delivery = delivery.id)
             FROM now, delivery JOIN message ON message.seq = delivery.id >> 8 LEFT JOIN gateway ON gateway.id = delivery.gateway
             WHERE state = 'waiting' LIMIT 20",
        );
        let told = rows.iter().map(|[id, destination, holder, due, silent, history]| {
            format!("{id} at {destination}, held by {holder} (silent for {silent} s), due in {due} ms: {history}")
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// The values of each row. None of them contains the separator.
    pub(crate) fn rows<const COUNT: usize>(&self, sql: &str) -> Vec<[String; COUNT]> {
        let text = self
            .0
            .sql(&format!("SET search_path TO {SCHEMA}, pg_catalog; {sql}"));
        let rows = text.lines().map(|row| {
            let values: Vec<String> = row.split('|').map(str::to_owned).collect();
            values.try_into().unwrap()
        });
        rows.collect()
    }
}
