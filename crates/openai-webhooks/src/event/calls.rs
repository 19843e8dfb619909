//! Phone calls and Live sessions.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::shape::{Field, Shape, Shaped};

/// The `data` of `realtime.call.incoming`.
///
/// OpenAI may send two webhooks for one call: this one and `live.transport.incoming` (formerly
/// `live.call.incoming`), with different webhook ids and different call ids. The first accept wins,
/// and the second fails ([guide](https://developers.openai.com/api/docs/guides/voice-sip)).
/// Subscribe to one of them. Otherwise, handle both in one place, match them by the SIP header
/// `Call-ID`, and answer the call once.
///
/// An unpaired surrogate in a text, such as a caller's name, reads as U+FFFD. The payload keeps the
/// original bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RealtimeCallIncomingData {
    /// The unique ID of the call, by which it is accepted, rejected, referred or hung up
    /// ([guide](https://developers.openai.com/api/docs/guides/realtime-sip)).
    pub call_id: String,
    /// Headers from the SIP INVITE.
    pub sip_headers: SipHeaders,
    /// Protection of the media: `srtp`, `rtp`, or a value that OpenAI adds later; absent if
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_media_security: Option<String>,
}

/// The `data` of `live.call.incoming`.
///
/// OpenAI may send `realtime.call.incoming` for the same call: see [`RealtimeCallIncomingData`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LiveCallIncomingData {
    /// The unique ID of the session, by which the call is accepted, rejected, referred or hung up
    /// ([guide](https://developers.openai.com/api/docs/guides/voice-sip)).
    pub session_id: String,
    /// Headers from the SIP INVITE.
    pub sip_headers: SipHeaders,
    /// Protection of the media: `srtp`, `rtp`, or a value that OpenAI adds later; absent if
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_media_security: Option<String>,
}

/// The `data` of `live.transport.incoming`.
///
/// OpenAI may send `realtime.call.incoming` for the same call: see [`RealtimeCallIncomingData`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveTransportIncomingData {
    /// The kind of transport: `sip`, or a value that OpenAI adds later.
    pub r#type: String,
    /// The unique ID of the session, by which the call is accepted, rejected, referred or hung up
    /// ([guide](https://developers.openai.com/api/docs/guides/voice-sip)).
    pub session_id: String,
    /// Headers from the SIP INVITE. Empty for a transport other than `sip`, which has no INVITE.
    pub sip_headers: SipHeaders,
    /// Protection of the media: `srtp`, `rtp`, or a value that OpenAI adds later; absent if
    /// unknown.
    pub sip_media_security: Option<String>,
}

/// The only transport with an INVITE.
const SIP: &str = "sip";

impl<'de> Deserialize<'de> for LiveTransportIncomingData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Sent {
            r#type: String,
            session_id: String,
            sip_headers: Option<SipHeaders>,
            sip_media_security: Option<String>,
        }
        let sent = Sent::deserialize(deserializer)?;
        if sent.sip_headers.is_none() && sent.r#type == SIP {
            return Err(serde::de::Error::missing_field("sip_headers"));
        }
        Ok(Self {
            r#type: sent.r#type,
            session_id: sent.session_id,
            sip_headers: sent.sip_headers.unwrap_or_default(),
            sip_media_security: sent.sip_media_security,
        })
    }
}

impl Serialize for LiveTransportIncomingData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut data = serializer.serialize_struct("LiveTransportIncomingData", 4)?;
        data.serialize_field("type", &self.r#type)?;
        data.serialize_field("session_id", &self.session_id)?;
        match &self.sip_media_security {
            Some(security) => data.serialize_field("sip_media_security", security)?,
            None => data.skip_field("sip_media_security")?,
        }
        if self.r#type == SIP || !self.sip_headers.is_empty() {
            data.serialize_field("sip_headers", &self.sip_headers)?;
        } else {
            data.skip_field("sip_headers")?;
        }
        data.end()
    }
}

/// The `data` of `live.transport.connected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LiveTransportConnectedData {
    /// The kind of transport: `webrtc`, or a value that OpenAI adds later.
    pub r#type: String,
    /// The unique ID of the session.
    pub session_id: String,
}

const SIP_HEADER: Shape = Shape::Object(&[Field::text("name"), Field::text("value")]);
const SIP_HEADERS: Field = Field::new("sip_headers", Shape::ListOf(&SIP_HEADER));
const SIP_MEDIA_SECURITY: Field = Field::text("sip_media_security").optional();

impl Shaped for RealtimeCallIncomingData {
    const FIELDS: &'static [Field] = &[Field::text("call_id"), SIP_HEADERS, SIP_MEDIA_SECURITY];
    const RESOURCE: &'static str = "call_id";
}

impl Shaped for LiveCallIncomingData {
    const FIELDS: &'static [Field] = &[Field::text("session_id"), SIP_HEADERS, SIP_MEDIA_SECURITY];
    const RESOURCE: &'static str = "session_id";
}

