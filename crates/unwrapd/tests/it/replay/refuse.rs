//! Refused operations, with their messages.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_names_the_remedy() {
    let test = TestGateway::start(vec![]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    let admin = test.admin();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["replay"], 2, "name the messages to replay"),
        (
            &["replay", "wh_none", "--yes"],
            3,
            "no message has the webhook-id wh_none",
        ),
        (
            &["events", "show", "wh_none"],
            3,
            "no stored message has this webhook id, event id or resource",
        ),
        (
            &["events", "show", "../../livez"],
            3,
            "no stored message has this webhook id, event id or resource",
        ),
        (
            &["dead", "drop", "wh_none", "--yes"],
            3,
            "no message has the webhook-id wh_none",
        ),
        (&["replay", "--since", "yesterday"], 2, "an age such as"),
        (
            &["replay", "--type", "resp*", "--yes"],
            2,
            "an event pattern is",
        ),
        (
            &["events", "ls", "--limit", "100000"],
            2,
            "`limit` must be 1 to 500",
        ),
        (
            &["dead", "ls", "--status", "delivered"],
            2,
            "`dead` or `dropped`",
        ),
        (
            &["replay", "--all", "--token", "a b"],
            2,
            "a token must have",
        ),
    ];
    for (arguments, code, text) in cases {
        complains(&admin, arguments, code, text).await;
    }
    test.stop().await;
    let remedy = "start it with `unwrapd serve`, or name its admin port with --admin";
    complains(&admin, &["events", "ls"], 1, remedy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_terminal_replays_and_drops_only_with_yes() {
    let (_app, test) = with_dead_letters(1).await;
    for arguments in [
        &["dead", "replay"][..],
        &["dead", "drop", "--all"],
        &["replay", "wh_1"],
    ] {
        complains(&test.admin(), arguments, 2, "Pass --yes").await;
    }
    assert_eq!(test.gateway.store().tally().await.dead, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_refuses_invalid_replays_with_the_reason() {
    let (_app, test) = TestGateway::with_app([]).await;
    let everything = json!({"filter": {}, "token": "t1"});
    assert_eq!(test.ask("replays", &everything).await.0, 200);
    let too_many = json!({"filter": {"webhook_id": vec!["wh_1"; 1001]}, "dry_run": true});
    let cases = [
        (json!({"filter": {}}), 400, "`token`"),
        (json!({"filtr": {}}), 400, "filtr"),
        (json!({"filter": {"status": ["gone"]}}), 400, "gone"),
        (json!({"filter": {"since": "soon"}}), 400, "an age such as"),
        (json!({"filter": {}, "token": ""}), 400, "a token must have"),
        (
            json!({"filter": {}, "token": ".."}),
            400,
            "a token must have",
        ),
        (
            json!({"filter": {"type": ["batch.*"]}, "token": "t1"}),
            409,
            "another",
        ),
        (
            json!({"filter": {}, "to": "nobody", "dry_run": true}),
            422,
            "`to`",
        ),
        (too_many, 400, "1000"),
    ];
    for (body, status, text) in cases {
        let (answered, problem) = test.ask("replays", &body).await;
        assert_eq!(answered, status, "{body}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(text),
            "{body}: {problem}"
        );
    }
    let big = json!({"filter": {"webhook_id": ["x".repeat(300_000)]}});
    assert_eq!(test.ask("replays", &big).await.0, 413);
    for query in ["colour=red", "limit=0", "limit=x", "after=x", "type=a*b"] {
        let url = format!("{}/api/v1/messages?{query}", test.admin());
        assert_eq!(
            client().get(url).send().await.unwrap().status(),
            400,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_web_page_can_neither_replay_nor_read() {
    let (mut app, test) = TestGateway::with_app([]).await;
    test.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    test.settled().await;
    let url = format!("{}/api/v1/replays", test.admin());
    let body = r#"{"filter": {}, "token": "t1"}"#;
    // Content types that a form can send.
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let request = client().post(&url).header("content-type", content_type);
        assert_eq!(
            request.body(body).send().await.unwrap().status(),
            415,
            "{content_type}"
        );
    }
    // Hosts that a page can send whose own name resolves to this machine.
    for host in [
        "evil.example",
        "evil.example:8081",
        "127.0.0.1.evil.example",
    ] {
        let request = client()
            .post(&url)
            .header("content-type", "application/json")
            .header("host", host);
        assert_eq!(
            request.body(body).send().await.unwrap().status(),
            403,
            "{host}"
        );
        let request = client()
            .get(format!("{}/api/v1/messages", test.admin()))
            .header("host", host);
        assert_eq!(request.send().await.unwrap().status(), 403, "{host}");
    }
    for host in ["localhost:8081", "127.0.0.1:1", "[::1]:8081"] {
        let request = client()
            .get(format!("{}/api/v1/messages", test.admin()))
            .header("host", host);
        assert_eq!(request.send().await.unwrap().status(), 200, "{host}");
    }
    assert_eq!(test.gateway.store().tally().await.pending, 0);
}
