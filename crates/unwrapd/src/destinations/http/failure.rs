//! Explains why a request got no response, with cause and remedy.

use std::error::Error as StdError;

use jiff::Timestamp;
use reqwest::Url;
use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerIncompatible,
};

use super::answer::shorten;
use super::trust;

/// Maximum length of the list of a certificate's names, in bytes.
const NAMES_BYTES_MAX: usize = 200;

/// Problems of self-made certificates with their remedies, by a word in the error.
const REMEDIES: [(&str, &str); 5] = [
    (
        "UnsupportedCertVersion",
        "is of X.509 version 1, which has no subjectAltName: make it anew, with `-extfile` of `openssl x509 -req`",
    ),
    (
        "UnsupportedSignatureAlgorithm",
        "is signed in a way that is not safe, such as with SHA-1: sign it anew with SHA-256",
    ),
    (
        "EndEntityUsedAsCa",
        "is signed by one that is not an authority's: make that one anew, with basicConstraints CA:TRUE",
    ),
    (
        "NameConstraintViolation",
        "is signed by an authority that may not sign for this name: use another authority or name",
    ),
    (
        "PathLenConstraintViolated",
        "has more authorities above it than they allow: sign it with one further up",
    ),
];

/// The sender of a request and its proxy, on which the remedy depends.
#[derive(Clone, Copy)]
pub(super) enum Client<'a> {
    /// A command of the command line.
    Command,
    /// A destination, through this proxy if it has one.
    Destination { proxy: Option<&'a Url> },
}

/// The other side of a connection, and the configuration key of its URL.
#[derive(Clone, Copy)]
struct Peer {
    name: &'static str,
    url: &'static str,
}

const SERVER: Peer = Peer {
    name: "server",
    url: "the URL",
};
const PROXY: Peer = Peer {
    name: "proxy",
    url: "`proxy`",
};

impl Peer {
    /// The peer of the connection that failed. A proxy gets requests to a URL of http, and makes a
    /// tunnel for a URL of https.
    fn of(
        error: &reqwest::Error,
        causes: &[&(dyn StdError + 'static)],
        client: Client<'_>,
    ) -> Self {
        let Client::Destination { proxy: Some(_) } = client else {
            return SERVER;
        };
        let is_plain = error.url().is_some_and(|url| url.scheme() == "http");
        let is_before_tunnel =
            |cause: &&(dyn StdError + 'static)| cause.to_string().starts_with("tunnel error: ");
        if is_plain || causes.iter().any(is_before_tunnel) {
            PROXY
        } else {
            SERVER
        }
    }
}

/// The failure of a request of the command line with its cause, without the URL.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    explain(error, Client::Command)
}

/// The failure of a request with its cause, without the URL.
pub(super) fn explain(error: &reqwest::Error, client: Client<'_>) -> String {
    let through = match client {
        Client::Destination { proxy: Some(proxy) } => {
            format!(" through the proxy {}", place_of(proxy))
        }
        _ => String::new(),
    };
    if error.is_timeout() && error.is_connect() {
        return format!("no connection in time{through}");
    }
    if error.is_timeout() {
        return format!("no answer in time{through}");
    }
    if error.is_connect() && is_refused(error) {
        let who = if let Client::Destination { proxy: Some(proxy) } = client {
            format!("no proxy is listening on {}", place_of(proxy))
        } else {
            let place = error.url().map_or_else(|| "that address".into(), place_of);
            format!("nothing is listening on {place}")
        };
        return format!("connection refused: {who}");
    }
    let what = if error.is_connect() {
        "no connection"
    } else {
        "no answer"
    };
    format!("{what}{through}: {}", cause(error, client))
}

fn is_refused(error: &reqwest::Error) -> bool {
    causes(error).iter().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

fn place_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn cause(error: &reqwest::Error, client: Client<'_>) -> String {
    let is_plain = error.url().map(|url| url.scheme() == "http");
    let causes = causes(error);
    let peer = Peer::of(error, &causes, client);
    for cause in &causes {
        if let Some(tls) = cause.downcast_ref::<TlsError>() {
            return tls_cause(tls, client, peer);
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>() {
            if http.is_parse_too_large() {
                return "the head of the answer is too large, or has more than 1,024 header fields"
                    .into();
            }
            if is_plain == Some(true) && (http.is_parse() || http.is_parse_version_h2()) {
                return format!(
                    "the answer is not HTTP/1.1: if the {} speaks TLS on this port, write https:// in {}, else another port",
                    peer.name, peer.url
                );
            }
            if is_plain == Some(true) && http.is_incomplete_message() {
                return closed("connection closed", peer);
            }
        }
        let text = cause.to_string();
        if text.starts_with("tunnel error: proxy auth") {
            return "the proxy needs a user and a password, or refuses those it got: correct \
                `proxy_user` and `proxy_password` of the destination"
                .into();
        }
        if text.starts_with("tunnel error: unexpected end") {
            return closed("end of file", PROXY);
        }
        if text.starts_with("tunnel error: unsuccessful") {
            return "the proxy refused to connect to the host and port of the URL: allow them there, and see its log".into();
        }
    }
    let deepest = causes
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let is_cut_off = causes.iter().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
        })
    });
    if is_plain == Some(true) && !error.is_connect() && is_cut_off {
        return closed(&deepest, peer);
    }
    if is_plain == Some(false) && error.is_connect() && is_cut_off {
        return format!(
            "the {} ended the TLS handshake ({deepest}): if it speaks no TLS on this port, write http:// in {}, or another port",
            peer.name, peer.url
        );
    }
    deepest
}

