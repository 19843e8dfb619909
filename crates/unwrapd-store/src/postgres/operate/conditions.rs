//! Conditions of a filter in SQL. Its values are the parameters `$5` to `$14` of
//! [`scan_page`](super::scan::scan_page).

use crate::filter::{Filter, Types};

/// Most patterns of types that the server compares with each message.
const TYPES_MAX: usize = 32;

/// The payload of a message.
pub(crate) const PAYLOAD: &str = "(SELECT bytes FROM payload WHERE payload.partition = message.partition AND payload.seq = message.seq)";

/// Whether a message has a selected delivery. The deliveries of all numbers are read at once, into
/// a hash table, which `coalesce` ensures: the planner may join two tables of unknown sizes row by
/// row.
const HAS_DELIVERY: &str = "coalesce(seq IN (
    SELECT id >> 8 FROM delivery
    WHERE id BETWEEN $1 * 256 AND $2 * 256 + 255 AND (cardinality($13::text[]) = 0 OR destination = ANY ($13))
        AND (cardinality($14::text[]) = 0 OR CASE WHEN dropped_at IS NULL THEN state ELSE 'dropped' END = ANY ($14))
), false)";

/// The condition on a message. It selects more than the filter in some cases, and never less. Each
/// parameter has its type in it, also one that does not matter: the planner uses no index for an
/// array that may be empty.
pub(crate) fn wanted(filter: &Filter) -> String {
    let ids = if filter.webhook_id.is_empty() {
        "$6::text[] IS NOT NULL"
    } else {
        "webhook_id = ANY ($6)"
    };
    let keys = if filter.names_payloads() {
        "seq = ANY (ARRAY (SELECT find_payloads($7::int4[], $8::int4[])))"
    } else {
        "($7::int4[], $8::int4[]) IS NOT NULL"
    };
    let part = match filter.id_part {
        Some(_) => format!("(strpos(webhook_id, $9) > 0 OR position($10::bytea in {PAYLOAD}) > 0)"),
        None => "($9::text, $10::bytea) IS NULL".into(),
    };
    let types = if compares_types(&filter.types) {
        "coalesce(event_type, '') LIKE ANY ($11) AND NOT coalesce(event_type, '') LIKE ANY ($12)"
    } else {
        "($11::text[], $12::text[]) IS NOT NULL"
    };
    let is_listed_or_named = filter.names_ids() || listed_numbers(filter).is_some();
    let deliveries = if filter.names_deliveries() && !filter.wants_unrouted() && !is_listed_or_named
    {
        HAS_DELIVERY
    } else {
        "($13::text[], $14::text[]) IS NOT NULL"
    };
    let listed = match listed_numbers(filter) {
        // Few messages have the ids, and the list may have many.
        Some(_) if filter.names_ids() => is_listed(filter).to_owned(),
        Some(numbers) => format!("seq = ANY (ARRAY ({numbers}))"),
        None => "true".to_owned(),
    };
    format!(
        "(cardinality($5::text[]) = 0 OR endpoint = ANY ($5))
             AND {ids} AND {keys} AND {part} AND {types} AND {deliveries} AND {listed}"
    )
}

/// The keys of the event ids, and those of the resources, as the database has them.
pub(crate) fn search_keys(filter: &Filter) -> (Vec<i32>, Vec<i32>) {
    let signed = |keys: Vec<u32>| keys.into_iter().map(u32::cast_signed).collect();
    let (events, resources) = filter.search_keys();
    (signed(events), signed(resources))
}

fn compares_types(types: &Types) -> bool {
    !types.is_empty() && types.texts().len() <= TYPES_MAX
}

/// The types as patterns of `LIKE`: the wanted ones, and the excluded ones.
pub(crate) fn like(types: &Types) -> (Vec<String>, Vec<String>) {
    let (excluded, wanted): (Vec<_>, Vec<_>) = types
        .texts()
        .into_iter()
        .map(|text| text.replace('_', "\\_").replace('*', "%"))
        .partition(|text| text.starts_with('!'));
    let excluded = excluded.iter().map(|text| text.replacen('!', "", 1));
    (wanted, excluded.collect())
}

/// The numbers of all messages that the filter may select, in the order of an index that holds no
/// others.
pub(crate) fn listed_numbers(filter: &Filter) -> Option<&'static str> {
    if filter.names_dead_only() {
        Some("SELECT id >> 8 FROM delivery WHERE state = 'dead' AND id >> 8 BETWEEN $1 AND $2")
    } else if filter.names_unrouted_only() {
        Some("SELECT seq FROM message WHERE is_unrouted AND seq BETWEEN $1 AND $2")
    } else {
        None
    }
}

/// The condition that one message is in the list.
fn is_listed(filter: &Filter) -> &'static str {
    if filter.names_dead_only() {
        "EXISTS (SELECT FROM delivery WHERE id BETWEEN seq * 256 AND seq * 256 + 255 AND state = 'dead' OFFSET 0)"
    } else {
        "is_unrouted"
    }
}
