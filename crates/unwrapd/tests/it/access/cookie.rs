//! The cookie of a session: when browsers send it, and when it ends.

use tempfile::TempDir;
use unwrapd::tls::Tls;

#[cfg(feature = "crash-points")]
use super::{OPERATE, session};
use super::{READ, guarded, header, log_in, tokens};
#[cfg(feature = "crash-points")]
use crate::support::client;
#[cfg(feature = "crash-points")]
use crate::support::process::{Serving, write_server_config};
use crate::support::tls_server::self_signed;
use crate::support::{TestGateway, client_that_stays};

#[tokio::test]
async fn a_session_is_secure_if_the_browser_speaks_tls() {
    let test = guarded().await;
    let (admin, client) = (test.admin(), client_that_stays());
    for (proto, is_secure) in [("https", true), ("HTTPS, http", true), ("http", false)] {
        let request = log_in(&client, &admin, READ, "/").header("x-forwarded-proto", proto);
        let answer = request.send().await.unwrap();
        let cookie = header(&answer, "set-cookie");
        assert_eq!(cookie.ends_with("; Secure"), is_secure, "{proto}: {cookie}");
    }
}

#[tokio::test]
async fn a_session_is_secure_if_the_port_speaks_tls() {
    let folder = TempDir::new().unwrap();
    let (certificate, key) = self_signed(None);
    let files = ["tls.pem", "tls.key"].map(|name| folder.path().join(name));
    std::fs::write(&files[0], certificate.pem()).unwrap();
    std::fs::write(&files[1], key.serialize_pem()).unwrap();
    let test = TestGateway::configured(vec![], |config| {
        config.admin_tokens = Some(tokens(true));
        config.server.admin_tls = Some(Tls::read(&files[0], &files[1]).unwrap());
    })
    .await;
    let admin = test.admin().replace("http://", "https://");
    let answer = log_in(&client_that_stays(), &admin, READ, "/")
        .send()
        .await
        .unwrap();
    let cookie = header(&answer, "set-cookie");
    assert!(cookie.ends_with("; Secure"), "{cookie}");
}

/// A gateway whose clock is this many seconds behind.
#[cfg(feature = "crash-points")]
fn behind(folder: &TempDir, seconds: i64) -> Serving {
    let clock = folder.path().join("clock");
    std::fs::write(&clock, (-seconds * 1000).to_string()).unwrap();
    write_server_config(folder.path(), "admin_token = { env = \"ADMIN_TOKEN\" }");
    let clock = clock.to_str().unwrap();
    let environment = [("ADMIN_TOKEN", OPERATE), ("UNWRAPD_CLOCK_SHIFT", clock)];
    Serving::start(folder.path(), &environment)
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_after_twelve_hours_at_every_gateway_with_the_token() {
    const HOUR: i64 = 3600;
    let folders = [(); 3].map(|()| TempDir::new().unwrap());
    let [now, earlier, long_ago] = [0, 11 * HOUR, 12 * HOUR];
    let now = behind(&folders[0], now);
    for (folder, seconds, status) in [(1, earlier, 200), (2, long_ago, 401)] {
        let before = behind(&folders[folder], seconds);
        let session = session(&before.admin, OPERATE).await;
        for (admin, status) in [(&before.admin, 200), (&now.admin, status)] {
            let request = client().get(format!("{admin}/api/v1/gateways"));
            let answer = request.header("cookie", &session).send().await.unwrap();
            assert_eq!(answer.status(), status, "{seconds} s behind");
        }
    }
}
