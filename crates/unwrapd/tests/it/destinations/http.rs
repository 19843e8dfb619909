//! An application behind a URL: allowed addresses, and the interpretation of its responses.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use openai_webhooks::{EventType, Secret, Webhooks};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use unwrapd::config::Config;
use unwrapd::delivery::limits::Limits;
use unwrapd::delivery::{Next, Outcome};
use unwrapd::destinations::http::{HttpDestination, HttpSettings};
use unwrapd::destinations::{Destination as _, DestinationSettings, Kind, build};
use unwrapd::pipeline_events::PipelineEvent;

use super::{assert_answer, assert_delivered, delivery, patient, sent};
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, unwrapd, write_config};
use crate::support::{APP_SECRET, OPENAI_SECRET, TestGateway, Webhook};

fn http(url: &str) -> HttpSettings {
    HttpSettings::new(url.parse().unwrap(), Webhooks::new(APP_SECRET).unwrap())
}

fn to(url: &str) -> DestinationSettings {
    patient(Kind::Http(http(url)))
}

/// Sends the next of its raw answers to each request, and then no more.
struct RawServer {
    url: String,
    connections: Arc<AtomicUsize>,
    requests: mpsc::UnboundedReceiver<()>,
}

impl RawServer {
    async fn start(answers: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let answers: VecDeque<String> = answers.into_iter().collect();
        let answers = Arc::new(Mutex::new(answers));
        let (told, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(connection, Arc::clone(&answers), told.clone()));
            }
        });
        Self {
            url,
            connections,
            requests,
        }
    }
}

async fn answer(
    mut connection: TcpStream,
    answers: Arc<Mutex<VecDeque<String>>>,
    told: mpsc::UnboundedSender<()>,
) {
    let mut request = Vec::new();
    loop {
        // The tests send `{}`, which occurs only at the end of a request.
        while !request.ends_with(b"{}") {
            if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        request.clear();
        // Some tests do not read them.
        let _ = told.send(());
        let answer = answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => connection.write_all(answer.as_bytes()).await.unwrap(),
            // A client that waits for the rest waits forever.
            None => std::future::pending().await,
        }
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn the_excerpt_of_a_response_is_separate_from_the_answer() {
    let long = "long ".repeat(2000);
    let server = RawServer::start([
        response("500 Oh", "", "cannot reach\nthe database"),
        response("200 OK", "", &long),
        response("410 Gone", "", "no such tenant"),
    ])
    .await;
    let destination = build(&to(&server.url)).unwrap();
    let outcome = destination.send(&delivery("{}"), None).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    assert_eq!(outcome.answer(), "HTTP 500");
    assert_eq!(outcome.said().as_str(), "cannot reach\\nthe database");

    let outcome = destination.send(&delivery("{}"), None).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }));
    let said = outcome.said().as_str();
    assert!(said.starts_with("long long") && said.ends_with(" …") && said.len() < 4096);

    let outcome = destination.send(&delivery("{}"), None).await;
    assert!(matches!(outcome, Outcome::Refused { .. }));
    assert_eq!(outcome.said().as_str(), "no such tenant");
    let connections = server.connections.load(Ordering::SeqCst);
    assert_eq!(connections, 1, "one connection serves them all");
}

#[tokio::test]
async fn a_response_body_that_does_not_end_does_not_delay_the_outcome() {
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it";
    let server = RawServer::start([endless.to_owned()]).await;
    let outcome = sent(&to(&server.url), &delivery("{}")).await;
    assert_delivered(&outcome);
    assert_eq!(outcome.said().as_str(), "half of it");
}

/// The response may well repeat the message.
#[tokio::test(flavor = "multi_thread")]
async fn the_response_of_an_application_is_not_logged() {
    let mut server = RawServer::start([
        response("500 Oh", "", "private-echo"),
        response("200 OK", "", "private-echo"),
    ])
    .await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &server.url);
    let serving = Serving::start(folder.path(), &[("UNWRAPD_LOG", "trace,unwrapd=trace")]);
    let webhook = Webhook::with_payload("wh_1", "{}");
    let client = crate::support::client();
    let answer = webhook.request(&client, &serving.url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for _ in 0..2 {
        server.requests.recv().await.unwrap();
    }
    let (_, log) = serving.terminate();
    assert!(log.contains("delivered: HTTP 200"), "{log}");
    assert!(!log.contains("private"), "{log}");
}

#[tokio::test]
async fn a_date_in_retry_after_is_understood_and_nonsense_is_none() {
    let header = |after: &str| format!("retry-after: {after}\r\n");
    let in_ten_minutes = SystemTime::now() + Duration::from_secs(600);
    let dates = [in_ten_minutes, SystemTime::UNIX_EPOCH].map(httpdate::fmt_http_date);
    let texts = [
        dates[0].as_str(),
        dates[1].as_str(),
        " 7 ",
        "99999999999999999999999",
        "soon",
        "-1",
    ];
    let server =
        RawServer::start(texts.map(|text| response("503 Busy", &header(text), "busy"))).await;
    let destination = build(&to(&server.url)).unwrap();
    let mut waits = Vec::new();
    for _ in texts {
        let Outcome::Failed { retry_after, .. } = destination.send(&delivery("{}"), None).await
        else {
            panic!("a failure");
        };
        waits.push(retry_after.map(|wait| wait.as_secs()));
    }
    let first = waits.remove(0).unwrap();
    assert!((500..=600).contains(&first), "{first}");
    assert_eq!(waits, [Some(0), Some(7), Some(u64::MAX), None, None]);
}

