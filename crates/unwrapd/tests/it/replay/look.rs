//! Lists and views of stored messages.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_by_pages_and_shown_with_their_exact_payload() {
    let (_app, test) = TestGateway::with_app([Answer::Status(500)]).await;
    let odd = Webhook::with_payload(
        "wh_1",
        "{ \"type\":\"response.completed\",\r\n\"id\" : \"evt_1\", \"created_at\":1.750287018e9, \"data\":{\"id\":\"r\\u00e9\"}} ",
    );
    assert_eq!(test.post(&odd).await, 200);
    test.settled().await;
    test.receive("wh_2", EventType::BatchFailed).await;
    test.settled().await;
    let admin = test.admin();

    let shown = said(&admin, &["events", "show", "wh_1", "--payload"]).await;
    assert_eq!(shown, odd.payload);
    let shown = said(&admin, &["events", "show", "wh_1"]).await;
    assert_contains(
        &shown,
        &[
            "webhook-id  wh_1\n",
            "type        response.completed\n",
            "secret      number 1 of the endpoint\n",
            "HTTP 500",
            "HTTP 200",
        ],
    );
    assert!(
        !shown.contains("evt_1"),
        "no payload unless it is asked for: {shown}"
    );

    let first = run(&admin, &["events", "ls", "--limit", "1"]).await;
    let page = String::from_utf8(first.stdout).unwrap();
    assert!(
        page.contains("production  batch.failed  batch_abc123  wh_2        app delivered (1)\n"),
        "{page}"
    );
    let talk = String::from_utf8(first.stderr).unwrap();
    let cursor = talk
        .trim()
        .strip_prefix("more entries follow: --after ")
        .unwrap();
    let second = said(&admin, &["events", "ls", "--limit", "1", "--after", cursor]).await;
    assert!(
        second.contains("response.completed  ré        wh_1        app delivered (2)\n"),
        "{second}"
    );
    let failed = said(
        &admin,
        &[
            "events",
            "ls",
            "--type",
            "*",
            "--type",
            "!response.*",
            "--output",
            "json",
        ],
    )
    .await;
    let failed: Value = serde_json::from_str(&failed).unwrap();
    assert_eq!(failed["messages"][0]["webhook_id"], "wh_2");
    assert_eq!(failed["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_of_an_event_is_escaped_on_a_terminal() {
    let test = TestGateway::start(vec![]).await;
    let hostile = Webhook::with_payload(
        "wh_1",
        r#"{"id":"evt_1","object":"event","created_at":1,"type":"evil\u001b[2J\u202e\n.x","data":{"id":"x"}}"#,
    );
    assert_eq!(test.post(&hostile).await, 200);
    for arguments in [&["events", "ls"][..], &["events", "show", "wh_1"]] {
        let listed = said(&test.admin(), arguments).await;
        assert!(listed.contains(r"evil\u{1b}[2J\u{202e}\u{a}.x"), "{listed}");
        assert!(!listed.contains('\x1b'), "{listed}");
    }
}

/// People know `resp_…`, but not `wh_…`.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_found_by_their_resource() {
    let (mut app, test) = TestGateway::with_app([]).await;
    let about = |id: &str, event: &str, resource: &str| {
        let payload = format!(
            r#"{{"id":"{event}","object":"event","created_at":1,"type":"response.completed","data":{{"id":"{resource}"}}}}"#
        );
        Webhook::with_payload(id, payload)
    };
    for webhook in [
        about("wh_1", "evt_1", "resp_1"),
        about("wh_2", "evt_2", "resp_2"),
        about("wh_3", "evt_3", "resp_1"),
    ] {
        assert_eq!(test.post(&webhook).await, 200);
    }
    assert_eq!(next_ids(&mut app, 3).await, ["wh_1", "wh_2", "wh_3"]);
    test.settled().await;
    let admin = test.admin();

    let listed = said(&admin, &["events", "ls", "--resource", "resp_1"]).await;
    assert!(
        listed.contains("wh_1") && listed.contains("wh_3"),
        "{listed}"
    );
    assert!(!listed.contains("wh_2"), "{listed}");
    let shown = said(&admin, &["events", "show", "resp_1"]).await;
    assert_contains(
        &shown,
        &[
            "webhook-id  wh_1\n",
            "webhook-id  wh_3\n",
            "resource    resp_1\n",
        ],
    );
    let shown = said(&admin, &["events", "show", "evt_2"]).await;
    assert!(shown.contains("webhook-id  wh_2\n"), "{shown}");
    let unknown = "no stored message has this webhook id, event id or resource";
    complains(&admin, &["events", "show", "resp_9"], 3, unknown).await;
    let asked = ["replay", "--resource", "resp_1", "--yes"];
    said(&admin, &asked).await;
    assert_eq!(next_ids(&mut app, 2).await, ["wh_1", "wh_3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_whatever_word_its_id_is() {
    let test = TestGateway::start(vec![]).await;
    let admin = test.admin();
    for id in ["count", "replay", "a/b"] {
        test.receive(id, EventType::BatchCompleted).await;
        let shown = said(&admin, &["events", "show", id]).await;
        assert!(shown.contains(&format!("webhook-id  {id}\n")), "{shown}");
    }
    for id in [".", ".."] {
        let shown = ["events", "show", id];
        complains(&admin, &shown, 2, "cannot be part of a path").await;
    }
}
