//! A destination behind an HTTP proxy.

use std::net::SocketAddr;
use std::path::Path;

use openai_webhooks::{EventType, Webhooks};
use tempfile::TempDir;
use unwrapd::delivery::Outcome;
use unwrapd::destinations::Kind;
use unwrapd::destinations::http::{Authorities, HttpSettings, ProxySettings};

use super::private_ca::saying;
use super::{assert_answer, assert_delivered, delivery, patient, sent};
use crate::support::application::Application;
use crate::support::process::{Serving, checked, destination_table, write_destinations};
use crate::support::proxy::{ProxyRules, ProxyServer};
use crate::support::tls_server::{authority, serve, signed_by};
use crate::support::{APP_SECRET, address_of};

fn address(app: &Application) -> SocketAddr {
    address_of(&app.url)
}

fn through(proxy: &str, url: &str) -> HttpSettings {
    let webhooks = Webhooks::new(APP_SECRET).unwrap();
    let mut settings = HttpSettings::new(url.parse().unwrap(), webhooks);
    settings.proxy = Some(ProxySettings {
        url: proxy.parse().unwrap(),
        user: None,
    });
    settings
}

async fn deliver(settings: HttpSettings) -> Outcome {
    sent(&patient(Kind::Http(settings)), &delivery("{}")).await
}

#[tokio::test]
async fn the_proxy_looks_the_name_up_and_gets_the_whole_url() {
    let mut app = Application::start([]).await;
    let proxy = ProxyServer::start(address(&app), ProxyRules::default()).await;
    // The proxy's name resolves to a private address, as usual.
    let named = proxy.url().replace("127.0.0.1", "localhost");
    let outcome = deliver(through(&named, "http://app.invalid/webhook")).await;
    assert_delivered(&outcome);
    assert!(app.next().await.verified().is_ok());
    let heads = proxy.heads();
    assert!(
        heads[0].starts_with("POST http://app.invalid/webhook HTTP/1.1"),
        "{heads:?}"
    );
}

#[tokio::test]
async fn a_url_of_https_goes_through_a_tunnel() {
    let ours = authority("ours");
    let server = serve(&signed_by(&ours, "app.invalid", None));
    let proxy = ProxyServer::start(server, ProxyRules::default()).await;
    let folder = TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let mut settings = through(&proxy.url(), "https://app.invalid/webhook");
    settings.authorities = Some(Authorities::read(&ca).unwrap());
    let outcome = deliver(settings).await;
    assert_delivered(&outcome);
    let heads = proxy.heads();
    assert!(
        heads[0].starts_with("CONNECT app.invalid:443 HTTP/1.1"),
        "{heads:?}"
    );
    assert!(!heads[0].contains("webhook-id"), "{heads:?}");
}

#[tokio::test]
async fn a_failure_of_a_proxy_is_reported_with_its_cause() {
    let app = Application::start([]).await;
    let asks = ProxyRules {
        authorization: Some("Basic x".into()),
        makes_no_tunnels: false,
    };
    let refuses = ProxyRules {
        authorization: None,
        makes_no_tunnels: true,
    };
    let asks = ProxyServer::start(address(&app), asks).await.url();
    let refuses = ProxyServer::start(address(&app), refuses).await.url();
    // Bound and dropped: a port without a listener.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for (proxy, url, cause) in [
        (
            &asks,
            "http://app.invalid/",
            "correct `proxy_user` and `proxy_password`",
        ),
        (
            &asks,
            "https://app.invalid/",
            "correct `proxy_user` and `proxy_password`",
        ),
        (
            &refuses,
            "https://app.invalid/",
            "the proxy refused to connect to the host and port",
        ),
        (
            &nobody,
            "https://app.invalid/",
            "connection refused: no proxy is listening on 127.0.0.1:",
        ),
        (
            &nobody,
            "http://app.invalid/",
            "connection refused: no proxy is listening on 127.0.0.1:",
        ),
    ] {
        let outcome = deliver(through(proxy, url)).await;
        assert!(outcome.answer().contains(cause), "{url}: {outcome:?}");
    }
}

