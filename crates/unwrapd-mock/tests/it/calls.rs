//! Incoming calls.

use serde_json::{Value, json};

use crate::support::{Api, Application};

/// Places a call, and returns the paths by which both APIs control it.
async fn place(api: &Api) -> (String, String) {
    let call = api.make("/_mock/calls", json!({})).await;
    (
        format!("/v1/realtime/calls/{}", call["call_id"].as_str().unwrap()),
        format!("/v1/live/sessions/{}", call["session_id"].as_str().unwrap()),
    )
}

async fn act(api: &Api, path: &str, action: &str, body: Value) -> (u16, Value) {
    let (status, answer) = api.post(&format!("{path}/{action}"), body).await;
    (status, answer["error"]["code"].clone())
}

async fn state(api: &Api) -> Value {
    api.get("/_mock/calls").await.1["data"][0]["state"].clone()
}

fn realtime() -> Value {
    json!({"type": "realtime", "model": "gpt-realtime", "instructions": "Be kind."})
}

fn live() -> Value {
    json!({"session": {"type": "live", "model": "gpt-live-1"}})
}

#[tokio::test]
async fn one_call_sends_two_webhooks_and_the_first_accept_decides() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let (by_realtime, by_live) = place(&api).await;
    let events = application.events(2).await;
    let [transport, incoming] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(transport["type"], "live.transport.incoming");
    assert_eq!(incoming["type"], "realtime.call.incoming");
    assert!(by_realtime.ends_with(incoming["data"]["call_id"].as_str().unwrap()));
    assert!(by_live.ends_with(transport["data"]["session_id"].as_str().unwrap()));
    assert_eq!(
        incoming["data"]["sip_headers"],
        transport["data"]["sip_headers"]
    );

    assert_eq!(act(&api, &by_live, "accept", live()).await.0, 200);
    assert_eq!(act(&api, &by_realtime, "accept", realtime()).await.0, 409);
    assert_eq!(act(&api, &by_realtime, "reject", json!({})).await.0, 409);
    let (_, calls) = api.get("/_mock/calls").await;
    assert_eq!(calls["data"][0]["decided_by"], "live");
    assert_eq!(act(&api, &by_live, "hangup", json!({})).await.0, 200);
    assert_eq!(state(&api).await, "hung_up");
    let ended = act(&api, &by_live, "hangup", json!({})).await;
    assert_eq!(ended, (404, json!("call_id_not_found")));
}

#[tokio::test]
async fn a_call_is_rejected_with_its_status_and_referred_to_its_target() {
    let api = Api::start().await;
    let (call, _) = place(&api).await;
    assert_eq!(act(&api, &call, "reject", json!({})).await.0, 200);
    assert_eq!(
        api.get("/_mock/calls").await.1["data"][0]["sip_status"],
        603
    );

    let (call, _) = place(&api).await;
    let target = json!({"target_uri": "tel:+14155550123"});
    assert_eq!(
        act(&api, &call, "refer", target.clone()).await.0,
        404,
        "it rings"
    );
    assert_eq!(act(&api, &call, "accept", realtime()).await.0, 200);
    assert_eq!(act(&api, &call, "refer", json!({})).await.0, 400);
    assert_eq!(act(&api, &call, "refer", target).await.0, 200);
    assert_eq!(state(&api).await, "referred");
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_gone() {
    let api = Api::start().await;
    let (call, _) = place(&api).await;
    api.advance("31s").await;
    let late = act(&api, &call, "accept", realtime()).await;
    assert_eq!(late, (404, json!("call_id_not_found")));
    assert_eq!(state(&api).await, "missed");
}

#[tokio::test]
async fn a_malformed_session_is_accepted_and_the_call_fails_later() {
    let api = Api::start().await;
    let (call, _) = place(&api).await;
    assert_eq!(act(&api, &call, "accept", json!({"model": 7})).await.0, 200);
    assert_eq!(state(&api).await, "accepted");
    api.advance("2s").await;
    assert_eq!(state(&api).await, "failed");
}

#[tokio::test]
async fn the_live_api_refuses_what_is_malformed() {
    let api = Api::start().await;
    let (_, call) = place(&api).await;
    for (action, body) in [
        ("accept", json!({})),
        ("accept", json!({"session": {"type": "live"}})),
        (
            "accept",
            json!({"session": {"type": "realtime", "model": "gpt-live-1"}}),
        ),
        (
            "accept",
            json!({"session": {"type": "live", "model": "gpt-live-1", "audio": {"format": "g711"}}}),
        ),
        ("reject", json!({})),
        ("reject", json!({"status_code": 200})),
        ("refer", json!({"target_uri": " "})),
    ] {
        assert_eq!(
            act(&api, &call, action, body.clone()).await.0,
            400,
            "{action} {body}"
        );
    }
    assert_eq!(
        act(&api, &call, "reject", json!({"status_code": 486}))
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn a_refer_can_answer_200_and_do_nothing() {
    let api = Api::start().await;
    api.rule("refer ignored").await;
    let (call, _) = place(&api).await;
    act(&api, &call, "accept", realtime()).await;
    let target = json!({"target_uri": "sip:agent@example.com"});
    assert_eq!(act(&api, &call, "refer", target).await.0, 200);
    assert_eq!(state(&api).await, "accepted");
}

#[tokio::test]
async fn a_call_has_the_webhooks_and_the_sip_headers_that_it_was_given() {
    let mut application = Application::start().await;
    let api = Api::sending_to(&application).await;
    let headers =
        json!([{"name": "From", "value": "\"Ana \\ Bo\" <sip:a@b>"}, {"name": "X", "value": ""}]);
    let call = json!({
        "webhooks": ["live.call.incoming"],
        "sip_headers": headers,
        "sip_media_security": "rtp",
    });
    api.make("/_mock/calls", call).await;
    let event = application.event().await;
    assert_eq!(event["type"], "live.call.incoming");
    assert_eq!(event["data"]["sip_headers"], headers);
    assert_eq!(event["data"]["sip_media_security"], "rtp");
}
