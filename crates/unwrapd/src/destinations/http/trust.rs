//! The certificates that a destination trusts: those signed by the system's authorities, or by the
//! authorities of `ca`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::certificates::{self, system_roots};
use crate::clock::Clock;

/// Certificates of authorities, or of single servers, that a destination trusts in addition to the
/// system's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    file: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads certificates from a PEM file. The error names the problem of the file and the remedy.
    pub fn read(file: &Path) -> Result<Self, String> {
        let problem = |problem: &str| format!("{}: {problem}", file.display());
        let certificates = certificates::read(file).map_err(|cause| problem(&cause))?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            if roots.add(certificate.clone()).is_err() {
                return Err(problem(&format!(
                    "certificate {} of the file cannot be read: remove it, or save it again",
                    index + 1
                )));
            }
        }
        Ok(Self {
            file: file.to_owned(),
            certificates,
        })
    }

    /// The certificates in the form of TLS (DER).
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(|certificate| &**certificate)
    }
}

/// The TLS settings of a client that trusts the system's authorities and these.
pub(crate) fn client_config(authorities: Option<&Authorities>) -> ClientConfig {
    let Some(authorities) = authorities else {
        return SYSTEM_CONFIG.clone();
    };
    let mut roots = system_roots().roots.clone();
    roots.add_parsable_certificates(authorities.certificates.iter().cloned());
    with_named(roots, &authorities.certificates, Excuse::UnknownAuthority).expect("there are roots")
}

/// The TLS settings of a client that trusts only the certificates in this file, as the server's
/// own, for any name or address, or as its authority's.
pub(crate) fn client_config_for(file: &Path) -> Result<ClientConfig, String> {
    let certificates = certificates::read(file)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    with_named(roots, &certificates, Excuse::Everything)
        .map_err(|error| format!("no certificate in the file can be used: {error}"))
}

fn with_named(
    roots: RootCertStore,
    named: &[CertificateDer<'static>],
    excuse: Excuse,
) -> Result<ClientConfig, VerifierBuilderError> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone()).build()?;
    let mut config = builder(RootCertStore::empty());
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(NamedVerifier {
            verifier,
            named: named.to_vec(),
            excuse,
        }));
    Ok(config)
}

/// Does the same as [`client_config`], with a clock for the dates of certificates.
pub(super) fn client_config_by(clock: &Clock, authorities: Option<&Authorities>) -> ClientConfig {
    let mut config = client_config(authorities);
    config.time_provider = Arc::new(Time(clock.clone()));
    config
}

#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.likeliest().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The problem of the list of authorities that the environment names, if there is one.
pub(crate) fn environment_problem() -> Option<&'static str> {
    system_roots().problem.as_deref()
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

static SYSTEM_CONFIG: LazyLock<ClientConfig> =
    LazyLock::new(|| builder(system_roots().roots.clone()));

fn builder(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Verifies as usual, and also accepts a server certificate that is in the list.
#[derive(Debug)]
struct NamedVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    excuse: Excuse,
}

/// Accepted problems of a server certificate that is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excuse {
    /// The certificate is signed by no trusted authority, or is the certificate of an authority,
    /// which a server may usually not present. `openssl req -x509` makes such certificates. Dates
    /// and names must be right.
    UnknownAuthority,
    /// The certificate itself identifies the server. The handshake proves that the server has the
    /// key.
    Everything,
}

impl ServerCertVerifier for NamedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(error) = verified else {
            return verified;
        };
        if !self.named.contains(end_entity) {
            return Err(error);
        }
        match self.excuse {
            Excuse::Everything => {}
            // The verifier has already checked the dates.
            Excuse::UnknownAuthority if is_of_no_authority(&error) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            Excuse::UnknownAuthority => return Err(error),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Whether the only problem of a certificate is its signer.
fn is_of_no_authority(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    ) || is_of_an_authority(error)
}

/// Whether a server has presented the certificate of an authority as its own.
pub(super) fn is_of_an_authority(error: &Error) -> bool {
    // The type of the cause is in a crate that rustls does not export.
    matches!(error, Error::InvalidCertificate(CertificateError::Other(cause))
        if format!("{cause:?}").contains("CaUsedAsEndEntity"))
}
