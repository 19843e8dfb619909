//! `/webhook_endpoints` and `/webhook_event_types`.

use serde_json::{Value, json};

use crate::support::{Api, Application, Reply};

const PATH: &str = "/v1/webhook_endpoints";

async fn create(api: &Api, application: &Application) -> Value {
    let endpoint = json!({
        "name": "app",
        "url": application.url,
        "event_types": ["batch.completed", "response.completed"],
    });
    api.make(PATH, endpoint).await
}

fn path_of(endpoint: &Value) -> String {
    format!("{PATH}/{}", endpoint["id"].as_str().unwrap())
}

async fn send(api: &Api) {
    api.make("/_mock/events", json!({"type": "batch.completed"}))
        .await;
}

#[tokio::test]
async fn the_secret_is_shown_when_it_is_made_and_never_again() {
    let mut application = Application::start().await;
    let api = Api::start().await;
    let created = create(&api, &application).await;
    let secret = created["signing_secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    assert_eq!(created["object"], "webhook_endpoint");
    assert_eq!(created["created_at"], created["updated_at"]);

    let (_, shown) = api.get(&path_of(&created)).await;
    let (_, list) = api.get(PATH).await;
    assert_eq!(shown, list["data"][0]);
    assert!(!list.to_string().contains(secret));
    let hint = shown["signing_secret_hint"].as_str().unwrap();
    assert!(hint.ends_with(&secret[secret.len() - 4..]) && hint.len() < 16);

    send(&api).await;
    let delivered = application.next().await;
    assert!(delivered.unwrap_with(secret).is_some());
    // Not subscribed.
    api.make("/_mock/events", json!({"type": "batch.failed"}))
        .await;
    send(&api).await;
    let event = application.next().await.unwrap_with(secret).unwrap();
    assert_eq!(event.kind(), "batch.completed");
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign_for_24_hours_if_that_was_asked_for() {
    let mut application = Application::start().await;
    let api = Api::start().await;
    let created = create(&api, &application).await;
    let old = created["signing_secret"].as_str().unwrap();
    let rotate = format!("{}/rotate_secret", path_of(&created));
    api.advance("1h").await;
    let keep = json!({"keep_old_secret_active_for_24_hours": true});
    let rotated = api.make(&rotate, keep).await;
    let new = rotated["signing_secret"].as_str().unwrap();
    assert_ne!(old, new);
    assert!(rotated["updated_at"].as_u64() > created["updated_at"].as_u64());

    for (advance, signatures) in [("23h", 2), ("2h", 1)] {
        api.advance(advance).await;
        send(&api).await;
        let delivered = application.next().await;
        let header = delivered.header("webhook-signature");
        assert_eq!(header.split(' ').count(), signatures, "{header}");
        assert!(delivered.unwrap_with(new).is_some());
        assert_eq!(delivered.unwrap_with(old).is_some(), signatures == 2);
    }
}

#[tokio::test]
async fn a_plain_rotation_ends_every_old_secret_at_once() {
    let mut application = Application::start().await;
    let api = Api::start().await;
    let created = create(&api, &application).await;
    let rotate = format!("{}/rotate_secret", path_of(&created));
    let keep = json!({"keep_old_secret_active_for_24_hours": true});
    let kept = api.make(&rotate, keep).await;
    // Without a body, as in OpenAI's example.
    let answer = api.request("POST", &rotate).send().await.unwrap();
    let rotated: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    send(&api).await;
    let delivered = application.next().await;
    let is_signed_by = |endpoint: &Value| {
        let secret = endpoint["signing_secret"].as_str().unwrap();
        delivered.unwrap_with(secret).is_some()
    };
    assert!(is_signed_by(&rotated));
    assert!(!is_signed_by(&created) && !is_signed_by(&kept));
}

#[tokio::test]
async fn a_retry_during_the_overlap_is_signed_by_the_secrets_of_its_time() {
    let mut application = Application::answering([Reply::Status(500), Reply::Status(200)]).await;
    let mut api = Api::start().await;
    let created = create(&api, &application).await;
    let old = created["signing_secret"].as_str().unwrap();
    send(&api).await;
    api.next_attempt().await;
    application.next().await;
    let rotate = format!("{}/rotate_secret", path_of(&created));
    api.make(
        &rotate,
        json!({"keep_old_secret_active_for_24_hours": true}),
    )
    .await;
    // The clock passes the overlap, and the retry is planned within it.
    api.advance("30h").await;
    assert!(application.next().await.unwrap_with(old).is_some());
}

#[tokio::test]
async fn a_test_sends_one_sample_and_returns_the_status_of_the_answer() {
    let mut application = Application::answering([Reply::Status(418)]).await;
    let api = Api::start().await;
    let created = create(&api, &application).await;
    let test = format!("{}/test", path_of(&created));
    // The endpoint is not subscribed to this type.
    let tested = api
        .make(&test, json!({"event_type": "agent.session.idle"}))
        .await;
    assert_eq!(
        tested,
        json!({
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": created["id"],
            "event_type": "agent.session.idle",
            "status_code": 418,
            "success": true,
        })
    );
    let secret = created["signing_secret"].as_str().unwrap();
    let event = application.next().await.unwrap_with(secret).unwrap();
    assert_eq!(event.kind(), "agent.session.idle");
    let (_, shown) = api.get(&path_of(&created)).await;
    assert_eq!(shown["updated_at"], created["updated_at"]);

    // Nothing listens on port 1.
    api.make(&path_of(&created), json!({"url": "http://127.0.0.1:1/"}))
        .await;
    let (status, error) = api.post(&test, json!({"event_type": "batch.failed"})).await;
    assert_eq!(status, 500);
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("could not be sent")
    );
}

#[tokio::test]
async fn an_update_replaces_what_it_names_and_moves_updated_at_only_if_something_changed() {
    let application = Application::start().await;
    let api = Api::start().await;
    let created = create(&api, &application).await;
    api.advance("1h").await;
    let same = api.make(&path_of(&created), json!({"name": "app"})).await;
    assert_eq!(same["updated_at"], created["updated_at"]);
    let update = json!({"event_types": ["batch.failed"]});
    let updated = api.make(&path_of(&created), update).await;
    assert_eq!(updated["event_types"], json!(["batch.failed"]));
    assert_eq!(
        (&updated["name"], &updated["url"]),
        (&created["name"], &created["url"])
    );
    assert!(updated["updated_at"].as_u64() > created["updated_at"].as_u64());
    assert!(updated.get("signing_secret").is_none());
}

#[tokio::test]
async fn a_list_has_the_newest_endpoint_first_and_goes_on_after_an_id() {
    let application = Application::start().await;
    let api = Api::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, create(&api, &application).await["id"].clone());
    }
    let (_, first) = api.get(&format!("{PATH}?limit=2")).await;
    assert_eq!((&first["first_id"], &first["last_id"]), (&ids[0], &ids[1]));
    assert_eq!(first["has_more"], true);
    let after = ids[1].as_str().unwrap();
    let (_, second) = api.get(&format!("{PATH}?limit=2&after={after}")).await;
    assert_eq!(second["data"][0]["id"], ids[2]);
    assert_eq!(second["has_more"], false);

    assert_eq!(
        api.delete(&format!("{PATH}/{after}")).await.1["deleted"],
        true
    );
    assert_eq!(api.get(&format!("{PATH}?after={after}")).await.0, 404);
    assert_eq!(api.get(&format!("{PATH}/{after}")).await.0, 404);
}

