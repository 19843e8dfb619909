//! Agent sessions and their environments.

use serde_json::{Value, json};

use crate::support::{Api, Application};

const SESSIONS: &str = "/v1/agents/sessions";

async fn create(api: &Api, environment: Value, more: Value) -> Value {
    let mut session = json!({"environment": environment, "agent": {"model": "gpt-6-astra"}});
    let fields = session.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    api.make(SESSIONS, session).await
}

fn path_of(session: &Value) -> String {
    format!("{SESSIONS}/{}", session["id"].as_str().unwrap())
}

async fn input(api: &Api, session: &Value, event: Value) -> u16 {
    let path = format!("{}/events", path_of(session));
    api.post(&path, json!({"events": [event]})).await.0
}

#[tokio::test]
async fn a_turn_begins_and_ends_with_webhooks() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let session = create(&api, json!({"type": "none"}), json!({"input": "Hi"})).await;
    assert_eq!(session["status"], "in_progress");
    let events = application.events(2).await;
    assert_eq!(events[0]["type"], "agent.session.created");
    let data = json!({"id": session["id"], "environment_type": "none"});
    assert_eq!(events[0]["data"], data);
    assert_eq!(events[1]["type"], "agent.session.in_progress");
    api.advance("3s").await;
    assert_eq!(application.event().await["type"], "agent.session.idle");
    assert_eq!(api.get(&path_of(&session)).await.1["status"], "idle");
}

#[tokio::test]
async fn a_function_call_waits_for_its_result() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let tools = json!([{"type": "function", "name": "look_up", "parameters": {}}]);
    let agent = json!({"agent": {"model": "gpt-6-astra", "tools": tools}, "input": "Hi"});
    let session = create(&api, json!({"type": "none"}), agent).await;
    application.events(2).await;
    api.advance("3s").await;
    let event = application.event().await;
    assert_eq!(event["type"], "agent.session.action_required");
    let data = json!({"id": session["id"], "required_action": {"type": "function_call"}});
    assert_eq!(event["data"], data);

    let (_, waiting) = api.get(&path_of(&session)).await;
    let action = &waiting["required_actions"][0];
    assert_eq!(
        (&waiting["status"], &action["name"]),
        (&json!("requires_action"), &json!("look_up"))
    );
    let mut result = json!({
        "type": "agent.session.input.tool_result",
        "call_id": "call_unknown",
        "turn_id": action["turn_id"],
        "success": true,
        "output": "found",
    });
    assert_eq!(input(&api, &session, result.clone()).await, 400);
    result["call_id"] = action["call_id"].clone();
    assert_eq!(input(&api, &session, result).await, 202);
    let (_, goes_on) = api.get(&path_of(&session)).await;
    assert_eq!(goes_on["status"], "in_progress");
    api.advance("3s").await;
    // The webhook `in_progress` says that a turn begins, and this one has begun before.
    assert_eq!(application.event().await["type"], "agent.session.idle");
}

#[tokio::test]
async fn a_self_hosted_environment_must_be_connected_first() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let environment = json!({"type": "self_hosted", "workspace_directory": "/workspace"});
    let session = create(&api, environment, json!({})).await;
    let created = application.event().await;
    let url = &session["environment"]["remote_url"];
    assert_eq!(&created["data"]["connect"]["remote_url"], url);
    assert!(url.as_str().unwrap().starts_with(&api.mock.base_url()));

    let message = json!({
        "type": "agent.session.input.message",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
    });
    assert_eq!(input(&api, &session, message).await, 202);
    let event = application.event().await;
    assert_eq!(
        event["data"]["required_action"]["type"],
        "environment_connection"
    );
    let environment = session["environment"]["id"].as_str().unwrap();
    let path = format!("/_mock/agents/environments/{environment}");
    api.make(&path, json!({"status": "connected"})).await;
    let event = application.event().await;
    assert_eq!(event["type"], "agent.session.in_progress");
    assert_eq!(event["data"]["environment_id"], environment);
}

#[tokio::test]
async fn a_turn_is_cancelled_or_fails() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let session = create(&api, json!({"type": "none"}), json!({"input": "Hi"})).await;
    application.events(2).await;
    assert_eq!(api.delete(&path_of(&session)).await.0, 409);
    let cancel = json!({"type": "agent.session.input.cancel"});
    assert_eq!(input(&api, &session, cancel).await, 202);
    assert_eq!(application.event().await["type"], "agent.session.idle");
    let (_, deleted) = api.delete(&path_of(&session)).await;
    assert_eq!(deleted["object"], "agent.session.deleted");

    api.rule("session failed").await;
    let session = create(&api, json!({"type": "none"}), json!({"input": "Hi"})).await;
    application.events(2).await;
    api.advance("3s").await;
    assert_eq!(application.event().await["type"], "agent.session.failed");
    assert!(api.get(&path_of(&session)).await.1["error"].is_string());
}

#[tokio::test]
async fn a_prewarmed_environment_gets_ready_and_expires_unless_a_session_has_it() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let prewarm = json!({"environment": {"type": "openai_hosted"}});
    let mut ids = Vec::new();
    for _ in 0..2 {
        let environment = api.make("/v1/agents/environments", prewarm.clone()).await;
        assert_eq!(environment["status"], "pending");
        ids.push(environment["id"].as_str().unwrap().to_owned());
    }
    api.advance("6s").await;
    let events = application.events(2).await;
    assert!(
        events
            .iter()
            .all(|event| event["type"] == "agent.environment.ready")
    );
    let taken = json!({"type": "openai_hosted", "environment_id": ids[0]});
    let session = create(&api, taken.clone(), json!({})).await;
    assert_eq!(session["environment"]["id"], *ids[0]);
    let again = json!({"environment": taken, "agent": {"model": "gpt-6-astra"}});
    assert_eq!(api.post(SESSIONS, again).await.0, 400);
    application.event().await;
    api.advance("5m").await;
    let event = application.event().await;
    assert_eq!(event["type"], "agent.environment.expired");
    assert_eq!(event["data"]["id"], *ids[1]);
    let path = format!("/v1/agents/environments/{}", ids[1]);
    assert_eq!(api.get(&path).await.1["status"], "expired");
}

#[tokio::test]
async fn sessions_are_listed_by_metadata() {
    let api = Api::start().await;
    for user in ["a", "b"] {
        let more = json!({"input": "Hi", "metadata": {"user": user}});
        create(&api, json!({"type": "none"}), more).await;
    }
    let (_, list) = api.get(&format!("{SESSIONS}?metadata%5Buser%5D=a")).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(list["data"][0]["metadata"]["user"], "a");
}