fn closed(how: &str, peer: Peer) -> String {
    format!(
        "the {} ended the connection without an answer ({how}); if it speaks TLS on this port, write https:// in {}",
        peer.name, peer.url
    )
}

/// The causes of an error, the deepest one last. An I/O error may contain its cause.
fn causes(error: &reqwest::Error) -> Vec<&(dyn StdError + 'static)> {
    let mut causes: Vec<&(dyn StdError + 'static)> = Vec::new();
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    causes
}

fn tls_cause(error: &TlsError, client: Client<'_>, peer: Peer) -> String {
    let Peer { name, url } = peer;
    let trusted_by = match client {
        Client::Destination { .. } => "`ca = \"FILE\"` of this destination",
        Client::Command => "the file that the environment variable SSL_CERT_FILE names",
    };
    match error {
        TlsError::InvalidCertificate(certificate) if !trust::is_of_an_authority(error) => {
            certificate_cause(certificate, trusted_by, peer)
        }
        TlsError::InvalidCertificate(_) => match client {
            Client::Destination { .. } => format!(
                "the {name} shows a self-signed certificate (CaUsedAsEndEntity): name it in {trusted_by}, as PEM, if it is the right one"
            ),
            Client::Command => "the server shows the self-signed certificate of an authority \
                (CaUsedAsEndEntity): have that authority sign a certificate for the server"
                .into(),
        },
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!(
                "the {name} speaks no TLS on this port: write http:// in {url}, or another port"
            )
        }
        TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => {
            format!("the {name} does not speak TLS as it should ({error}): is this the right port?")
        }
        TlsError::AlertReceived(alert) => alert_cause(*alert, peer),
        TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => format!("the {name} speaks a version of TLS older than 1.2: bring it up to date"),
        _ => format!("TLS: {error}"),
    }
}