#[tokio::test]
async fn no_application_can_silence_itself_for_longer_than_an_hour() {
    let (_app, test) = TestGateway::with_app([Answer::RetryAfter(503, "99999999")]).await;
    let mut events = test.gateway.events().subscribe();
    test.receive("wh_1", EventType::BatchCompleted).await;
    let due_at = loop {
        if let PipelineEvent::AttemptEnded { next, .. } = events.recv().await.unwrap() {
            let Next::Retry { due_at } = next else {
                panic!("a retry");
            };
            break due_at;
        }
    };
    let wait = due_at.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((3000..=3600).contains(&wait), "{wait}");
}

/// Returns the next of its results for each lookup.
struct ScriptedLookup(Mutex<VecDeque<Vec<IpAddr>>>);

impl ScriptedLookup {
    fn new<const N: usize>(answers: [&[&str]; N]) -> Arc<Self> {
        let parsed = answers.map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        Arc::new(Self(Mutex::new(parsed.into())))
    }
}

impl Resolve for ScriptedLookup {
    fn resolve(&self, _name: Name) -> Resolving {
        let found = self.0.lock().unwrap().pop_front().expect("one more");
        let found = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
        Box::pin(async move { Ok(Box::new(found) as Addrs) })
    }
}

async fn with_lookup(settings: HttpSettings, lookup: Arc<ScriptedLookup>) -> Outcome {
    let limits = Limits::default();
    let destination = HttpDestination::with_lookup(settings, limits, lookup).unwrap();
    destination.send(&delivery("{}"), None).await
}

/// The URL of the application with a name instead of its address.
fn named(app: &Application, name: &str) -> String {
    app.url.replace("127.0.0.1", name)
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_with_the_remedy() {
    let mut app = Application::start([]).await;
    for address in [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fd00::1",
    ] {
        let lookup = ScriptedLookup::new([&[address]]);
        let outcome = with_lookup(http(&named(&app, "app.example")), lookup).await;
        assert!(matches!(outcome, Outcome::Failed { .. }));
        assert_eq!(
            outcome.answer(),
            format!(
                "no connection: `app.example` resolves to {address}, which is not a public \
                 address; if that is intended, set `allow_private = true` for this destination"
            )
        );
    }
    assert!(!app.has_more());
}

#[tokio::test]
async fn a_private_name_is_fine_where_the_configuration_says_so() {
    let mut app = Application::start([]).await;
    let mut settings = http(&named(&app, "app"));
    settings.allow_private = true;
    let outcome = with_lookup(settings, ScriptedLookup::new([&["127.0.0.1"]])).await;
    assert_delivered(&outcome);
    assert!(app.next().await.verified().is_ok());
}

#[tokio::test]
async fn a_name_is_checked_for_each_new_connection() {
    // The name changes its address between two connections.
    let closing = "connection: close\r\n";
    let server = RawServer::start([
        response("200 OK", closing, ""),
        response("200 OK", closing, ""),
    ])
    .await;
    let lookup = ScriptedLookup::new([&["127.0.0.1"], &["169.254.169.254"]]);
    let settings = http(&server.url.replace("127.0.0.1", "localhost"));
    let destination = HttpDestination::with_lookup(settings, Limits::default(), lookup).unwrap();
    let outcome = destination.send(&delivery("{}"), None).await;
    assert_delivered(&outcome);
    let outcome = destination.send(&delivery("{}"), None).await;
    assert_answer(&outcome, &["169.254.169.254"]);
}

#[tokio::test]
async fn localhost_is_a_name_like_an_address() {
    let mut app = Application::start([]).await;
    let settings = to(&named(&app, "localhost"));
    let outcome = sent(&settings, &delivery("{}")).await;
    assert_delivered(&outcome);
    app.next().await;
}

#[tokio::test]
async fn both_secrets_of_a_rotation_verify_a_delivery() {
    let mut app = Application::start([]).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &app.url);
    let config = folder.path().join("unwrapd.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    let secret = |name: &str, secret: &str| {
        std::fs::write(folder.path().join(name), secret).unwrap();
        format!("{{ file = \"{}\" }}", folder.path().join(name).display())
    };
    let new = "whsec_bmV3IHNlY3JldCBvZiB0aGUgYXBwbGljYXRpb24=";
    let (openai, old, new_file) = (
        secret("openai", OPENAI_SECRET),
        secret("old", APP_SECRET),
        secret("new", new),
    );
    let changed = written
        .replace("{ env = \"OPENAI_WEBHOOK_SECRET\" }", &openai)
        .replace(
            "secret = { env = \"APP_WEBHOOK_SECRET\" }",
            &format!("secrets = [{new_file}, {old}]"),
        );
    std::fs::write(&config, changed).unwrap();
    let destinations = Config::read(&config).unwrap().destinations;
    let test = TestGateway::start(destinations).await;
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    assert_eq!(test.post(&webhook).await, 200);

    let delivered = app.next().await;
    let signatures = delivered.headers["webhook-signature"].to_str().unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    for secret in [APP_SECRET, new] {
        let application = Webhooks::from(&Secret::parse(secret).unwrap());
        let event = application.unwrap(&delivered.payload, &delivered.headers);
        assert!(event.is_ok(), "{event:?}");
    }
}

