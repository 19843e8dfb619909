//! TLS of the public port: a certificate and its key from files, which are read again when they
//! change.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore, ServerConfig};

use crate::{certificates, files};

/// Minimum interval between checks of the files, which happen at new connections and make two
/// system calls.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Maximum size of a file of certificates or of a key, in bytes. A long chain has about ten
/// thousand.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Supported protocols, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate in use, and its files.
pub struct Tls {
    current: RwLock<Current>,
    opened: Instant,
    /// Time of the last check of the files, in milliseconds since the opening.
    looked: AtomicU64,
}

struct Current {
    files: Files,
    seen: Option<[Stamp; 2]>,
    config: Arc<ServerConfig>,
}

#[derive(Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Properties of a file that change when it is written or replaced.
type Stamp = (u64, u64, u64, i64, i64);

impl Tls {
    /// Reads a certificate with its chain, and its key. The error names the wrong file and the
    /// remedy.
    pub fn read(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        Ok(Arc::new(Self {
            current: RwLock::new(Current {
                seen: files.stamps(),
                config: files.read()?,
                files,
            }),
            opened: Instant::now(),
            looked: AtomicU64::new(0),
        }))
    }

    /// The problems of both files, so that both can be fixed at once. Empty if there are none.
    pub(crate) fn problems(certificate: &Path, key: &Path) -> Vec<TlsError> {
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let parts = [files.read_certificate().err(), files.read_key().err()];
        let problems: Vec<TlsError> = parts.into_iter().flatten().collect();
        if problems.is_empty() {
            return files.read().err().into_iter().collect();
        }
        problems
    }

    /// Reads the files again. After an error, the old certificate stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let files = self.with_current(|current| current.files.clone());
        // Taken before the files are read: a write during the reading is detected as a change
        // later.
        let seen = files.stamps();
        let read = files.read();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Also set after an error, so that it is logged once until the files change again.
        current.seen = seen;
        current.config = read?;
        Ok(())
    }

    /// Whether `other` was read from other files, or from different content of the same files.
    #[must_use]
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        let read = |tls: &Self| {
            tls.with_current(|current| {
                let Files { certificate, key } = current.files.clone();
                (certificate, key, current.seen)
            })
        };
        read(self) != read(other)
    }

    /// Uses the certificate and the files of `other` from this moment, after the configuration was
    /// reloaded.
    pub fn adopt(&self, other: &Self) {
        let other = other.with_current(|other| Current {
            files: other.files.clone(),
            seen: other.seen,
            config: Arc::clone(&other.config),
        });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// The TLS configuration for a new connection. From time to time this starts a check of the
    /// files, whose result later connections use.
    pub(crate) fn current(self: &Arc<Self>) -> Arc<ServerConfig> {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or_default();
        let looked = self.looked.load(Ordering::Relaxed);
        let is_due = u128::from(now.saturating_sub(looked)) >= LOOK_EVERY.as_millis();
        let is_ours = || {
            let (from, to) = (Ordering::Relaxed, Ordering::Relaxed);
            self.looked.compare_exchange(looked, now, from, to).is_ok()
        };
        if is_due && is_ours() {
            let tls = Arc::clone(self);
            tokio::task::spawn_blocking(move || tls.look());
        }
        self.with_current(|current| Arc::clone(&current.config))
    }

    fn look(&self) {
        let (files, seen) = self.with_current(|current| (current.files.clone(), current.seen));
        if files.stamps() == seen {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("the TLS certificate has changed; the new one is in use"),
            Err(error) => tracing::error!(
                "the TLS certificate has changed and cannot be used, so the earlier one stays in use: {error}"
            ),
        }
    }

    fn with_current<T>(&self, get: impl FnOnce(&Current) -> T) -> T {
        get(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Files {
    fn stamps(&self) -> Option<[Stamp; 2]> {
        let stamp = |path: &Path| {
            let data = std::fs::metadata(path).ok()?;
            let (seconds, nanoseconds) = (data.ctime(), data.ctime_nsec());
            Some((data.dev(), data.ino(), data.size(), seconds, nanoseconds))
        };
        Some([stamp(&self.certificate)?, stamp(&self.key)?])
    }

    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = self.read_certificate()?;
        let key = self.read_key()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair =
            CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => self.key_problem(format!(
                    "the key does not match the certificate in {}: the certificate of this key must come first in that file",
                    self.certificate.display()
                )),
                Error::InvalidCertificate(error) if format!("{error:?}").contains("UnsupportedCertVersion") => {
                    self.certificate_problem(
                        "its first certificate is of X.509 version 1, which has no subjectAltName: \
                         create it again, with `-extfile` of `openssl x509 -req`",
                    )
                }
                Error::InvalidCertificate(_) => self.certificate_problem(
                    "its first certificate cannot be read: save it again, as PEM",
                ),
                _ => self.key_problem("this kind of key is not supported: use ECDSA P-256, P-384, \
                    Ed25519, or RSA of 2048 bits or more, as PEM"),
            })?;
        self.warn_of_validity(&pair, &provider);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| self.certificate_problem(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }

    fn read_certificate(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates::read(&self.certificate).map_err(|problem| self.certificate_problem(problem))
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let content = files::read(&self.key, FILE_BYTES_MAX)
            .map_err(|error| self.key_problem(format!("cannot be read: {error}")))?;
        let text = content.bytes;
        let holds = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
        if holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") {
            return Err(self.key_problem(
                "the key is encrypted, and the gateway cannot ask for its password: decrypt it \
                 (openssl pkey -in FILE -out NEW) and protect it by its permissions",
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
            self.key_problem("there is no key in it: it must have -----BEGIN PRIVATE KEY-----")
        })?;
        if content.is_readable_by_all {
            tracing::warn!(
                "every user of this machine may read the TLS key {0}: chmod o-r {0}",
                self.key.display()
            );
        }
        Ok(key)
    }

    /// Warns of a certificate outside its validity period. Senders would refuse it, but it stays in
    /// use, because an old certificate may be better than none.
    fn warn_of_validity(&self, pair: &CertifiedKey, provider: &CryptoProvider) {
        let Ok(certificate) = pair.end_entity_cert().and_then(ParsedCertificate::try_from) else {
            return;
        };
        // Without a trusted authority the verification must fail, but it checks the dates first.
        let verified = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &RootCertStore::empty(),
            &[],
            UnixTime::now(),
            provider.signature_verification_algorithms.all,
        );
        let Err(Error::InvalidCertificate(error)) = verified else {
            return;
        };
        let problem = match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet"
            }
            _ => return,
        };
        tracing::warn!(
            "the TLS certificate {} {problem}: OpenAI will not connect until it is renewed",
            self.certificate.display()
        );
    }

    fn certificate_problem(&self, problem: impl Into<String>) -> TlsError {
        TlsError {
            part: TlsPart::Certificate,
            file: self.certificate.clone(),
            problem: problem.into(),
        }
    }

    fn key_problem(&self, problem: impl Into<String>) -> TlsError {
        TlsError {
            part: TlsPart::Key,
            file: self.key.clone(),
            problem: problem.into(),
        }
    }
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// The certificate with its chain.
    Certificate,
    /// The key.
    Key,
}

/// Reason why a certificate and a key cannot be used, with the remedy. It contains nothing of the
/// key.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct TlsError {
    part: TlsPart,
    file: PathBuf,
    problem: String,
}

impl TlsError {
    /// The wrong file.
    #[must_use]
    pub fn part(&self) -> TlsPart {
        self.part
    }
}