fn certificate_cause(certificate: &CertificateError, trusted_by: &str, peer: Peer) -> String {
    let Peer { name, url } = peer;
    match certificate {
        CertificateError::UnknownIssuer => {
            let environment = trust::environment_problem().map_or_else(String::new, |problem| format!("; {problem}"));
            format!(
                "the certificate of the {name} is signed by no authority that is trusted here \
                 (invalid peer certificate: UnknownIssuer): name the authority's certificate in \
                 {trusted_by}, as PEM, or have the {name} send its whole chain{environment}"
            )
        }
        // Either the signature of the certificate or that of the handshake.
        CertificateError::BadSignature => format!(
            "the certificate of the {name} is signed by an authority that has the name of a \
             trusted one and another key (BadSignature): name its present certificate in \
             {trusted_by}, as PEM; or the RSA key of the {name} has fewer than 2048 bits: make a \
             longer one"
        ),
        CertificateError::Expired => format!(
            "a certificate of the {name} has expired: renew it, and check the clock of this machine"
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "a certificate of the {name} expired on {}: renew it, and check the clock of this machine",
            day(*not_after)
        ),
        CertificateError::NotValidYet => format!(
            "a certificate of the {name} is not valid yet: check the clock of this machine"
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "a certificate of the {name} is not valid before {}: check the clock of this machine, which says {}",
            day(*not_before),
            minute(*time)
        ),
        CertificateError::NotValidForName => format!(
            "the certificate of the {name} is for another name: write a name of the certificate in {url}, or have one made for this name"
        ),
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the certificate of the {name} is for {} and not for the host of {url}: write a name \
             of the certificate in {url}, or have one made for this host",
            names(presented)
        ),
        CertificateError::Revoked => {
            format!("the certificate of the {name} was revoked: replace it")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not one for servers (its extended key usage lacks serverAuth): get another one".into()
        }
        other => {
            let mut cause = format!("{other:?}");
            // Most of these types are in a crate that rustls does not export.
            if let Some((word, text)) = REMEDIES.iter().find(|(word, _)| cause.contains(word)) {
                return format!("the certificate of the {name} {text} ({word})");
            }
            shorten(&mut cause, NAMES_BYTES_MAX);
            format!("the certificate of the {name} cannot be used ({cause}): replace it")
        }
    }
}

/// The names of a certificate, escaped, because a stranger may have written them.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all (it has no subjectAltName)".into();
    }
    let mut names = String::new();
    for name in presented {
        if !names.is_empty() {
            names.push_str(", ");
        }
        let bare = |kind: &str, end: &str| name.strip_prefix(kind)?.strip_suffix(end);
        let bare = bare("DnsName(\"", "\")").or_else(|| bare("IpAddress(", ")"));
        names.extend(bare.unwrap_or(name).escape_debug());
        if names.len() > NAMES_BYTES_MAX {
            shorten(&mut names, NAMES_BYTES_MAX);
            break;
        }
    }
    names
}

fn day(time: UnixTime) -> String {
    shown(time, "%Y-%m-%d").unwrap_or_else(|| "an unknown day".into())
}

fn minute(time: UnixTime) -> String {
    shown(time, "%Y-%m-%d %H:%M UTC").unwrap_or_else(|| "an unknown time".into())
}

fn shown(time: UnixTime, format: &str) -> Option<String> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.strftime(format).to_string())
}

fn alert_cause(alert: AlertDescription, peer: Peer) -> String {
    let Peer { name, url } = peer;
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
            format!(
                "the {name} requires a client certificate, which is not supported: turn that off \
                 there, because the signature authenticates the gateway"
            )
        }
        AlertDescription::ProtocolVersion => {
            format!("the {name} speaks no version of TLS from 1.2 on: bring it up to date")
        }
        AlertDescription::UnrecognisedName => {
            format!(
                "the {name} serves no host with the name in {url}: correct the name, or its configuration"
            )
        }
        AlertDescription::HandshakeFailure => {
            format!(
                "the {name} found no way of TLS that both sides speak (handshake_failure): allow \
                 TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20 there"
            )
        }
        alert => {
            format!("the {name} ended the TLS handshake with the alert {alert:?}: see its log")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_harmless_and_bounded() {
        assert!(names(&[]).contains("no subjectAltName"));
        assert_eq!(
            names(&["a\n\u{1b}[2J".into(), "b".into()]),
            "a\\n\\u{1b}[2J, b"
        );
        assert_eq!(
            names(&["DnsName(\"a.example\")".into(), "IpAddress(::1)".into()]),
            "a.example, ::1"
        );
        let many = vec!["name.example".to_owned(); 1000];
        assert!(names(&many).len() < 2 * NAMES_BYTES_MAX);
    }

    #[test]
    fn a_day_is_a_date() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(86_400));
        assert_eq!(day(time), "1970-01-02");
    }
}