impl Shaped for LiveTransportIncomingData {
    const FIELDS: &'static [Field] = &[
        Field::text("type"),
        Field::text("session_id"),
        SIP_HEADERS.required_where("type", SIP),
        SIP_MEDIA_SECURITY,
    ];
    const RESOURCE: &'static str = "session_id";
}

impl Shaped for LiveTransportConnectedData {
    const FIELDS: &'static [Field] = &[Field::text("type"), Field::text("session_id")];
    const RESOURCE: &'static str = "session_id";
}

/// The headers of a SIP INVITE, in their order and with repetitions, without authorization headers
/// ([guide](https://developers.openai.com/api/docs/guides/voice-sip)).
///
/// The caller controls these values: escape them for display, and never authorise by them.
///
/// ```
/// # fn show(data: &openai_webhooks::RealtimeCallIncomingData) {
/// for header in &data.sip_headers {
///     println!("{}: {}", header.name, header.value);
/// }
/// let caller = data.sip_headers.get("From");
/// # }
/// ```
///
/// A call has between a dozen and a hundred headers, so one buffer holds them all instead of two
/// allocations each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SipHeaders {
    /// Name, value, name, value…, each after its [`Length`].
    packed: Vec<u8>,
    count: usize,
}

/// Length of a text in bytes, stored in big-endian order.
type Length = u32;

/// One header of a SIP INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SipHeader<'a> {
    /// Name of the SIP header.
    pub name: &'a str,
    /// Value of the SIP header.
    pub value: &'a str,
}

impl SipHeaders {
    /// Number of headers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The header at `index`, from 0.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<SipHeader<'_>> {
        self.iter().nth(index)
    }

    /// The value of the first header with this name. Names are case-insensitive.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Iterates over the headers, in order.
    #[must_use]
    pub fn iter(&self) -> SipHeadersIter<'_> {
        SipHeadersIter {
            packed: &self.packed,
            left: self.count,
        }
    }
}

/// Iterator over [`SipHeaders`].
#[derive(Clone, Debug)]
pub struct SipHeadersIter<'a> {
    packed: &'a [u8],
    left: usize,
}

impl<'a> SipHeadersIter<'a> {
    fn next_text(&mut self) -> Option<&'a str> {
        let (length, rest) = self.packed.split_first_chunk()?;
        let length = usize::try_from(Length::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        self.packed = rest;
        std::str::from_utf8(text).ok()
    }
}

impl<'a> Iterator for SipHeadersIter<'a> {
    type Item = SipHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.next_text()?;
        let value = self.next_text()?;
        self.left -= 1;
        Some(SipHeader { name, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SipHeadersIter<'_> {}

impl<'a> IntoIterator for &'a SipHeaders {
    type Item = SipHeader<'a>;
    type IntoIter = SipHeadersIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for SipHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Serialize for SipHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for SipHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

/// Initial capacity in bytes, for an ordinary call. A call with more headers gets sixteen times as
/// much at once.
const ORDINARY_CALL_BYTES: usize = 1024;

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = SipHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of SIP headers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SipHeaders, A::Error> {
        let mut headers = SipHeaders {
            packed: Vec::with_capacity(ORDINARY_CALL_BYTES),
            count: 0,
        };
        while seq.next_element_seed(HeaderSeed(&mut headers))?.is_some() {}
        Ok(headers)
    }
}

/// Appends one `{"name": …, "value": …}`.
struct HeaderSeed<'h>(&'h mut SipHeaders);

impl<'de> serde::de::DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SIP header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        use serde::de::Error as _;
        let SipHeaders { packed, count } = self.0;
        let start = packed.len();
        let mut end_of_value = None;
        let mut has_name = false;
        let mut has_value = false;
        let mut is_value_first = false;
        while let Some(key) = map.next_key()? {
            match key {
                HeaderField::Name if !has_name => {
                    map.next_value_seed(AppendTo(packed))?;
                    has_name = true;
                }
                HeaderField::Value if !has_value => {
                    is_value_first = !has_name;
                    map.next_value_seed(AppendTo(packed))?;
                    has_value = true;
                    if is_value_first {
                        end_of_value = Some(packed.len());
                    }
                }
                HeaderField::Name => return Err(A::Error::duplicate_field("name")),
                HeaderField::Value => return Err(A::Error::duplicate_field("value")),
                HeaderField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if !has_name {
            return Err(A::Error::missing_field("name"));
        }
        if !has_value {
            return Err(A::Error::missing_field("value"));
        }
        if let Some(end) = end_of_value
            && is_value_first
        {
            packed[start..].rotate_left(end - start);
        }
        *count += 1;
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum HeaderField {
    Name,
    Value,
    #[serde(other)]
    Other,
}

/// Appends a text after its length.
struct AppendTo<'p>(&'p mut Vec<u8>);

impl<'de> serde::de::DeserializeSeed<'de> for AppendTo<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for AppendTo<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let Self(packed) = self;
        let length = Length::try_from(text.len()).map_err(E::custom)?;
        let room = size_of::<Length>() + text.len();
        if packed.capacity() - packed.len() < room {
            packed.reserve(room + 15 * ORDINARY_CALL_BYTES);
        }
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
