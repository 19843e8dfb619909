//! What the table of events is turned into.

/// A row is: variant, class, type: class of its `data`, what `data` is, when the event is sent, a documented payload.
macro_rules! catalogue {
    ($(
        $variant:ident $class:ident $type:literal: $data:ident, $data_doc:literal,
        sent when $sent:literal,
        sample $sample:literal;
    )+) => {
        /// The type of an event OpenAI is known to send. More will come: [`UnwrapWebhookEvent::Unknown`] keeps those.
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
            /// Every type, in the order of the alphabet.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The type as OpenAI spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $type,)+
                }
            }

            /// When OpenAI sends it; reads on from "sent when".
            #[must_use]
            pub const fn sent_when(self) -> &'static str {
                match self {
                    $(Self::$variant => $sent,)+
                }
            }

            /// The payload that OpenAI's documentation gives as an example, as JSON on one line, with a blank behind each comma and
            /// colon, as in the test fixture of the official SDKs. Its id and time are the same each
            /// time; [`UnwrapWebhookEvent::sample`] makes one that is new.
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
                /// The unique ID of the event. Not the `webhook-id`, which is what to de-duplicate on.
                pub id: String,
                /// When it happened, in Unix seconds.
                pub created_at: i64,
                #[doc = concat!("Event data payload. ", $data_doc)]
                pub data: $data,
                /// The object of the event: always "event", where it is given.
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
                /// As OpenAI would send it.
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

        /// An event, as `webhooks.unwrap()` gives it.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum UnwrapWebhookEvent {
            $(
                #[doc = concat!("`", $type, "`: ", $sent, ".")]
                $variant($class),
            )+
            /// An event this version does not know, kept whole.
            Unknown(UnknownWebhookEvent),
        }

        impl UnwrapWebhookEvent {
            /// The unique ID of the event. Not the `webhook-id`, which is what to de-duplicate on.
            #[must_use]
            pub fn id(&self) -> &str {
                match self {
                    $(Self::$variant(event) => &event.id,)+
                    Self::Unknown(event) => event.id(),
                }
            }

            /// When it happened, in Unix seconds. `None` only where an unknown event does not say so.
            #[must_use]
            pub fn created_at(&self) -> Option<i64> {
                match self {
                    $(Self::$variant(event) => Some(event.created_at),)+
                    Self::Unknown(event) => event.created_at(),
                }
            }

            /// The type of the event; `None` for one this version does not know.
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

            /// A new event with the `data` of the documented example, an id of your choice, and `created_at` in Unix seconds.
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
            /// As OpenAI would send it.
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
            /// Reads it in the form that `event_type` has.
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

            /// The fields of the class of an event's `data`.
            fn shape(event_type: EventType) -> Shape {
                match event_type {
                    $(EventType::$variant => Shape::Object(<$data as Shaped>::FIELDS),)+
                }
            }

            /// The field of an event's `data` that names its resource.
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
