//! TLS of the public port, and its certificate.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openai_webhooks::EventType;
use rcgen::{CertificateParams, CertifiedKey, KeyPair, PKCS_ED25519, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use unwrapd::tls::{Tls, TlsPart};

use crate::support::process::{Serving, unwrapd, write_server_config};
use crate::support::tally::Counted as _;
use crate::support::wire::{request, send, until_closed};
use crate::support::{OPENAI_SECRET, PATIENCE, TestGateway, Webhook};

fn certificate() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Writes both as `tls.pem` and `tls.key`.
fn write(folder: &Path, pair: &CertifiedKey<KeyPair>) {
    std::fs::write(folder.join("tls.pem"), pair.cert.pem()).unwrap();
    write_key(folder, &pair.signing_key.serialize_pem());
}

fn write_key(folder: &Path, text: &str) {
    let key = folder.join("tls.key");
    std::fs::write(&key, text).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
}

fn read(folder: &Path) -> Result<Arc<Tls>, unwrapd::tls::TlsError> {
    Tls::read(&folder.join("tls.pem"), &folder.join("tls.key"))
}

async fn serve(folder: &Path) -> TestGateway {
    TestGateway::served(|server| {
        server.head_timeout = Duration::from_secs(1);
        server.tls = Some(read(folder).unwrap());
    })
    .await
}

/// Connects as a client that trusts `trusted`.
async fn connect(
    test: &TestGateway,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(test.gateway.public()).await?;
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn connects(test: &TestGateway, trusted: &CertificateDer<'static>) -> bool {
    let stream = connect(test, trusted, &rustls::version::TLS13, b"http/1.1");
    stream.await.is_ok()
}

#[tokio::test]
async fn http1_and_http2_work_over_both_versions_of_tls() {
    let folder = TempDir::new().unwrap();
    let pair = certificate();
    write(folder.path(), &pair);
    let test = serve(folder.path()).await;
    for (n, version) in [&rustls::version::TLS12, &rustls::version::TLS13]
        .into_iter()
        .enumerate()
    {
        let webhook = Webhook::new(&format!("wh_1_{n}"), EventType::BatchCompleted);
        let mut stream = connect(&test, pair.cert.der(), version, b"http/1.1")
            .await
            .unwrap();
        stream
            .write_all(request(&webhook).as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");

        let webhook = Webhook::new(&format!("wh_2_{n}"), EventType::BatchCompleted);
        let stream = connect(&test, pair.cert.der(), version, b"h2")
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(crate::listen::post(&client, &webhook).await, 200);
    }
    assert_eq!(test.gateway.store().tally().await.messages, 4);
}

#[tokio::test]
async fn a_handshake_that_is_slow_or_none_ends_the_connection() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), &certificate());
    let test = serve(folder.path()).await;
    for begin in [&b""[..], b"\x16\x03\x01", b"POST / HTTP/1.1\r\n\r\n"] {
        until_closed(send(test.gateway.public(), begin).await).await;
    }
    let _silent = TcpStream::connect(test.gateway.public()).await.unwrap();
    timeout(Duration::from_secs(10), test.stop()).await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_noticed_and_an_unusable_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (certificate(), certificate());
    write(folder.path(), &old);
    let test = serve(folder.path()).await;
    assert!(connects(&test, old.cert.der()).await);
    assert!(!connects(&test, new.cert.der()).await);

    // The key is not there yet.
    std::fs::write(folder.path().join("tls.pem"), new.cert.pem()).unwrap();
    let error = test.gateway.tls().unwrap().reload().unwrap_err();
    assert_eq!(error.part(), TlsPart::Key);
    assert!(connects(&test, old.cert.der()).await);

    write(folder.path(), &new);
    let noticed = async { while !connects(&test, new.cert.der()).await {} };
    timeout(PATIENCE, noticed).await.expect("it is noticed");
    assert!(!connects(&test, old.cert.der()).await);
}

