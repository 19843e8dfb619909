//! Phone calls and live sessions.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The `data` of `realtime.call.incoming`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RealtimeCallIncomingData {
    /// The unique ID of the call: accept, reject, refer or hang it up by this.
    pub call_id: String,
    /// Headers from the SIP INVITE.
    pub sip_headers: SipHeaders,
    /// How the media is secured: `srtp`, `rtp`, or what OpenAI adds; absent when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_media_security: Option<String>,
}

/// The `data` of `live.call.incoming`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LiveCallIncomingData {
    /// The unique ID of the session: accept, reject, refer or hang it up by this.
    pub session_id: String,
    /// Headers from the SIP INVITE.
    pub sip_headers: SipHeaders,
    /// How the media is secured: `srtp`, `rtp`, or what OpenAI adds; absent when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_media_security: Option<String>,
}

/// The `data` of `live.transport.incoming`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LiveTransportIncomingData {
    /// The kind of transport: `sip`, or what OpenAI adds.
    pub r#type: String,
    /// The unique ID of the session: accept, reject, refer or hang it up by this.
    pub session_id: String,
    /// Headers from the SIP INVITE.
    pub sip_headers: SipHeaders,
    /// How the media is secured: `srtp`, `rtp`, or what OpenAI adds; absent when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_media_security: Option<String>,
}

/// The `data` of `live.transport.connected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LiveTransportConnectedData {
    /// The kind of transport: `webrtc`, or what OpenAI adds.
    pub r#type: String,
    /// The unique ID of the session.
    pub session_id: String,
}

/// The headers of a SIP INVITE, in their order and with their repetitions, without those that authorise. Strangers write them:
/// show them with care, and never decide by them who may do what.
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
/// A call has a dozen of them or a hundred, so they share one buffer instead of two allocations each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SipHeaders {
    /// Name, value, name, value…
    text: String,
    /// Where in `text` the name and where the value of each header ends.
    ends: Vec<(usize, usize)>,
}

/// One header of a SIP INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SipHeader<'a> {
    /// Name of the SIP header.
    pub name: &'a str,
    /// Value of the SIP header.
    pub value: &'a str,
}

impl SipHeaders {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The header at `index`, counted from 0.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<SipHeader<'_>> {
        let (name_end, value_end) = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before)?.1,
            None => 0,
        };
        Some(SipHeader {
            name: self.text.get(start..name_end)?,
            value: self.text.get(name_end..value_end)?,
        })
    }

    /// The value of the first header with this name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Every header, in order.
    #[must_use]
    pub fn iter(&self) -> SipHeadersIter<'_> {
        SipHeadersIter {
            headers: self,
            next: 0,
        }
    }
}

/// Goes over [`SipHeaders`].
#[derive(Clone, Debug)]
pub struct SipHeadersIter<'a> {
    headers: &'a SipHeaders,
    next: usize,
}

impl<'a> Iterator for SipHeadersIter<'a> {
    type Item = SipHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.headers.at(self.next)?;
        self.next += 1;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.headers.len() - self.next;
        (left, Some(left))
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

/// Room for the headers of an ordinary call. One with more gets sixteen times as much, at once.
const ORDINARY_CALL_BYTES: usize = 1024;
/// Room for so many headers; a call with more of them is hardly heard of.
const HEADERS: usize = 256;

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = SipHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of SIP headers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SipHeaders, A::Error> {
        let mut headers = SipHeaders {
            text: String::with_capacity(ORDINARY_CALL_BYTES),
            ends: Vec::with_capacity(HEADERS),
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
        let SipHeaders { text, ends } = self.0;
        let start = text.len();
        let mut name_end = None;
        let mut value_end = None;
        // The ends cannot tell: they are the same when one of the two is empty.
        let mut is_value_first = false;
        while let Some(key) = map.next_key()? {
            match key {
                HeaderField::Name if name_end.is_none() => {
                    map.next_value_seed(AppendTo(text))?;
                    name_end = Some(text.len());
                }
                HeaderField::Value if value_end.is_none() => {
                    is_value_first = name_end.is_none();
                    map.next_value_seed(AppendTo(text))?;
                    value_end = Some(text.len());
                }
                HeaderField::Name => return Err(A::Error::duplicate_field("name")),
                HeaderField::Value => return Err(A::Error::duplicate_field("value")),
                HeaderField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let name_end = name_end.ok_or_else(|| A::Error::missing_field("name"))?;
        let value_end = value_end.ok_or_else(|| A::Error::missing_field("value"))?;
        if is_value_first {
            let name = text.split_off(value_end);
            text.insert_str(start, &name);
            ends.push((start + name.len(), name_end));
        } else {
            ends.push((name_end, value_end));
        }
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

struct AppendTo<'t>(&'t mut String);

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

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let Self(all) = self;
        if all.capacity() - all.len() < text.len() {
            all.reserve(text.len() + 15 * ORDINARY_CALL_BYTES);
        }
        all.push_str(text);
        Ok(())
    }
}
