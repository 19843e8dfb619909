//! Certificates of private authorities, and the messages for untrusted certificates.

use std::net::SocketAddr;
use std::path::Path;

use openai_webhooks::Webhooks;
use rcgen::{Certificate, KeyPair};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use unwrapd::delivery::Outcome;
use unwrapd::destinations::Kind;
use unwrapd::destinations::http::{Authorities, HttpSettings};

use super::{assert_answer, assert_delivered, delivery, patient, sent};
use crate::support::process::{
    Serving, checked, destination_table, unwrapd, write_config, write_destinations,
};
use crate::support::tls_server::{authority, self_signed, serve, serve_pem, signed_by};
use crate::support::{APP_SECRET, OPENAI_SECRET, Webhook};

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Delivers a message to a server with this certificate, with the authorities in `ca`.
async fn delivered(server: &(Certificate, KeyPair), ca: Option<&str>) -> Outcome {
    delivered_to(
        &format!("https://localhost:{}/webhook", serve(server).port()),
        ca,
    )
    .await
}

async fn delivered_to(url: &str, ca: Option<&str>) -> Outcome {
    let folder = TempDir::new().unwrap();
    let webhooks = Webhooks::new(APP_SECRET).unwrap();
    let mut settings = HttpSettings::new(url.parse().unwrap(), webhooks);
    settings.authorities =
        ca.map(|pem| Authorities::read(&write(folder.path(), "ca.pem", pem)).unwrap());
    sent(&patient(Kind::Http(settings)), &delivery("{}")).await
}

#[tokio::test]
async fn an_authority_that_the_destination_names_is_trusted() {
    let (ours, other) = (authority("ours"), authority("other"));
    let server = signed_by(&ours, "localhost", None);
    let outcome = delivered(&server, Some(&ours.pem())).await;
    assert_delivered(&outcome);
    let bundle = format!("# two of them\n{}\n{}", other.pem(), ours.pem());
    let outcome = delivered(&server, Some(&bundle)).await;
    assert_delivered(&outcome);
    for ca in [None, Some(other.pem())] {
        let outcome = delivered(&server, ca.as_deref()).await;
        assert_answer(&outcome, &["UnknownIssuer", "`ca = \"FILE\"`"]);
    }
}

#[tokio::test]
async fn an_authority_with_a_new_key_under_its_old_name_is_reported() {
    let server = signed_by(&authority("ours"), "localhost", None);
    let outcome = delivered(&server, Some(&authority("ours").pem())).await;
    assert_answer(&outcome, &["another key", "`ca = \"FILE\"`"]);
}

/// A certificate as `openssl req -x509` makes it, which is the usual one.
#[tokio::test]
async fn a_self_signed_certificate_is_trusted_where_the_destination_names_it() {
    let server = self_signed(None);
    let outcome = delivered(&server, Some(&server.0.pem())).await;
    assert_delivered(&outcome);
    for ca in [None, Some(self_signed(None).0.pem())] {
        let outcome = delivered(&server, ca.as_deref()).await;
        assert_answer(&outcome, &["self-signed", "`ca = \"FILE\"`"]);
    }
}

/// For users who have the certificate of the server, but not that of its authority.
#[tokio::test]
async fn a_certificate_that_an_unknown_authority_signed_is_trusted_where_it_is_named() {
    let ours = authority("ours");
    let server = signed_by(&ours, "localhost", None);
    let outcome = delivered(&server, Some(&server.0.pem())).await;
    assert_delivered(&outcome);
    // No other certificate of that authority is trusted.
    let another = signed_by(&ours, "localhost", None);
    let outcome = delivered(&another, Some(&server.0.pem())).await;
    assert_answer(&outcome, &["UnknownIssuer"]);
}

