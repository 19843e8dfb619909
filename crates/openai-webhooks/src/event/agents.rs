//! Agent sessions. To fetch one from OpenAI, send the header `OpenAI-Beta: agents=v1`
//! ([reference](https://developers.openai.com/api/reference/resources/webhooks)).

use serde::{Deserialize, Serialize};

use super::read::{object, optional_object};
use super::shape::{Field, Shape, Shaped};

/// The `data` of `agent.session.in_progress`, `.idle` and `.failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentSessionData {
    /// The unique ID of the session.
    pub id: String,
    /// Location of the session: `none`, `openai_hosted`, `self_hosted`, or a value that OpenAI adds
    /// later.
    pub environment_type: String,
    /// The unique ID of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
}

/// The `data` of `agent.session.created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentSessionCreatedData {
    /// The unique ID of the session.
    pub id: String,
    /// Location of the session: `none`, `openai_hosted`, `self_hosted`, or a value that OpenAI adds
    /// later.
    pub environment_type: String,
    /// The unique ID of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// Address for a self-hosted environment.
    #[serde(
        default,
        deserialize_with = "optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub connect: Option<AgentSessionConnect>,
}

/// Address to which a self-hosted environment connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentSessionConnect {
    /// The address to connect to.
    pub remote_url: String,
}

/// The `data` of `agent.session.action_required`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentSessionActionRequiredData {
    /// The unique ID of the session.
    pub id: String,
    /// The action that the session waits for. Details are in `required_actions` of the session.
    #[serde(deserialize_with = "object")]
    pub required_action: AgentSessionRequiredAction,
}

/// The action that an agent session waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AgentSessionRequiredAction {
    /// `function_call`, `environment_connection`, `computer_use_approval_request`,
    /// `mcp_approval_request`, or a value that OpenAI adds later.
    pub r#type: String,
}

const ENVIRONMENT_TYPE: Field = Field::text("environment_type");
const ENVIRONMENT_ID: Field = Field::text("environment_id").optional();

impl Shaped for AgentSessionData {
    const FIELDS: &'static [Field] = &[Field::text("id"), ENVIRONMENT_TYPE, ENVIRONMENT_ID];
}

impl Shaped for AgentSessionCreatedData {
    const FIELDS: &'static [Field] = &[
        Field::text("id"),
        ENVIRONMENT_TYPE,
        ENVIRONMENT_ID,
        Field::new("connect", Shape::Object(&[Field::text("remote_url")])).optional(),
    ];
}

impl Shaped for AgentSessionActionRequiredData {
    const FIELDS: &'static [Field] = &[
        Field::text("id"),
        Field::new("required_action", Shape::Object(&[Field::text("type")])),
    ];
}
