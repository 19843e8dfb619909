//! Explains why a request had no answer, with the cause and the remedy.

use std::error::Error as StdError;

use jiff::Timestamp;
use reqwest::Url;
use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertificateError, Error as TlsError, InvalidMessage, PeerIncompatible,
};

use super::answer::shorten;
use super::trust;

/// Longest list of the names of a certificate that is shown, in bytes.
const NAMES_BYTES_MAX: usize = 200;

/// The sender of a request and its proxy, on which the remedy depends.
#[derive(Clone, Copy)]
pub(super) enum Client<'a> {
    /// A command of the command line.
    Command,
    /// A destination, through this proxy if it has one.
    Destination { proxy: Option<&'a Url> },
}

/// The failure of a request of the command line, down to its cause, without the URL.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    explain(error, Client::Command)
}

/// The failure of a request, down to its cause, without the URL.
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
    let what = if error.is_connect() {
        "no connection"
    } else {
        "no answer"
    };
    format!("{what}{through}: {}", cause(error, client))
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
    for cause in &causes {
        if let Some(tls) = cause.downcast_ref::<TlsError>() {
            return tls_cause(tls, client);
        }
        if let Some(http) = cause.downcast_ref::<hyper::Error>() {
            if http.is_parse_too_large() {
                return "the head of the answer is too large, or has more than 1,024 header fields"
                    .into();
            }
            if is_plain == Some(true) && (http.is_parse() || http.is_parse_version_h2()) {
                return "the answer is not HTTP/1.1: if the server speaks TLS on this port, write https:// in the URL, else another port".into();
            }
            if is_plain == Some(true) && http.is_incomplete_message() {
                return closed("connection closed");
            }
        }
        let text = cause.to_string();
        if text.starts_with("tunnel error: proxy auth") {
            return "the proxy asks for a user and a password, or refuses these: correct `proxy_user` and `proxy_password` of the destination".into();
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
        return closed(&deepest);
    }
    if is_plain == Some(false) && error.is_connect() && is_cut_off {
        return format!(
            "the server ended the TLS handshake ({deepest}): if it speaks no TLS on this port, write http:// in the URL, or another port"
        );
    }
    deepest
}

fn closed(how: &str) -> String {
    format!(
        "the server ended the connection without an answer ({how}); if it speaks TLS on this port, write https:// in the URL"
    )
}

/// The causes of an error, the deepest one last. An I/O error may hold its cause inside itself.
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

fn tls_cause(error: &TlsError, client: Client<'_>) -> String {
    let trusted_by = match client {
        Client::Destination { .. } => "`ca = \"FILE\"` of this destination",
        Client::Command => "the file that the environment variable SSL_CERT_FILE names",
    };
    match error {
        TlsError::InvalidCertificate(certificate) if !trust::is_of_an_authority(error) => {
            certificate_cause(certificate, trusted_by)
        }
        TlsError::InvalidCertificate(_) => match client {
            Client::Destination { .. } => format!(
                "the server shows a self-signed certificate (CaUsedAsEndEntity): name it in {trusted_by}, as PEM, if it is the right one"
            ),
            Client::Command => "the server shows a self-signed certificate that is one of an authority (CaUsedAsEndEntity): have an authority sign a certificate for it".into(),
        },
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server speaks no TLS on this port: write http:// in the URL, or another port".into()
        }
        TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => format!(
            "the server does not speak TLS as it should ({error}): is this the right port?"
        ),
        TlsError::AlertReceived(alert) => alert_cause(*alert),
        TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the server speaks a version of TLS older than 1.2: bring it up to date".into(),
        _ => format!("TLS: {error}"),
    }
}

fn certificate_cause(certificate: &CertificateError, trusted_by: &str) -> String {
    match certificate {
        CertificateError::UnknownIssuer => {
            let environment = trust::environment_problem().map_or_else(String::new, |problem| format!("; {problem}"));
            format!(
                "the certificate of the server is signed by no authority that is trusted here (invalid peer certificate: UnknownIssuer): name the authority's certificate in {trusted_by}, as PEM, or have the server send its whole chain{environment}"
            )
        }
        // The authority has the name of a trusted one, but another key.
        CertificateError::BadSignature => format!(
            "the certificate of the server is signed by an authority that has the name of a trusted one and another key (BadSignature): name its present certificate in {trusted_by}, as PEM"
        ),
        CertificateError::Expired => {
            "a certificate of the server has expired: renew it, and check the clock of this machine"
                .into()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "a certificate of the server expired on {}: renew it, and check the clock of this machine",
            day(*not_after)
        ),
        CertificateError::NotValidYet => {
            "a certificate of the server is not valid yet: check the clock of this machine".into()
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "a certificate of the server is not valid before {}: check the clock of this machine, which says {}",
            day(*not_before),
            minute(*time)
        ),
        CertificateError::NotValidForName => {
            "the certificate of the server is for another name: write a name of the certificate in the URL, or have one made for this name".into()
        }
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the certificate of the server is for {} and not for the host of the URL: write a name of the certificate in the URL, or have one made for this host",
            names(presented)
        ),
        CertificateError::Revoked => "the certificate of the server was revoked: replace it".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not one for servers (its extended key usage lacks serverAuth): have another one made".into()
        }
        other => {
            let mut cause = format!("{other:?}");
            shorten(&mut cause, NAMES_BYTES_MAX);
            format!("the certificate of the server cannot be used ({cause}): replace it")
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

fn alert_cause(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
            "the server asks for a certificate of the client, which is not supported: have it ask for none, since the signature is the proof".into()
        }
        AlertDescription::ProtocolVersion => {
            "the server speaks no version of TLS from 1.2 on: bring it up to date".into()
        }
        AlertDescription::UnrecognisedName => {
            "the server knows no host of the name in the URL: correct the name, or its configuration".into()
        }
        AlertDescription::HandshakeFailure => {
            "the server found no way of TLS that both sides speak (handshake_failure): allow TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20 there".into()
        }
        alert => format!("the server ended the TLS handshake with the alert {alert:?}: see its log"),
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
