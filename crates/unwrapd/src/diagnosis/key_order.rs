//! The orders that the keys of an event may have had. A program that sorts them loses theirs. Pure.

use openai_webhooks::EventType;

use super::json::{Json, Member, Text};

/// Maximum number of orders: those of seven keys.
const ORDERS_MAX: usize = 5_040;
/// The key of the type of an event.
const TYPE: &str = "type";
/// The key of the object within an event.
const DATA: &str = "data";

/// The event with its keys in the order of the documented example of its type.
pub(super) fn documented<'t>(json: &Json<'t>) -> Option<Json<'t>> {
    let Json::Object(members) = json else {
        return None;
    };
    let event_type = members.iter().find_map(|(key, value)| match value {
        Json::Text(text) if key.value == TYPE => Some(&text.value),
        _ => None,
    });
    let event_type: EventType = event_type?.parse().ok()?;
    let example = Json::read(event_type.sample().as_bytes())?;
    let mut json = json.clone();
    reorder(&mut json, &example);
    Some(json)
}

/// Brings the keys into the order that they have in the example; others follow.
fn reorder(json: &mut Json<'_>, example: &Json<'_>) {
    match (json, example) {
        (Json::Object(members), Json::Object(examples)) => {
            let place = |key: &Text<'_>| {
                let mut examples = examples.iter();
                examples.position(|(example, _)| example.value == key.value)
            };
            members.sort_by_key(|(key, _)| place(key).unwrap_or(usize::MAX));
            for (key, value) in members {
                if let Some(place) = place(key) {
                    reorder(value, &examples[place].1);
                }
            }
        }
        (Json::Array(values), Json::Array(examples)) => {
            for (value, example) in values.iter_mut().zip(examples.iter().cycle()) {
                reorder(value, example);
            }
        }
        _ => {}
    }
}

/// Calls `visit` with the members of the event in every order, and in every order of the members of
/// its `data` if that is within the limit, until it returns `true` or an error. Returns whether it
/// returned `true`.
pub(super) fn visit<E>(
    json: &Json<'_>,
    visit: &mut impl FnMut(&[Member<'_>]) -> Result<bool, E>,
) -> Result<bool, E> {
    let Json::Object(members) = json else {
        return Ok(false);
    };
    let orders = orders_of(members.len());
    if orders > ORDERS_MAX {
        return Ok(false);
    }
    let within = members.iter().find_map(|(key, value)| match value {
        Json::Object(data) if key.value == DATA => Some(data.clone()),
        _ => None,
    });
    let mut members = members.clone();
    match within {
        Some(mut data) if orders_of(data.len()).saturating_mul(orders) <= ORDERS_MAX => {
            let length = data.len();
            permute(length, &mut data, &mut |data| {
                for (key, value) in &mut members {
                    if key.value == DATA {
                        *value = Json::Object(data.to_vec());
                    }
                }
                permute(members.len(), &mut members, visit)
            })
        }
        _ => permute(members.len(), &mut members, visit),
    }
}

fn orders_of(length: usize) -> usize {
    (1..=length).fold(1, usize::saturating_mul)
}

/// Brings the first `length` items into every order, by swapping two at a time (the algorithm of
/// B. R. Heap).
fn permute<T, E>(
    length: usize,
    items: &mut [T],
    visit: &mut impl FnMut(&[T]) -> Result<bool, E>,
) -> Result<bool, E> {
    let Some(last) = length.checked_sub(1).filter(|last| *last > 0) else {
        return visit(items);
    };
    for place in 0..length {
        if permute(last, items, visit)? {
            return Ok(true);
        }
        if place < last {
            items.swap(if length.is_multiple_of(2) { place } else { 0 }, last);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use super::*;
    use crate::diagnosis::spelling::SPELLINGS;

    fn orders(text: &str) -> HashSet<Vec<u8>> {
        let json = Json::read(text.as_bytes()).unwrap();
        let mut seen = HashSet::new();
        let ended = visit::<Infallible>(&json, &mut |members| {
            assert!(seen.insert(SPELLINGS[0].write_object(members)));
            Ok(false)
        });
        assert_eq!(ended, Ok(false));
        seen
    }

    #[test]
    fn every_order_of_the_event_and_its_data_comes_once() {
        let seen = orders(r#"{"id":1,"type":2,"data":{"a":1,"b":2,"c":3}}"#);
        assert_eq!(seen.len(), 36);
        assert!(seen.contains(&br#"{"data":{"c":3,"a":1,"b":2},"type":2,"id":1}"#[..]));
    }

    #[test]
    fn the_order_of_the_example_is_restored_at_every_depth() {
        for event_type in EventType::ALL {
            let example = event_type.sample();
            let value: serde_json::Value = serde_json::from_str(example).unwrap();
            let sorted = value.to_string();
            let json = Json::read(sorted.as_bytes()).unwrap();
            // The examples have a blank after each comma and colon.
            let text = SPELLINGS[1].write(&documented(&json).unwrap());
            assert_eq!(String::from_utf8(text).unwrap(), example);
        }
        let unknown = Json::read(br#"{"type":"a.b"}"#).unwrap();
        assert!(documented(&unknown).is_none());
    }

    #[test]
    fn the_number_of_orders_has_a_limit() {
        let keys = |count: u8| {
            let members: Vec<String> = (0..count).map(|key| format!("\"k{key}\":0")).collect();
            members.join(",")
        };
        assert_eq!(orders(&format!("{{{}}}", keys(6))).len(), 720);
        assert_eq!(orders(&format!("{{{}}}", keys(8))).len(), 0);
        // The order of `data` is left out.
        let large = format!("{{\"a\":1,\"b\":2,\"data\":{{{}}}}}", keys(7));
        assert_eq!(orders(&large).len(), 6);
        assert_eq!(orders("[]").len(), 0);
    }
}
