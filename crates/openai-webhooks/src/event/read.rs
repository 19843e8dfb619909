//! Bytes into an event, in one pass where `type` stands before `data`, as OpenAI sends it.

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
        let mut envelope = Envelope::default();
        let mut json = serde_json::Deserializer::from_str(text);
        match envelope.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) => envelope.into_event(text),
            // serde_json calls a number that is too large for us bad syntax, so every error gets this second look.
            Err(error) => Self::read_unknown(text).ok_or(match envelope.field {
                _ if !error.is_data() => PayloadProblem::not_json(&error),
                None => PayloadProblem::NotAnObject,
                Some(field) => PayloadProblem::WrongField { field },
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

/// The fields of an event, as far as they are read. It is filled where it stands: an event is large, and moving it costs.
#[derive(Default)]
struct Envelope<'t> {
    id: Option<String>,
    object: Option<EventObject>,
    created_at: Option<i64>,
    r#type: Option<Type>,
    data: Option<Data>,
    data_before_type: Option<&'t RawValue>,
    /// Which field is being read. Should it fail, serde's own message would quote the body.
    field: Option<&'static str>,
}

impl Envelope<'_> {
    fn into_event(self, text: &str) -> Result<UnwrapWebhookEvent, PayloadProblem> {
        let missing = |field| PayloadProblem::MissingField { field };
        let id = self.id.ok_or(missing("id"))?;
        let event_type = match self.r#type.ok_or(missing("type"))? {
            Type::Known(event_type) => event_type,
            Type::Unknown(r#type) => {
                return UnknownWebhookEvent::new(id, r#type, self.created_at, text)
                    .map(UnwrapWebhookEvent::Unknown)
                    .map_err(|error| PayloadProblem::not_json(&error));
            }
        };
        let created_at = self.created_at.ok_or(missing("created_at"))?;
        let data = match (self.data, self.data_before_type) {
            (Some(data), _) => data,
            (None, Some(json)) => Data::from_json(event_type, json.get())
                .map_err(|_| PayloadProblem::WrongField { field: "data" })?,
            (None, None) => return Err(missing("data")),
        };
        Ok(data.into_event(id, created_at, self.object))
    }
}

impl<'de> DeserializeSeed<'de> for &mut Envelope<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Envelope<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            // A field that stands twice could mean either, to us and to the next reader: it is refused.
            let mut once = |is_again: bool, field: &'static str| {
                self.field = Some(field);
                if is_again {
                    return Err(A::Error::duplicate_field(field));
                }
                Ok(())
            };
            match key {
                Key::Id => {
                    once(self.id.is_some(), "id")?;
                    self.id = Some(map.next_value()?);
                }
                Key::Object => self.object = map.next_value::<MaybeObject>()?.0,
                Key::CreatedAt => {
                    once(self.created_at.is_some(), "created_at")?;
                    self.created_at = Some(map.next_value::<UnixSeconds>()?.0);
                }
                Key::Type => {
                    once(self.r#type.is_some(), "type")?;
                    self.r#type = Some(map.next_value()?);
                }
                Key::Data => {
                    let is_again = self.data.is_some() || self.data_before_type.is_some();
                    once(is_again, "data")?;
                    match self.r#type {
                        Some(Type::Known(event_type)) => {
                            self.data = Some(Data::next(event_type, &mut map)?);
                        }
                        Some(Type::Unknown(_)) => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        None => self.data_before_type = Some(map.next_value()?),
                    }
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
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