/// The proxy itself uses TLS, and its certificate is the problem.
#[tokio::test]
async fn a_bad_certificate_of_a_proxy_is_attributed_to_the_proxy() {
    let plain = saying(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let unknown = serve(&signed_by(&authority("other"), "localhost", None)).port();
    let other_name = serve(&signed_by(&authority("ours"), "proxy.invalid", None)).port();
    for (proxy, cause) in [
        (
            format!("https://localhost:{unknown}"),
            "the certificate of the proxy is signed by no authority",
        ),
        (
            format!("https://localhost:{other_name}"),
            "the certificate of the proxy is signed by no authority",
        ),
        (
            format!("https://{plain}"),
            "the proxy speaks no TLS on this port: write http:// in `proxy`",
        ),
    ] {
        for url in ["http://app.invalid/", "https://app.invalid/"] {
            let outcome = deliver(through(&proxy, url)).await;
            assert!(outcome.answer().contains(cause), "{url}: {outcome:?}");
        }
    }
    // Behind a trusted proxy, the problem is the server's.
    let server = serve(&signed_by(&authority("ours"), "app.invalid", None));
    let proxy = ProxyServer::start(server, ProxyRules::default()).await;
    let outcome = deliver(through(&proxy.url(), "https://app.invalid/")).await;
    let cause = "the certificate of the server is signed by no authority";
    assert_answer(&outcome, &[cause]);
}

fn write_through(folder: &Path, url: &str, lines: &str) {
    write_destinations(folder, &destination_table("app", url, lines));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_password_reaches_the_proxy_and_no_log() {
    // base64 of "me:private-word"
    let rules = ProxyRules {
        authorization: Some("Basic bWU6cHJpdmF0ZS13b3Jk".into()),
        makes_no_tunnels: false,
    };
    let mut app = Application::start([]).await;
    let proxy = ProxyServer::start(address(&app), rules).await;
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "private-word\n").unwrap();
    let lines = format!(
        "proxy = \"{}\"\nproxy_user = \"me\"\nproxy_password = {{ file = \"{}\" }}",
        proxy.url(),
        password.display()
    );
    write_through(folder.path(), "http://app.invalid/webhook", &lines);
    let environment = [("UNWRAPD_LOG", "trace,unwrapd=trace")];
    let mut serving = Serving::start(folder.path(), &environment);
    serving.receive("wh_1", EventType::BatchCompleted).await;
    app.next().await;
    tokio::task::block_in_place(|| serving.announced("delivered: HTTP 200"));
    let (_, log) = serving.terminate();
    for secret in ["private-word", "bWU6cHJpdmF0ZS13b3Jk"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// A proxy from the environment would get signed events without being configured.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_not_followed() {
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    write_through(folder.path(), &app.url, "");
    let nowhere = "http://127.0.0.1:9";
    let variables = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ];
    let environment = variables.map(|name| (name, nowhere));
    let serving = Serving::start(folder.path(), &environment);
    serving.receive("wh_1", EventType::BatchCompleted).await;
    assert_eq!(app.next().await.webhook_id(), "wh_1");
}

#[test]
fn a_wrong_proxy_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    for (lines, cause) in [
        ("proxy = \"proxy:3128\"", "must begin with http://"),
        ("proxy = \"http://${PROXY}:3128\"", "placeholder"),
        ("proxy = \"http://proxy:0\"", "the port must be 1 to 65535"),
        ("proxy = \"http://proxy:3128/path\"", "has no path"),
        ("proxy = \"socks5://proxy:1080\"", "SOCKS"),
        (
            "proxy = \"http://me:hunter2@proxy:3128\"",
            "`proxy_user = \"NAME\"`",
        ),
        ("proxy_user = \"me\"", "this key needs a `proxy`"),
        (
            "proxy = \"http://proxy:3128\"\nproxy_user = \"me\"",
            "belong together",
        ),
        (
            "proxy = \"http://proxy:3128\"\nproxy_user = \"m:e\"\nproxy_password = { env = \"HOME\" }",
            "no colon",
        ),
        (
            "proxy = \"http://proxy:3128\"\nproxy_user = \"me\"\nproxy_password = { env = \"NO_SUCH_PASSWORD\" }",
            "is not set",
        ),
    ] {
        write_through(folder.path(), "https://app.example/", lines);
        let (code, complaint) = checked(folder.path());
        assert_eq!(code, Some(2), "{complaint}");
        assert!(complaint.contains(cause), "{complaint}");
        assert!(!complaint.contains("hunter2"), "{complaint}");
    }
}

/// The client would reject the address as an invalid name at each attempt.
#[test]
fn tls_to_an_ipv6_address_through_a_proxy_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    for (url, is_good) in [
        ("https://[::1]:8443/h", false),
        ("http://[::1]:8080/h", true),
        ("https://127.0.0.1:8443/h", true),
    ] {
        write_through(folder.path(), url, "proxy = \"http://[::1]:3128\"");
        let (code, complaint) = checked(folder.path());
        assert_eq!(code == Some(0), is_good, "{url}: {complaint}");
        assert_eq!(
            complaint.contains("TLS to an IPv6 address"),
            !is_good,
            "{complaint}"
        );
    }
}