#[tokio::test]
async fn an_endpoint_that_openai_would_refuse_is_refused() {
    let api = Api::start().await;
    let valid =
        json!({"name": "a", "url": "https://example.com/", "event_types": ["batch.failed"]});
    assert_eq!(api.post(PATH, valid.clone()).await.0, 200);
    for (param, value) in [
        ("name", json!(null)),
        ("name", json!("")),
        ("name", json!("a".repeat(257))),
        ("url", json!("http://example.com/")),
        ("url", json!("ftp://127.0.0.1/")),
        (
            "url",
            json!(format!("https://example.com/{}", "a".repeat(2048))),
        ),
        ("url", json!(7)),
        ("event_types", json!([])),
        ("event_types", json!("batch.failed")),
        ("event_types", json!(["batch.finished"])),
        // OpenAI's dashboard subscribes to these, its API does not.
        ("event_types", json!(["live.transport.incoming"])),
        ("event_types", json!(["safety.warning_issued"])),
    ] {
        let mut endpoint = valid.clone();
        endpoint[param] = value.clone();
        let (status, error) = api.post(PATH, endpoint).await;
        assert_eq!(
            (status, &error["error"]["param"]),
            (400, &json!(param)),
            "{value}"
        );
    }
    let live = json!({"url": "http://localhost:1/", "event_types": ["live.transport.incoming"]});
    api.make("/_mock/webhook_endpoints", live).await;
}

#[tokio::test]
async fn the_event_types_are_those_that_the_api_subscribes_to() {
    let (_, types) = Api::start().await.get("/v1/webhook_event_types").await;
    let types = types["data"].as_array().unwrap();
    assert_eq!(types.len(), 27);
    assert!(types.contains(&json!("realtime.call.incoming")));
    assert!(!types.contains(&json!("live.transport.incoming")));
}
