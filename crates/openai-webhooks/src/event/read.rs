//! Bytes into an event, in one pass where `type` stands before `data`, as OpenAI sends it.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Data, EventObject, EventType, UnknownWebhookEvent, UnwrapWebhookEvent};

impl UnwrapWebhookEvent {
    /// Reads a body that is known to be authentic.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, PayloadProblem> {
        if payload.starts_with(b"\xEF\xBB\xBF") {
            return Err(PayloadProblem::ByteOrderMark);
        }
        // Once for the whole body: cheaper than serde_json's own check of each string.
        let text = std::str::from_utf8(payload).map_err(|_| PayloadProblem::NotUtf8)?;
        Self::read_text(text)
    }

    fn read_text(text: &str) -> Result<Self, PayloadProblem> {
        let place = Cell::new(Place::Document);
        let mut json = serde_json::Deserializer::from_str(text);
        let envelope = EnvelopeSeed(&place)
            .deserialize(&mut json)
            .and_then(|envelope| json.end().map(|()| envelope));
        match envelope {
            Ok(Envelope::Event(event)) => Ok(event),
            Ok(Envelope::Unknown {
                id,
                r#type,
                created_at,
            }) => UnknownWebhookEvent::new(id, r#type, created_at, text)
                .map(Self::Unknown)
                .map_err(|error| PayloadProblem::not_json(&error)),
            // serde_json calls a number that is too large for us bad syntax, so every error gets this second look.
            Err(error) => Self::read_unknown(text).ok_or(match place.get() {
                _ if !error.is_data() => PayloadProblem::not_json(&error),
                Place::Document => PayloadProblem::NotAnObject,
                Place::Missing(field) => PayloadProblem::MissingField { field },
                Place::Field(field) => PayloadProblem::WrongField { field },
            }),
        }
    }

    /// An event of unknown type owes us nothing but a type and an id; its other fields may be of kinds we do not expect.
    #[cold]
    fn read_unknown(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            id: String,
            r#type: String,
        }
        let Object(head) = serde_json::from_str::<Object<Head>>(text).ok()?;
        if head.r#type.parse::<EventType>().is_ok() {
            return None;
        }
        UnknownWebhookEvent::new(head.id, head.r#type, None, text)
            .map(Self::Unknown)
            .ok()
    }
}

impl<'de> Deserialize<'de> for UnwrapWebhookEvent {
    /// From JSON only: an unknown event keeps its text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Self::read_text(json.get()).map_err(D::Error::custom)
    }
}

/// What the reader was at when it failed. serde's own message would quote the body.
#[derive(Clone, Copy)]
enum Place {
    Document,
    Missing(&'static str),
    Field(&'static str),
}

enum Envelope {
    Event(UnwrapWebhookEvent),
    Unknown {
        id: String,
        r#type: String,
        created_at: Option<i64>,
    },
}

struct EnvelopeSeed<'p>(&'p Cell<Place>);

impl<'de> DeserializeSeed<'de> for EnvelopeSeed<'_> {
    type Value = Envelope;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Envelope, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed<'_> {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let place = self.0;
        let mut id: Option<String> = None;
        let mut object: Option<EventObject> = None;
        let mut created_at: Option<i64> = None;
        let mut r#type: Option<Type> = None;
        let mut data: Option<Data> = None;
        let mut data_before_type: Option<&'de RawValue> = None;

        // A field that stands twice could mean either, to us and to the next reader: it is refused.
        let once = |is_again: bool, field: &'static str| {
            place.set(Place::Field(field));
            if is_again {
                return Err(A::Error::duplicate_field(field));
            }
            Ok(())
        };
        while let Some(key) = map.next_key()? {
            match key {
                Key::Id => {
                    once(id.is_some(), "id")?;
                    id = Some(map.next_value()?);
                }
                Key::Object => object = map.next_value::<MaybeObject>()?.0,
                Key::CreatedAt => {
                    once(created_at.is_some(), "created_at")?;
                    created_at = Some(map.next_value::<UnixSeconds>()?.0);
                }
                Key::Type => {
                    once(r#type.is_some(), "type")?;
                    r#type = Some(map.next_value()?);
                }
                Key::Data => {
                    once(data.is_some() || data_before_type.is_some(), "data")?;
                    match &r#type {
                        Some(Type::Known(event_type)) => {
                            data = Some(Data::next(*event_type, &mut map)?);
                        }
                        Some(Type::Unknown(_)) => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        None => data_before_type = Some(map.next_value()?),
                    }
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }

        let missing = |field: &'static str| {
            place.set(Place::Missing(field));
            A::Error::missing_field(field)
        };
        let id = id.ok_or_else(|| missing("id"))?;
        let event_type = match r#type.ok_or_else(|| missing("type"))? {
            Type::Known(event_type) => event_type,
            Type::Unknown(r#type) => {
                return Ok(Envelope::Unknown {
                    id,
                    r#type,
                    created_at,
                });
            }
        };
        let created_at = created_at.ok_or_else(|| missing("created_at"))?;
        let data = match (data, data_before_type) {
            (Some(data), _) => data,
            (None, Some(json)) => {
                place.set(Place::Field("data"));
                Data::from_json(event_type, json.get()).map_err(A::Error::custom)?
            }
            (None, None) => return Err(missing("data")),
        };
        Ok(Envelope::Event(data.into_event(id, created_at, object)))
    }
}