#[tokio::test]
async fn a_named_certificate_must_be_valid_now_and_for_the_host() {
    for (years, cause) in [
        ((2001, 2002), "expired on 2002-01-01: renew it"),
        ((2200, 2201), "not valid before 2200-01-01: check the clock"),
    ] {
        let server = self_signed(Some(years));
        let outcome = delivered(&server, Some(&server.0.pem())).await;
        assert_answer(&outcome, &[cause]);

        let ours = authority("ours");
        let server = signed_by(&ours, "localhost", Some(years));
        for named in [ours.pem(), server.0.pem()] {
            let outcome = delivered(&server, Some(&named)).await;
            assert_answer(&outcome, &[cause]);
        }
    }
    let url = |address: SocketAddr| format!("https://127.0.0.1:{}/", address.port());
    let server = self_signed(None);
    let outcome = delivered_to(&url(serve(&server)), Some(&server.0.pem())).await;
    assert_answer(&outcome, &["is for", "localhost"]);
    let ours = authority("ours");
    let server = signed_by(&ours, "other.example", None);
    for named in [ours.pem(), server.0.pem()] {
        let outcome = delivered(&server, Some(&named)).await;
        assert_answer(&outcome, &["is for", "other.example"]);
    }
}

/// A server on a free port that sends this answer to every client that sends something.
pub(super) async fn saying(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_buf(&mut Vec::new()).await.unwrap();
            // The client may disconnect first.
            drop(stream.write_all(answer).await);
        }
    });
    address
}

#[tokio::test]
async fn http_and_https_mixed_up_are_reported() {
    let remedy = "write http:// in the URL, or another port";
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..],
        b"",
    ] {
        let outcome = delivered_to(&format!("https://{}/", saying(answer).await), None).await;
        assert_answer(&outcome, &[remedy]);
    }

    let remedy = "write https:// in the URL";
    let tls = serve(&self_signed(None));
    // rustls answers with an alert, nginx and Go with a page, Node disconnects.
    let nginx = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 57\r\n\r\nThe plain HTTP request was sent to HTTPS port............";
    let go = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for server in [
        tls,
        saying(nginx).await,
        saying(go).await,
        saying(b"").await,
    ] {
        let outcome = delivered_to(&format!("http://{server}/"), None).await;
        assert_answer(&outcome, &[remedy]);
    }
}

/// The complaint of `serve` about a destination with this `ca`.
fn complaint(folder: &Path, ca: &Path) -> String {
    write_destinations(
        folder,
        &destination_table(
            "app",
            "https://app.example/",
            &format!("ca = \"{}\"", ca.display()),
        ),
    );
    let (code, complaint) = checked(folder);
    assert_eq!(code, Some(2), "{complaint}");
    complaint
}