/// A TLS server with a certificate of its own authority, and the certificate of that authority
/// (PEM).
fn tls_server() -> (SocketAddr, String) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;

    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".into()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, connection.unwrap());
            let mut request = [0; 4096];
            // A client that does not trust it disconnects here.
            while let Ok(1..) = std::io::Read::read(&mut stream, &mut request) {
                let answer = response("200 OK", "", "");
                drop(std::io::Write::write_all(&mut stream, answer.as_bytes()));
            }
        }
    });
    (address, authority.pem())
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let (address, _) = tls_server();
    let url = format!("https://localhost:{}/webhook", address.port());
    let outcome = sent(&to(&url), &delivery("{}")).await;
    assert!(matches!(outcome, Outcome::Failed { .. }));
    assert!(
        outcome
            .answer()
            .contains("invalid peer certificate: UnknownIssuer"),
        "{outcome:?}"
    );
}

/// Shows that the test above fails only for lack of trust.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_authority_that_the_system_knows_is_accepted() {
    use std::io::BufRead as _;

    let (address, authority) = tls_server();
    let folder = TempDir::new().unwrap();
    let url = format!("https://localhost:{}/webhook", address.port());
    write_config(folder.path(), &url);
    let trusted = folder.path().join("authority.pem");
    std::fs::write(&trusted, authority).unwrap();
    let mut serving = unwrapd()
        .args(["serve", "--config"])
        .arg(folder.path().join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .env("SSL_CERT_FILE", &trusted)
        .env("UNWRAPD_LOG", "unwrapd=debug")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(serving.stderr.take().unwrap()).lines();
    let mut told = |what: &str| {
        let found = log.find(|line| line.as_ref().unwrap().contains(what));
        found.expect(what).unwrap()
    };
    let receiving = told("receiving on ");
    let (_, url) = receiving.split_once("receiving on ").unwrap();
    let webhook = Webhook::new("wh_1", EventType::BatchCompleted);
    let client = crate::support::client();
    let answer = webhook.request(&client, url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let attempted = told("delivered");
    assert!(attempted.contains("delivered: HTTP 200"), "{attempted}");
    serving.kill().unwrap();
    serving.wait().unwrap();
}

#[test]
fn a_destination_that_leads_back_to_the_gateway_is_detected() {
    let leads = |url: &str, address: &str| http(url).leads_to(address.parse().unwrap());
    for (url, address) in [
        (
            "http://127.0.0.1:8080/webhooks/production",
            "127.0.0.1:8080",
        ),
        ("http://localhost:8080/", "127.0.0.1:8080"),
        ("http://localhost:8080/", "[::1]:8080"),
        ("http://127.0.0.1:8080/", "0.0.0.0:8080"),
        ("http://[::1]:8080/", "[::]:8080"),
        ("http://0.0.0.0:8080/", "0.0.0.0:8080"),
        ("http://10.0.0.1/", "10.0.0.1:80"),
    ] {
        assert!(leads(url, address), "{url} {address}");
    }
    for (url, address) in [
        (
            "http://127.0.0.1:3000/webhooks/production",
            "127.0.0.1:8080",
        ),
        ("http://10.0.0.2:8080/", "0.0.0.0:8080"),
        ("http://localhost:8080/", "10.0.0.1:8080"),
        ("https://10.0.0.1/", "10.0.0.1:80"),
        ("http://app.example:8080/", "0.0.0.0:8080"),
    ] {
        assert!(!leads(url, address), "{url} {address}");
    }
}

#[test]
fn a_loop_is_warned_of_at_the_start() {
    // Bound and dropped: a port without a listener.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let folder = TempDir::new().unwrap();
    write_config(
        folder.path(),
        &format!("http://{address}/webhooks/production"),
    );
    let config = folder.path().join("unwrapd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replacen("127.0.0.1:0", &address.to_string(), 1);
    std::fs::write(&config, text).unwrap();
    let mut serving = unwrapd()
        .args(["serve", "--config"])
        .arg(&config)
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(serving.stderr.take().unwrap());
    let mut warned = String::new();
    while !warned.contains("leads to this gateway itself") {
        let bytes = std::io::BufRead::read_line(&mut log, &mut warned).unwrap();
        assert!(bytes > 0, "{warned}");
    }
    assert!(warned.contains("`app`"), "{warned}");
    serving.kill().unwrap();
    serving.wait().unwrap();
}