/// Reads an object only. A reader that serde derives would also take a list of the values, in the order of the fields.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A field that is an object.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// A field that may be an object.
pub(super) fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Object<T>>::deserialize(deserializer).map(|value| value.map(|Object(value)| value))
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Id,
    Object,
    CreatedAt,
    Type,
    Data,
    #[serde(other)]
    Other,
}

enum Type {
    Known(EventType),
    Unknown(String),
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TypeVisitor;

        impl Visitor<'_> for TypeVisitor {
            type Value = Type;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the type of an event")
            }

            fn visit_str<E>(self, text: &str) -> Result<Type, E> {
                Ok(text
                    .parse()
                    .map_or_else(|_| Type::Unknown(text.to_owned()), Type::Known))
            }
        }

        deserializer.deserialize_str(TypeVisitor)
    }
}

/// An integer, or a float without a fraction, of 64 signed bits.
struct UnixSeconds(i64);

impl<'de> Deserialize<'de> for UnixSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecondsVisitor;

        impl Visitor<'_> for SecondsVisitor {
            type Value = UnixSeconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("whole seconds since 1970")
            }

            fn visit_i64<E>(self, seconds: i64) -> Result<UnixSeconds, E> {
                Ok(UnixSeconds(seconds))
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<UnixSeconds, E> {
                i64::try_from(seconds).map(UnixSeconds).map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<UnixSeconds, E> {
                /// 2 to the 63rd, exactly representable; `i64::MAX` is not.
                const BOUND: f64 = 9_223_372_036_854_775_808.0;
                if seconds.fract() != 0.0 || !(-BOUND..BOUND).contains(&seconds) {
                    return Err(E::custom("not whole seconds"));
                }
                #[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
                Ok(UnixSeconds(seconds as i64))
            }
        }

        deserializer.deserialize_i64(SecondsVisitor)
    }
}

/// `object` says nothing that `type` does not, so nothing in it can cost an event.
struct MaybeObject(Option<EventObject>);

impl<'de> Deserialize<'de> for MaybeObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        Ok(Self((json.get() == "\"event\"").then_some(EventObject)))
    }
}

/// An authentic body that is not an event this version can read. The body itself is still in your hands: park it under
/// [`webhook_id`](Self::webhook_id) and answer 200, or OpenAI sends it again for 72 hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is authentic but not an event: {problem}")]
pub struct PayloadError {
    webhook_id: String,
    problem: PayloadProblem,
}

impl PayloadError {
    pub(crate) fn new(webhook_id: &str, problem: PayloadProblem) -> Self {
        Self {
            webhook_id: webhook_id.to_owned(),
            problem,
        }
    }

    /// The `webhook-id`, as authentic as the body.
    #[must_use]
    pub fn webhook_id(&self) -> &str {
        &self.webhook_id
    }

    /// What is wrong with the body.
    #[must_use]
    pub fn problem(&self) -> &PayloadProblem {
        &self.problem
    }
}

/// Why a body is not an event. It never quotes the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadProblem {
    /// A byte order mark in front.
    #[error(
        "it begins with a byte order mark, which JSON does not allow: whatever wrote it should write UTF-8 without one"
    )]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not JSON.
    #[error("it is not JSON, from line {line}, column {column}")]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The byte in the line, counted from 1.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A field is missing.
    #[error("the field `{field}` is missing")]
    MissingField {
        /// Its name.
        field: &'static str,
    },
    /// A field is of the wrong kind, lacks something, or stands twice.
    #[error("the field `{field}` is not what events of this type have there, or stands twice")]
    WrongField {
        /// Its name.
        field: &'static str,
    },
}

impl PayloadProblem {
    fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson {
            line: error.line(),
            column: error.column(),
        }
    }
}
