//! A type that makes serde_json read a text and keep nothing: the lower bound for any reader built
//! on serde_json.

use std::fmt;
use std::hint::black_box;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

pub struct Walk;

impl<'de> Deserialize<'de> for Walk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = Walk;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, an array, a string or a positive integer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Walk, A::Error> {
        while map.next_entry::<Walk, Walk>()?.is_some() {}
        Ok(Walk)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Walk, A::Error> {
        while seq.next_element::<Walk>()?.is_some() {}
        Ok(Walk)
    }

    fn visit_str<E>(self, text: &str) -> Result<Walk, E> {
        black_box(text);
        Ok(Walk)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Walk, E> {
        black_box(number);
        Ok(Walk)
    }
}
