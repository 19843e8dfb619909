//! Parses a body into an event, in one pass if `type` precedes `data`, as OpenAI sends it.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::with_whole_letters;
use super::{
    Data, EventObject, EventType, PayloadProblem, UnknownWebhookEvent, UnwrapWebhookEvent,
};

impl UnwrapWebhookEvent {
    /// Parses a body that is known to be authentic.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, PayloadProblem> {
        if payload.starts_with(b"\xEF\xBB\xBF") {
            return Err(PayloadProblem::ByteOrderMark);
        }
        // One check of the whole body is cheaper than serde_json's check of each string.
        let text = std::str::from_utf8(payload).map_err(|error| PayloadProblem::NotUtf8 {
            at: error.valid_up_to() + 1,
        })?;
        Self::read_text(text)
    }

    fn read_text(text: &str) -> Result<Self, PayloadProblem> {
        Self::read_strictly(text, text, || Self::read_oddly(text))
    }

    /// Parses `text`. An event of unknown type keeps the text `as_sent`. `otherwise` gives the
    /// result if `text` cannot be parsed.
    #[inline] // Without it the event is moved once more.
    fn read_strictly(
        text: &str,
        as_sent: &str,
        otherwise: impl FnOnce() -> Result<Self, PayloadProblem>,
    ) -> Result<Self, PayloadProblem> {
        let mut fields = EventFields::default();
        let mut json = serde_json::Deserializer::from_str(text);
        match fields.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) => fields.into_event(as_sent, otherwise),
            Err(_) => otherwise(),
        }
    }

    /// Parses two kinds of event that the strict parser refuses: an event with an unpaired
    /// surrogate, which is a syntax error for serde, and an event of unknown type whose fields
    /// differ in kind from those of known types.
    #[cold]
    fn read_oddly(text: &str) -> Result<Self, PayloadProblem> {
        let Some(whole) = with_whole_letters(text) else {
            return Self::read_unknown(text, text).ok_or_else(|| PayloadProblem::of(text));
        };
        Self::read_strictly(&whole, text, || {
            Self::read_unknown(&whole, text).ok_or_else(|| PayloadProblem::of(text))
        })
    }

    /// Parses an event of unknown type, which must have a type and an id. Its other fields may be
    /// of any kind.
    fn read_unknown(text: &str, as_sent: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            id: String,
            r#type: String,
        }
        let Object(head) = serde_json::from_str::<Object<Head>>(text).ok()?;
        if head.r#type.parse::<EventType>().is_ok() {
            return None;
        }
        UnknownWebhookEvent::new(head.id, head.r#type, None, as_sent)
            .map(Self::Unknown)
            .ok()
    }
}

impl<'de> Deserialize<'de> for UnwrapWebhookEvent {
    /// Parses JSON only: an unknown event keeps its text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Self::read_text(json.get()).map_err(D::Error::custom)
    }
}

/// The fields of an event, while they are parsed. The struct is filled in place, because an event
/// is large and expensive to move.
#[derive(Default)]
struct EventFields<'t> {
    id: Option<String>,
    object: Option<EventObject>,
    created_at: Option<i64>,
    r#type: Option<Type>,
    data: Option<Data>,
    data_before_type: Option<&'t RawValue>,
}

impl EventFields<'_> {
    fn into_event(
        self,
        as_sent: &str,
        otherwise: impl FnOnce() -> Result<UnwrapWebhookEvent, PayloadProblem>,
    ) -> Result<UnwrapWebhookEvent, PayloadProblem> {
        let (Some(id), Some(r#type)) = (self.id, self.r#type) else {
            return otherwise();
        };
        let event_type = match r#type {
            Type::Known(event_type) => event_type,
            Type::Unknown(r#type) => {
                return UnknownWebhookEvent::new(id, r#type, self.created_at, as_sent).map_or_else(
                    |_| otherwise(),
                    |event| Ok(UnwrapWebhookEvent::Unknown(event)),
                );
            }
        };
        let Some(created_at) = self.created_at else {
            return otherwise();
        };
        let data = match (self.data, self.data_before_type) {
            (Some(data), _) => data,
            (None, Some(json)) => match Data::from_json(event_type, json.get()) {
                Ok(data) => data,
                Err(_) => return otherwise(),
            },
            (None, None) => return otherwise(),
        };
        Ok(data.into_event(id, created_at, self.object))
    }
}

impl<'de> DeserializeSeed<'de> for &mut EventFields<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut EventFields<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            // A duplicate field is ambiguous, for this reader and the next one, so it is refused.
            let once = |is_again: bool, field: &'static str| {
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

/// Parses an object only. A derived `Deserialize` also accepts a list of the values, in the order
/// of the fields.
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

/// Parses a field that is an object.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// Parses an optional field that is an object.
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
pub(super) struct UnixSeconds(i64);

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

/// The field `object` adds nothing to `type`, so an invalid value in it does not fail the event.
struct MaybeObject(Option<EventObject>);

impl<'de> Deserialize<'de> for MaybeObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?;
        Ok(Self((json.get() == "\"event\"").then_some(EventObject)))
    }
}
