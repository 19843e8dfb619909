//! The fields of each class, as data. They locate the field at fault in a body that serde refused.
//!
//! This module parses JSON as bytes, while events are parsed as text. It therefore shares no
//! function of `serde_json` with them, and the compiler inlines those that only events use.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::PayloadProblem;
use super::read::UnixSeconds;

/// The class of the `data` field of an event type.
pub(super) trait Shaped {
    /// The fields that are read, in the order of the class.
    const FIELDS: &'static [Field];
    /// The field that names the resource.
    const RESOURCE: &'static str = "id";
}

/// A field of an object.
pub(super) struct Field {
    name: &'static str,
    shape: Shape,
    presence: Presence,
}

/// The kind of a value.
pub(super) enum Shape {
    Text,
    Seconds,
    Object(&'static [Field]),
    ListOf(&'static Shape),
    /// Any value; other code checks it.
    Any,
}

enum Presence {
    Required,
    /// May be missing, or null.
    Optional,
    /// Required if the field of the first name has the second text as its value, else optional.
    RequiredWhere(&'static str, &'static str),
}

impl Field {
    pub(super) const fn new(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            presence: Presence::Required,
        }
    }

    pub(super) const fn text(name: &'static str) -> Self {
        Self::new(name, Shape::Text)
    }

    pub(super) const fn optional(self) -> Self {
        Self {
            presence: Presence::Optional,
            ..self
        }
    }

    pub(super) const fn required_where(self, name: &'static str, text: &'static str) -> Self {
        Self {
            presence: Presence::RequiredWhere(name, text),
            ..self
        }
    }
}

impl Shape {
    /// Finds the first problem of the value `json` at `path`.
    pub(super) fn problem(&self, json: &str, path: &str) -> Option<PayloadProblem> {
        let expected = match self {
            Self::Any => return None,
            Self::Text if json.starts_with('"') => return None,
            Self::Text => "text",
            Self::Seconds if serde_json::from_slice::<UnixSeconds>(json.as_bytes()).is_ok() => {
                return None;
            }
            Self::Seconds => "whole seconds since 1970",
            Self::Object(fields) if json.starts_with('{') => return in_object(fields, json, path),
            Self::Object(_) => "an object",
            Self::ListOf(shape) if json.starts_with('[') => return in_list(shape, json, path),
            Self::ListOf(_) => "a list",
        };
        let found = match (self, kind_of(json)) {
            (Self::Seconds, "a number") => "a number with a fraction or of more than 64 bits",
            (_, found) => found,
        };
        Some(PayloadProblem::WrongField {
            field: path.to_owned(),
            expected,
            found,
        })
    }
}

pub(super) fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'n') => "null",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    }
}

fn in_object(fields: &'static [Field], json: &str, path: &str) -> Option<PayloadProblem> {
    let object = Fields::read(fields, json)?;
    let place = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    for (at, field) in fields.iter().enumerate() {
        if object.is_twice[at] {
            return Some(PayloadProblem::DuplicateField {
                field: place(field.name),
            });
        }
        let is_required = match field.presence {
            Presence::Required => true,
            Presence::Optional => false,
            Presence::RequiredWhere(name, text) => {
                object.text(fields, name).as_deref() == Some(text)
            }
        };
        match object.values[at] {
            None if is_required => {
                return Some(PayloadProblem::MissingField {
                    field: place(field.name),
                });
            }
            None => {}
            Some("null") if !matches!(field.presence, Presence::Required) && !is_required => {}
            Some(json) => {
                if let Some(problem) = field.shape.problem(json, &place(field.name)) {
                    return Some(problem);
                }
            }
        }
    }
    None
}

fn in_list(shape: &'static Shape, json: &str, path: &str) -> Option<PayloadProblem> {
    struct Items<'p> {
        shape: &'static Shape,
        path: &'p str,
    }

    impl<'de> Visitor<'de> for Items<'_> {
        type Value = Option<PayloadProblem>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut seq: A,
        ) -> Result<Self::Value, A::Error> {
            let mut first = None;
            let mut at = 0_usize;
            while let Some(item) = seq.next_element::<&'de RawValue>()? {
                if first.is_none() {
                    let path = format!("{}[{at}]", self.path);
                    first = self.shape.problem(item.get(), &path);
                }
                at += 1;
            }
            Ok(first)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_slice(json.as_bytes());
    deserializer
        .deserialize_seq(Items { shape, path })
        .ok()
        .flatten()
}

/// The values of the known fields. Other fields are skipped, so a body with many fields takes no
/// memory.
pub(super) struct Fields<'j> {
    values: Vec<Option<&'j str>>,
    is_twice: Vec<bool>,
}

impl<'j> Fields<'j> {
    /// Parses the fields. `None` if `json` is not an object.
    pub(super) fn read(fields: &'static [Field], json: &'j str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(json.as_bytes());
        deserializer
            .deserialize_map(FieldsVisitor(fields, PhantomData))
            .ok()
    }

    /// The JSON value of a field.
    pub(super) fn raw(&self, fields: &[Field], name: &str) -> Option<&'j str> {
        let at = fields.iter().position(|field| field.name == name)?;
        self.values[at]
    }

    /// The text of a field, if its value is a string.
    pub(super) fn text(&self, fields: &[Field], name: &str) -> Option<String> {
        serde_json::from_slice(self.raw(fields, name)?.as_bytes()).ok()
    }
}

struct FieldsVisitor<'j>(&'static [Field], PhantomData<&'j str>);

impl<'de> Visitor<'de> for FieldsVisitor<'de> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let Self(fields, _) = self;
        let mut object = Fields {
            values: vec![None; fields.len()],
            is_twice: vec![false; fields.len()],
        };
        while let Some(name) = map.next_key_seed(Name(fields))? {
            match name {
                Some(at) => {
                    let value: &'de RawValue = map.next_value()?;
                    let earlier = object
                        .values
                        .get_mut(at)
                        .ok_or_else(|| A::Error::custom("no such field"))?;
                    object.is_twice[at] |= earlier.is_some();
                    *earlier = Some(value.get());
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(object)
    }
}

/// Finds the field that a key names.
struct Name(&'static [Field]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name == name))
    }
}