#[tokio::test]
async fn a_certificate_is_taken_from_other_files_when_the_configuration_names_others() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (old, new) = (certificate(), certificate());
    write(folder.path(), &old);
    write(other.path(), &new);
    let test = serve(folder.path()).await;
    let tls = test.gateway.tls().unwrap();
    tls.adopt(&read(other.path()).unwrap());
    assert!(connects(&test, new.cert.der()).await);
    tls.reload().unwrap();
    assert!(connects(&test, new.cert.der()).await);
}

#[test]
fn an_unusable_key_or_certificate_is_refused_with_its_file_and_a_remedy() {
    let folder = TempDir::new().unwrap();
    let pair = certificate();
    let pem = pair.signing_key.serialize_pem();
    let line = pem.lines().nth(1).unwrap().to_owned();
    let other = KeyPair::generate_for(&PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    let encrypted = pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old_encrypted = pem.replace(
        "PRIVATE KEY-----\n",
        "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n",
    );
    let assert_refused = |part: TlsPart, file: &str, why: &str| {
        let error = read(folder.path()).err().unwrap();
        assert_eq!(error.part(), part, "{error}");
        let error = error.to_string();
        assert!(error.contains(file) && error.contains(why), "{error}");
        assert!(!error.contains(&line), "{error}");
    };
    for (text, why) in [
        (other.as_str(), "does not match the certificate"),
        (&encrypted, "openssl pkey"),
        (&old_encrypted, "openssl pkey"),
        (&pair.cert.pem(), "no key in it"),
        ("", "no key in it"),
        (&pem.replace(&line, "AAAA"), "kind of key is not supported"),
    ] {
        write(folder.path(), &pair);
        write_key(folder.path(), text);
        assert_refused(TlsPart::Key, "tls.key: ", why);
    }
    for (text, why) in [
        (pem.as_str(), "has no certificate"),
        ("-----BEGIN CERTIFICATE-----\n!", "not valid PEM"),
        ("-----BEGIN PKCS7-----\n", "openssl pkcs7"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "first certificate cannot be read",
        ),
    ] {
        write(folder.path(), &pair);
        std::fs::write(folder.path().join("tls.pem"), text).unwrap();
        assert_refused(TlsPart::Certificate, "tls.pem: ", why);
    }
}

fn write_config(folder: &Path) {
    let path = folder.display();
    write_server_config(
        folder,
        &format!("tls.certificate = \"{path}/tls.pem\"\ntls.key = \"{path}/tls.key\""),
    );
}

#[test]
fn a_configuration_with_an_unusable_certificate_is_refused_with_its_line() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path());
    let complaint = || {
        let mut command = unwrapd();
        command
            .args(["serve", "--config"])
            .arg(folder.path().join("unwrapd.toml"))
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET);
        let refused = command.output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        String::from_utf8(refused.stderr).unwrap()
    };
    let missing = complaint();
    assert!(missing.contains("unwrapd.toml:5: "), "{missing}");
    assert!(
        missing.contains("tls.pem: cannot read the file"),
        "{missing}"
    );

    write(folder.path(), &certificate());
    write_key(folder.path(), &KeyPair::generate().unwrap().serialize_pem());
    let wrong = complaint();
    assert!(wrong.contains("unwrapd.toml:6: "), "{wrong}");
    assert!(wrong.contains("does not match"), "{wrong}");
}

#[test]
fn an_expired_certificate_and_a_key_that_all_may_read_are_warned_of() {
    let folder = TempDir::new().unwrap();
    let signing_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2020, 1, 1);
    let cert = params.self_signed(&signing_key).unwrap();
    write(folder.path(), &CertifiedKey { cert, signing_key });
    let key = folder.path().join("tls.key");
    std::fs::set_permissions(key, PermissionsExt::from_mode(0o644)).unwrap();
    write_config(folder.path());
    let serving = Serving::start(folder.path(), &[]);
    assert!(serving.url.starts_with("https://"), "{}", serving.url);
    let log = serving.terminate().1;
    assert!(log.contains("has expired"), "{log}");
    assert!(log.contains("chmod o-r"), "{log}");
}
