//! Events. The table below is the whole catalogue; the enums, the classes, their docs, the samples
//! and the tests are generated from it. A new event type is one more row and, if its `data` is more
//! than an id, one more struct in a file of `event/`.
//!
//! Source: [OpenAI's reference](https://developers.openai.com/api/reference/resources/webhooks).

mod agents;
mod calls;
#[macro_use]
mod catalogue;
mod envelope;
mod problem;
mod read;
mod safety;
mod shape;
mod unknown;

use std::{fmt, io};

use serde::{Deserialize, Serialize};

pub use agents::{
    AgentSessionActionRequiredData, AgentSessionConnect, AgentSessionCreatedData, AgentSessionData,
    AgentSessionRequiredAction,
};
pub use calls::{
    LiveCallIncomingData, LiveTransportConnectedData, LiveTransportIncomingData,
    RealtimeCallIncomingData, SipHeader, SipHeaders,
};
pub use envelope::Envelope;
pub use problem::{PayloadError, PayloadProblem};
use read::Object;
pub use safety::SafetyIdentifierBlockedData;
use shape::{Field, Shape, Shaped};
pub use unknown::UnknownWebhookEvent;

catalogue! {
    AgentEnvironmentExpired AgentEnvironmentExpiredWebhookEvent "agent.environment.expired": ResourceData, "`id` is the unique ID of the environment.",
        sent when "a prewarmed environment expired and cannot be resumed",
        sample r#"{"id": "evt_123", "object": "event", "type": "agent.environment.expired", "created_at": 1750287018, "data": {"id": "ccarenv_abc123"}}"#;

    AgentEnvironmentFailed AgentEnvironmentFailedWebhookEvent "agent.environment.failed": ResourceData, "`id` is the unique ID of the environment.",
        sent when "the set-up of a prewarmed environment failed",
        sample r#"{"id": "evt_123", "object": "event", "type": "agent.environment.failed", "created_at": 1750287018, "data": {"id": "ccarenv_abc123"}}"#;

    AgentEnvironmentReady AgentEnvironmentReadyWebhookEvent "agent.environment.ready": ResourceData, "`id` is the unique ID of the environment.",
        sent when "a prewarmed environment is set up and waits to be attached",
        sample r#"{"id": "evt_123", "object": "event", "type": "agent.environment.ready", "created_at": 1750287018, "data": {"id": "ccarenv_abc123"}}"#;

    AgentEnvironmentSuspended AgentEnvironmentSuspendedWebhookEvent "agent.environment.suspended": ResourceData, "`id` is the unique ID of the environment.",
        sent when "an environment was suspended and can be resumed",
        sample r#"{"id": "evt_123", "object": "event", "type": "agent.environment.suspended", "created_at": 1750287018, "data": {"id": "ccarenv_abc123"}}"#;

    AgentSessionActionRequired AgentSessionActionRequiredWebhookEvent "agent.session.action_required": AgentSessionActionRequiredData, "The session and the action that it waits for.",
        sent when "an agent session waits for something only you can do",
        sample r#"{"id": "evt_123", "object": "event", "created_at": 1750287018, "type": "agent.session.action_required", "data": {"id": "sess_abc123", "required_action": {"type": "function_call"}}}"#;

    AgentSessionCreated AgentSessionCreatedWebhookEvent "agent.session.created": AgentSessionCreatedData, "The session.",
        sent when "an agent session was created",
        sample r#"{"id": "evt_123", "object": "event", "created_at": 1750287018, "type": "agent.session.created", "data": {"id": "sess_abc123", "environment_id": "ccarenv_abc123", "environment_type": "self_hosted", "connect": {"remote_url": "https://api.openai.com/v1/agents/api"}}}"#;

    AgentSessionFailed AgentSessionFailedWebhookEvent "agent.session.failed": AgentSessionData, "The session.",
        sent when "an agent session failed; fetch it and look at its `error`",
        sample r#"{"id": "evt_123", "object": "event", "created_at": 1750287018, "type": "agent.session.failed", "data": {"id": "sess_abc123", "environment_id": "ccarenv_abc123", "environment_type": "self_hosted"}}"#;

    AgentSessionIdle AgentSessionIdleWebhookEvent "agent.session.idle": AgentSessionData, "The session.",
        sent when "an agent session is idle and takes input",
        sample r#"{"id": "evt_123", "object": "event", "created_at": 1750287018, "type": "agent.session.idle", "data": {"id": "sess_abc123", "environment_id": "ccarenv_abc123", "environment_type": "self_hosted"}}"#;

    AgentSessionInProgress AgentSessionInProgressWebhookEvent "agent.session.in_progress": AgentSessionData, "The session.",
        sent when "an agent session began a turn",
        sample r#"{"id": "evt_123", "object": "event", "created_at": 1750287018, "type": "agent.session.in_progress", "data": {"id": "sess_abc123", "environment_id": "ccarenv_abc123", "environment_type": "self_hosted"}}"#;

    BatchCancelled BatchCancelledWebhookEvent "batch.cancelled": ResourceData, "`id` is the unique ID of the batch.",
        sent when "a batch was cancelled",
        sample r#"{"id": "evt_abc123", "type": "batch.cancelled", "created_at": 1719168000, "data": {"id": "batch_abc123"}}"#;

    BatchCompleted BatchCompletedWebhookEvent "batch.completed": ResourceData, "`id` is the unique ID of the batch.",
        sent when "a batch is done: fetch it, then its output and error files",
        sample r#"{"id": "evt_abc123", "type": "batch.completed", "created_at": 1719168000, "data": {"id": "batch_abc123"}}"#;

    BatchExpired BatchExpiredWebhookEvent "batch.expired": ResourceData, "`id` is the unique ID of the batch.",
        sent when "a batch did not finish within its window; part of its output may exist",
        sample r#"{"id": "evt_abc123", "type": "batch.expired", "created_at": 1719168000, "data": {"id": "batch_abc123"}}"#;

    BatchFailed BatchFailedWebhookEvent "batch.failed": ResourceData, "`id` is the unique ID of the batch.",
        sent when "a batch failed; fetch it and look at its `errors`",
        sample r#"{"id": "evt_abc123", "type": "batch.failed", "created_at": 1719168000, "data": {"id": "batch_abc123"}}"#;

    EvalRunCanceled EvalRunCanceledWebhookEvent "eval.run.canceled": ResourceData, "`id` is the unique ID of the eval run.",
        sent when "an eval run was canceled",
        sample r#"{"id": "evt_abc123", "type": "eval.run.canceled", "created_at": 1719168000, "data": {"id": "evalrun_abc123"}}"#;

    EvalRunFailed EvalRunFailedWebhookEvent "eval.run.failed": ResourceData, "`id` is the unique ID of the eval run.",
        sent when "an eval run failed",
        sample r#"{"id": "evt_abc123", "type": "eval.run.failed", "created_at": 1719168000, "data": {"id": "evalrun_abc123"}}"#;

    EvalRunSucceeded EvalRunSucceededWebhookEvent "eval.run.succeeded": ResourceData, "`id` is the unique ID of the eval run.",
        sent when "an eval run succeeded",
        sample r#"{"id": "evt_abc123", "type": "eval.run.succeeded", "created_at": 1719168000, "data": {"id": "evalrun_abc123"}}"#;

    FineTuningJobCancelled FineTuningJobCancelledWebhookEvent "fine_tuning.job.cancelled": ResourceData, "`id` is the unique ID of the fine-tuning job.",
        sent when "a fine-tuning job was cancelled",
        sample r#"{"id": "evt_abc123", "type": "fine_tuning.job.cancelled", "created_at": 1719168000, "data": {"id": "ftjob_abc123"}}"#;

    FineTuningJobFailed FineTuningJobFailedWebhookEvent "fine_tuning.job.failed": ResourceData, "`id` is the unique ID of the fine-tuning job.",
        sent when "a fine-tuning job failed; fetch it and look at its `error`",
        sample r#"{"id": "evt_abc123", "type": "fine_tuning.job.failed", "created_at": 1719168000, "data": {"id": "ftjob_abc123"}}"#;

    FineTuningJobSucceeded FineTuningJobSucceededWebhookEvent "fine_tuning.job.succeeded": ResourceData, "`id` is the unique ID of the fine-tuning job.",
        sent when "a fine-tuning job succeeded",
        sample r#"{"id": "evt_abc123", "type": "fine_tuning.job.succeeded", "created_at": 1719168000, "data": {"id": "ftjob_abc123"}}"#;

    LiveCallIncoming LiveCallIncomingWebhookEvent "live.call.incoming": LiveCallIncomingData, "The call. OpenAI may also send `realtime.call.incoming` for the same call: answer one of them, see [`RealtimeCallIncomingData`].",
        sent when "a phone call rings, over SIP, and waits for the Live API to accept it; the older name of `live.transport.incoming`",
        sample r#"{"id": "evt_abc123", "type": "live.call.incoming", "created_at": 1719168000, "data": {"session_id": "live_u0_479a275623b54bdb9b6fbae2f7cbd408", "sip_media_security": "srtp", "sip_headers": [{"name": "From", "value": "<sip:alice@example.com>;tag=abc123"}, {"name": "To", "value": "<sip:recipient@example.com>"}, {"name": "Call-ID", "value": "call-123@example.com"}]}}"#;

    LiveTransportConnected LiveTransportConnectedWebhookEvent "live.transport.connected": LiveTransportConnectedData, "The session.",
        sent when "a Live session is connected over WebRTC",
        sample r#"{"object": "event", "id": "evt_abc123", "type": "live.transport.connected", "created_at": 1750287018, "data": {"type": "webrtc", "session_id": "live_123"}}"#;

    LiveTransportIncoming LiveTransportIncomingWebhookEvent "live.transport.incoming": LiveTransportIncomingData, "The call. OpenAI may also send `realtime.call.incoming` for the same call: answer one of them, see [`RealtimeCallIncomingData`].",
        sent when "a phone call rings, over SIP, and waits for the Live API to accept it",
        sample r#"{"id": "evt_abc123", "type": "live.transport.incoming", "created_at": 1719168000, "data": {"type": "sip", "session_id": "live_u0_479a275623b54bdb9b6fbae2f7cbd408", "sip_media_security": "srtp", "sip_headers": [{"name": "From", "value": "<sip:alice@example.com>;tag=abc123"}, {"name": "To", "value": "<sip:recipient@example.com>"}, {"name": "Call-ID", "value": "call-123@example.com"}]}}"#;

    RealtimeCallIncoming RealtimeCallIncomingWebhookEvent "realtime.call.incoming": RealtimeCallIncomingData, "The call. OpenAI may also send `live.transport.incoming` for the same call: answer one of them, see [`RealtimeCallIncomingData`].",
        sent when "a phone call rings, over SIP, and waits for the Realtime API to accept it",
        sample r#"{"id": "evt_abc123", "type": "realtime.call.incoming", "created_at": 1719168000, "data": {"call_id": "rtc_u0_479a275623b54bdb9b6fbae2f7cbd408", "sip_media_security": "srtp", "sip_headers": [{"name": "Max-Forwards", "value": "63"}, {"name": "CSeq", "value": "851287 INVITE"}, {"name": "Content-Type", "value": "application/sdp"}]}}"#;

    ResponseCancelled ResponseCancelledWebhookEvent "response.cancelled": ResourceData, "`id` is the unique ID of the response.",
        sent when "a background response was cancelled",
        sample r#"{"id": "evt_abc123", "type": "response.cancelled", "created_at": 1719168000, "data": {"id": "resp_abc123"}}"#;

    ResponseCompleted ResponseCompletedWebhookEvent "response.completed": ResourceData, "`id` is the unique ID of the response.",
        sent when "a background response is complete; fetch it soon, it may be gone after ten minutes",
        sample r#"{"object": "event", "id": "evt_685343a1381c819085d44c354e1b330e", "type": "response.completed", "created_at": 1750287018, "data": {"id": "resp_abc123"}}"#;

    ResponseFailed ResponseFailedWebhookEvent "response.failed": ResourceData, "`id` is the unique ID of the response.",
        sent when "a background response failed; fetch it and look at its `error`",
        sample r#"{"id": "evt_abc123", "type": "response.failed", "created_at": 1719168000, "data": {"id": "resp_abc123"}}"#;

    ResponseIncomplete ResponseIncompleteWebhookEvent "response.incomplete": ResourceData, "`id` is the unique ID of the response.",
        sent when "a background response was interrupted; fetch it and look at its `incomplete_details`",
        sample r#"{"id": "evt_abc123", "type": "response.incomplete", "created_at": 1719168000, "data": {"id": "resp_abc123"}}"#;

    SafetyAlertCreated SafetyAlertCreatedWebhookEvent "safety.alert.created": ResourceData, "`id` is the unique ID of the alert.",
        sent when "an alert about the behaviour of a model in this project was approved",
        sample r#"{"id": "evt_123", "object": "event", "type": "safety.alert.created", "created_at": 1787659200, "data": {"id": "alert_0123456789abcdef0123456789abcdef"}}"#;

    SafetyDeactivationIssued SafetyDeactivationIssuedWebhookEvent "safety.deactivation_issued": ResourceData, "`id` is the unique ID of the safety case.",
        sent when "a safety identifier of the organisation was deactivated",
        sample r#"{"id": "evt_123", "object": "event", "created_at": 1787659200, "type": "safety.deactivation_issued", "data": {"id": "C-abc123"}}"#;

    SafetyOrgAlertCreated SafetyOrgAlertCreatedWebhookEvent "safety.org_alert.created": ResourceData, "`id` is the unique ID of the alert.",
        sent when "an alert in an enterprise workspace was approved",
        sample r#"{"id": "evt_123", "object": "event", "type": "safety.org_alert.created", "created_at": 1787659200, "data": {"id": "alert_0123456789abcdef0123456789abcdef"}}"#;

    SafetyWarningIssued SafetyWarningIssuedWebhookEvent "safety.warning_issued": ResourceData, "`id` is the unique ID of the safety case.",
        sent when "a warning was issued for a safety identifier of the organisation",
        sample r#"{"id": "evt_example", "object": "event", "type": "safety.warning_issued", "created_at": 1787659200, "data": {"id": "C-abc123"}}"#;

    SafetyIdentifierBlocked SafetyIdentifierBlockedWebhookEvent "safety_identifier.blocked": SafetyIdentifierBlockedData, "The safety identifier and the reason.",
        sent when "a request tied to a safety identifier was blocked",
        sample r#"{"id": "evt_abc123", "object": "event", "type": "safety_identifier.blocked", "created_at": 1719168000, "data": {"safety_identifier": "safety-id-123", "safety_category": "bio", "model": "gpt-6-astra", "project_id": "proj_abc123", "request_id": "req_123"}}"#;

    VideoCompleted VideoCompletedWebhookEvent "video.completed": ResourceData, "`id` is the unique ID of the video.",
        sent when "a video is rendered",
        sample r#"{"id": "evt_abc123", "object": "event", "type": "video.completed", "created_at": 1758941485, "data": {"id": "video_abc123"}}"#;

    VideoFailed VideoFailedWebhookEvent "video.failed": ResourceData, "`id` is the unique ID of the video.",
        sent when "a video could not be rendered",
        sample r#"{"id": "evt_abc123", "object": "event", "type": "video.failed", "created_at": 1758941485, "data": {"id": "video_abc123"}}"#;

}