#[test]
fn a_file_that_holds_no_authority_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let (certificate, key) = self_signed(None);
    let broken = certificate.pem().replace("MII", "AAA");
    for (name, text, cause) in [
        (
            "key.pem",
            key.serialize_pem().into_bytes(),
            "has no certificate",
        ),
        ("ca.der", certificate.der().to_vec(), "DER and not PEM"),
        ("empty.pem", vec![], "has no certificate"),
        (
            "broken.pem",
            broken.into_bytes(),
            "certificate 1 of the file cannot be read",
        ),
        (
            "torn.pem",
            certificate.pem()[..200].to_owned().into_bytes(),
            "not valid PEM",
        ),
    ] {
        let complaint = complaint(folder, &write(folder, name, text));
        assert!(
            complaint.contains(cause) && complaint.contains(name),
            "{complaint}"
        );
        assert!(complaint.contains("unwrapd.toml:"), "{complaint}");
    }
    let missing = complaint(folder, &folder.join("missing.pem"));
    assert!(missing.contains("it does not exist"), "{missing}");
    for special in [folder, Path::new("/dev/zero")] {
        let complaint = complaint(folder, special);
        assert!(complaint.contains("name a regular file"), "{complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_of_authorities_counts_from_the_next_reload() {
    let ours = authority("ours");
    let address = serve(&signed_by(&ours, "localhost", None));
    let folder = TempDir::new().unwrap();
    let ca = write(folder.path(), "ca.pem", authority("other").pem());
    write_destinations(
        folder.path(),
        &destination_table(
            "app",
            &format!("https://localhost:{}/", address.port()),
            &format!(
                "ca = \"{}\"\nretry_first_seconds = 1\nretry_max_seconds = 1",
                ca.display()
            ),
        ),
    );
    let mut serving = Serving::start(folder.path(), &[("UNWRAPD_LOG", "unwrapd=debug")]);
    let webhook = Webhook::with_payload("wh_1", "{}");
    assert_eq!(serving.post(&webhook).await, 200);
    tokio::task::block_in_place(|| {
        serving.announced("UnknownIssuer");
        write(folder.path(), "ca.pem", "nothing");
        serving.signal(Signal::HUP);
        serving.announced("nothing was changed");
        write(folder.path(), "ca.pem", ours.pem());
        serving.signal(Signal::HUP);
        serving.announced("was reloaded");
        serving.announced("delivered: HTTP 200");
    });
}

#[test]
fn an_unusable_list_of_authorities_from_the_environment_is_reported_at_the_start() {
    let folder = TempDir::new().unwrap();
    let empty = write(folder.path(), "empty.pem", "");
    let ca = write(folder.path(), "ca.pem", authority("ours").pem());
    write_config(folder.path(), "https://localhost:9/");
    for (file, folders, what) in [
        (
            "/no/such/file.pem",
            "",
            "because SSL_CERT_FILE gives no certificate",
        ),
        (
            empty.to_str().unwrap(),
            "",
            "because SSL_CERT_FILE gives no certificate",
        ),
        ("", "/no/such/folder", "gives no certificate"),
        (
            ca.to_str().unwrap(),
            "/no/such/folder",
            "not all authorities that SSL_CERT_FILE or SSL_CERT_DIR",
        ),
    ] {
        let variables = [("SSL_CERT_FILE", file), ("SSL_CERT_DIR", folders)];
        Serving::start(folder.path(), &variables).said(what);
    }
}

#[test]
fn commands_report_the_same_causes() {
    let address = serve(&signed_by(&authority("ours"), "localhost", None));
    let trigger = |url: &str| {
        let output = unwrapd()
            .args(["trigger", "batch.failed", "--to", url])
            .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = trigger(&format!("https://localhost:{}/", address.port()));
    assert!(
        told.contains("UnknownIssuer") && told.contains("SSL_CERT_FILE"),
        "{told}"
    );
    let told = trigger(&format!("http://localhost:{}/", address.port()));
    assert!(told.contains("write https:// in the URL"), "{told}");
}

/// Certificates as `openssl` makes them by default.
#[tokio::test]
async fn a_mistake_in_a_hand_made_certificate_is_reported() {
    let folder = TempDir::new().unwrap();
    let script = r#"
        set -e
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 9 -subj /CN=ours
        openssl req -x509 -newkey rsa:2048 -nodes -keyout no.key -out no.pem -days 9 -subj /CN=none \
            -addext basicConstraints=critical,CA:FALSE
        openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost' > names
        sign() { openssl x509 -req -in tls.csr -days 9 -CAcreateserial "$@"; }
        sign -CA ca.pem -CAkey ca.key -out one.pem -extfile /dev/null
        sign -CA ca.pem -CAkey ca.key -out sha1.pem -extfile names -sha1
        sign -CA no.pem -CAkey no.key -out no-authority.pem -extfile names
        cat no.pem >> no-authority.pem
    "#;
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let ca = String::from_utf8(read("ca.pem")).unwrap();
    for (file, remedy) in [
        ("one.pem", "version 1"),
        ("sha1.pem", "sign it anew with SHA-256"),
        ("no-authority.pem", "basicConstraints CA:TRUE"),
    ] {
        let server = serve_pem(&read(file), &read("tls.key"));
        let url = format!("https://localhost:{}/", server.port());
        let outcome = delivered_to(&url, Some(&ca)).await;
        assert!(outcome.answer().contains(remedy), "{file}: {outcome:?}");
        assert!(outcome.answer().len() < 300, "{file}: {outcome:?}");
    }
}
