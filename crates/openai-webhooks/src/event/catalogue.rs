//! The macro that turns the table of events into types.

/// A row has: variant, class, type: class of its `data`, description of `data`, when the event is
/// sent, documented payload.
macro_rules! catalogue {
    ($(
        $variant:ident $class:ident $type:literal: $data:ident, $data_doc:literal,
        sent when $sent:literal,
        sample $sample:literal;
    )+) => {
        /// The type of an event that OpenAI is known to send
        /// ([list](https://developers.openai.com/api/reference/resources/webhooks)). OpenAI adds
        /// types over time: [`UnwrapWebhookEvent::Unknown`] holds those.
        ///
        /// ```
        /// use openai_webhooks::EventType;
        ///
        /// assert_eq!("batch.completed".parse(), Ok(EventType::BatchCompleted));
        /// assert_eq!(EventType::BatchCompleted.to_string(), "batch.completed");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventType {
            $(
                #[doc = concat!("`", $type, "`: ", $sent, ".")]
                $variant,
            )+
        }

        impl EventType {
            /// All types, in alphabetical order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The type as OpenAI spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $type,)+
                }
            }

            /// When OpenAI sends the event: a phrase that continues "sent when".
            #[must_use]
            pub const fn sent_when(self) -> &'static str {
                match self {
                    $(Self::$variant => $sent,)+
                }
            }

            /// The example payload of OpenAI's documentation, as JSON on one line, with a space
            /// after each comma and colon, as in the test fixture of the official SDKs. Its id and
            /// time are fixed; [`UnwrapWebhookEvent::sample`] makes a new event.
            #[must_use]
            pub const fn sample(self) -> &'static str {
                match self {
                    $(Self::$variant => $sample,)+
                }
            }
        }

        impl std::str::FromStr for EventType {
            type Err = UnknownEventType;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($type => Ok(Self::$variant),)+
                    _ => Err(UnknownEventType),
                }
            }
        }

        $(
            #[doc = concat!("`", $type, "`: sent when ", $sent, ".")]
            #[derive(Clone, Debug, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $class {
                /// The unique ID of the event. De-duplicate on the `webhook-id` instead.
                pub id: String,
                /// Time of the event, in Unix seconds.
                pub created_at: i64,
                #[doc = concat!("Event data payload. ", $data_doc)]
                pub data: $data,
                /// The object of the event: always "event", if present.
                pub object: Option<EventObject>,
            }

            impl $class {
                #[doc = concat!("The type of the event: always `", $type, "`.")]
                pub const TYPE: EventType = EventType::$variant;
            }

            impl From<$class> for UnwrapWebhookEvent {
                fn from(event: $class) -> Self {
                    Self::$variant(event)
                }
            }

            impl serde::Serialize for $class {
                /// Serialises the event in OpenAI's form.
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    use serde::ser::SerializeStruct as _;
                    let fields = 4 + usize::from(self.object.is_some());
                    let mut event = serializer.serialize_struct(stringify!($class), fields)?;
                    event.serialize_field("id", &self.id)?;
                    if let Some(object) = &self.object {
                        event.serialize_field("object", object)?;
                    }
                    event.serialize_field("type", &Self::TYPE)?;
                    event.serialize_field("created_at", &self.created_at)?;
                    event.serialize_field("data", &self.data)?;
                    event.end()
                }
            }
        )+

        /// An event, as [`Webhooks::unwrap`](crate::Webhooks::unwrap) returns it.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum UnwrapWebhookEvent {
            $(
                #[doc = concat!("`", $type, "`: ", $sent, ".")]
                $variant($class),
            )+
            /// An event of a type that this version does not know, with its complete text.
            Unknown(UnknownWebhookEvent),
        }

        impl UnwrapWebhookEvent {
            /// The unique ID of the event. De-duplicate on the `webhook-id` instead.
            #[must_use]
            pub fn id(&self) -> &str {
                match self {
                    $(Self::$variant(event) => &event.id,)+
                    Self::Unknown(event) => event.id(),
                }
            }

            /// Time of the event, in Unix seconds. `None` only if an unknown event has no
            /// `created_at`.
            #[must_use]
            pub fn created_at(&self) -> Option<i64> {
                match self {
                    $(Self::$variant(event) => Some(event.created_at),)+
                    Self::Unknown(event) => event.created_at(),
                }
            }

            /// The type of the event; `None` if this version does not know it.
            #[must_use]
            pub fn event_type(&self) -> Option<EventType> {
                match self {
                    $(Self::$variant(_) => Some(EventType::$variant),)+
                    Self::Unknown(_) => None,
                }
            }

            /// The type of the event as text, known or not.
            #[must_use]
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $type,)+
                    Self::Unknown(event) => event.r#type(),
                }
            }

            /// Makes an event with the `data` of the documented example, the given id, and
            /// `created_at` in Unix seconds.
            #[must_use]
            pub fn sample(event_type: EventType, id: impl Into<String>, created_at: i64) -> Self {
                let sample = Self::read(event_type.sample().as_bytes());
                let mut event = sample.expect("the catalogue's samples are read by a test, every one");
                match &mut event {
                    $(Self::$variant(event) => {
                        event.id = id.into();
                        event.created_at = created_at;
                    })+
                    Self::Unknown(_) => {}
                }
                event
            }
        }

        impl serde::Serialize for UnwrapWebhookEvent {
            /// Serialises the event in OpenAI's form.
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant(event) => event.serialize(serializer),)+
                    Self::Unknown(event) => event.serialize(serializer),
                }
            }
        }

        /// The `data` of an event of known type.
        enum Data {
            $($variant($data),)+
        }

        impl Data {
            /// Parses the value as the class of `event_type`.
            fn next<'de, M: serde::de::MapAccess<'de>>(event_type: EventType, map: &mut M) -> Result<Self, M::Error> {
                match event_type {
                    $(EventType::$variant => map.next_value().map(|Object(data)| Self::$variant(data)),)+
                }
            }

            fn from_json(event_type: EventType, json: &str) -> serde_json::Result<Self> {
                match event_type {
                    $(EventType::$variant => serde_json::from_str(json).map(|Object(data)| Self::$variant(data)),)+
                }
            }

            /// The fields of the class of `data`.
            fn shape(event_type: EventType) -> Shape {
                match event_type {
                    $(EventType::$variant => Shape::Object(<$data as Shaped>::FIELDS),)+
                }
            }

            /// The field of `data` that names the resource.
            fn resource(event_type: EventType) -> &'static str {
                match event_type {
                    $(EventType::$variant => <$data as Shaped>::RESOURCE,)+
                }
            }

            fn into_event(self, id: String, created_at: i64, object: Option<EventObject>) -> UnwrapWebhookEvent {
                match self {
                    $(Self::$variant(data) => UnwrapWebhookEvent::$variant($class { id, created_at, data, object }),)+
                }
            }
        }
    };
}