impl UnwrapWebhookEvent {
    /// The event as JSON in OpenAI's form: one line, with a space after each comma and colon, as in
    /// the test fixture of the official SDKs. An unknown event keeps its original text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, Spaced);
        let written = self.serialize(&mut serializer);
        written.expect("texts, numbers and lists of them always make JSON");
        String::from_utf8(json).expect("JSON is UTF-8")
    }
}

/// Writes a space after each comma and colon, as Python's `json.dumps` does.
///
/// An application that parses a body and serialises it again before it verifies often omits these
/// spaces. Samples with spaces make such an application fail in its tests.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The `data` of a thin event: the id of a resource. Fetch the resource from [OpenAI's
/// API](https://developers.openai.com/api/reference/resources/webhooks).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResourceData {
    /// The unique ID of the resource, such as a batch, a response or a job. The event's class names
    /// the kind.
    pub id: String,
}

impl Shaped for ResourceData {
    const FIELDS: &'static [Field] = &[Field::text("id")];
}

/// The value of the field `object`, if an event has it: always "event".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventObject;

impl EventObject {
    const TEXT: &str = "event";
}

impl fmt::Display for EventObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::TEXT)
    }
}

impl Serialize for EventObject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Self::TEXT)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    /// Parses a name such as `batch.completed`, for configuration files. For a type that this
    /// version may not know, use text instead.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl serde::de::Visitor<'_> for NameVisitor {
            type Value = EventType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an event type, such as `batch.completed`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<EventType, E> {
                name.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

impl TryFrom<&str> for EventType {
    type Error = UnknownEventType;

    fn try_from(name: &str) -> Result<Self, UnknownEventType> {
        name.parse()
    }
}

/// The text is not an event type in the catalogue of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event type of this version's catalogue, see `EventType::ALL`")]
pub struct UnknownEventType;
