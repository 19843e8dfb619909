//! A path prefix, for a reverse proxy that passes paths on unchanged.

use serde_json::{Value, json};
use unwrapd::admin::routes;

use super::{OPERATE, PAGE, READ, assert_statuses, header, log_in, path, request, tokens};
use crate::support::{TestGateway, client_that_stays};

const BASE: &str = "/ops/unwrapd";

/// A gateway with the prefix and both tokens.
async fn below() -> TestGateway {
    TestGateway::configured(vec![], |config| {
        config.admin_tokens = Some(tokens(true));
        config.admin_base_path = BASE.into();
    })
    .await
}

#[tokio::test]
async fn every_route_is_served_with_the_prefix_and_without() {
    let test = below().await;
    let (admin, client) = (test.admin(), client_that_stays());
    for route in routes() {
        for token in [None, Some(READ), Some(OPERATE)] {
            let mut statuses = Vec::new();
            for admin in [admin.clone(), format!("{admin}{BASE}")] {
                let mut request = request(&client, &admin, &route);
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                statuses.push(request.send().await.unwrap().status());
            }
            assert_eq!(statuses[0], statuses[1], "{route:?}");
            assert_ne!(statuses[0], 405, "{route:?}");
        }
    }
}

#[tokio::test]
async fn the_prefix_counts_as_whole_segments_and_once() {
    let test = below().await;
    let (admin, client) = (test.admin(), client_that_stays());
    let expected = [
        ("/ops/unwrapd/livez", 200),
        ("/ops/unwrapd/livez?x=1", 200),
        ("/livez", 200),
        ("/ops/unwrapd/x", 404),
        ("/ops/unwrapdx/livez", 404),
        ("/ops/livez", 404),
        ("/OPS/unwrapd/livez", 404),
        ("/ops/unwrapd/ops/unwrapd/livez", 404),
        ("/ops/unwrapd//livez", 404),
    ];
    assert_statuses(|path| client.get(format!("{admin}{path}")), &expected).await;
}

#[tokio::test]
async fn a_browser_stays_below_the_prefix() {
    let test = below().await;
    let (admin, client) = (test.admin(), client_that_stays());
    for (path, to) in [
        ("/ops/unwrapd", "/ops/unwrapd/"),
        ("/ops/unwrapd/", "/ops/unwrapd/"),
        ("/ops/unwrapd/x?a=b", "/ops/unwrapd/x?a=b"),
        // The session is for paths with the prefix only.
        ("/x", "/ops/unwrapd/x"),
        ("/ops/unwrapd//evil.example", "/ops/unwrapd/"),
    ] {
        let request = client.get(format!("{admin}{path}")).header("accept", PAGE);
        let led = request.send().await.unwrap();
        assert_eq!(led.status(), 303, "{path}");
        let location = header(&led, "location");
        let encoded: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        assert_eq!(location, format!("{BASE}/login?to={encoded}"), "{path}");
        let below = format!("{admin}{BASE}");
        let answer = log_in(&client, &below, READ, to).send().await.unwrap();
        assert_eq!(header(&answer, "location"), to);
        let cookie = header(&answer, "set-cookie");
        assert!(cookie.contains("; Path=/ops/unwrapd; "), "{cookie}");
    }
    let form = client
        .get(format!("{admin}{BASE}/login"))
        .send()
        .await
        .unwrap();
    let html = form.text().await.unwrap();
    assert!(html.contains("action=\"/ops/unwrapd/login\""), "{html}");
    assert!(
        html.contains("href=\"/ops/unwrapd/assets/style.css?"),
        "{html}"
    );
    let out = client
        .post(format!("{admin}{BASE}/logout"))
        .send()
        .await
        .unwrap();
    assert_eq!(header(&out, "location"), "/ops/unwrapd/login");
}

#[tokio::test]
async fn the_document_names_the_prefix_and_the_ways_of_access() {
    let document = async |test: &TestGateway| -> Value {
        let url = format!("{}/api/v1/openapi.json", test.admin());
        let request = client_that_stays().get(url).bearer_auth(READ);
        let answer = request.send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    };
    let (with, without) = (below().await, TestGateway::start(vec![]).await);
    let (with, without) = (document(&with).await, document(&without).await);
    assert_eq!(with["servers"], json!([{ "url": BASE }]));
    assert!(without.get("servers").is_none());
    assert_eq!(with["paths"], without["paths"]);
    let schemes = &with["components"]["securitySchemes"];
    assert_eq!(
        schemes["token"],
        json!({ "type": "http", "scheme": "bearer" })
    );
    let cookie = json!({ "type": "apiKey", "in": "cookie", "name": "unwrapd_session" });
    assert_eq!(schemes["session"], cookie);
    for route in routes().iter().filter(|route| !route.is_page()) {
        let method = route.method().as_str().to_lowercase();
        let security = &with["paths"][route.path()][method]["security"];
        let by = |name: &str| {
            security
                .as_array()
                .is_some_and(|all| all.contains(&json!({ name: [] })))
        };
        assert_eq!(by("token"), !route.is_open(), "{}", path(route));
        assert_eq!(by("session"), !route.is_open(), "{}", path(route));
    }
}
