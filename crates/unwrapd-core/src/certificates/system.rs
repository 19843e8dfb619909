//! The certificate authorities that this machine trusts.

use std::sync::LazyLock;

use rustls::RootCertStore;

/// Environment variables that replace the system's list of authorities by a file or by folders.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The authorities that the system trusts, or that the environment names.
pub struct SystemRoots {
    /// The authorities. There is at least one.
    pub roots: RootCertStore,
    /// The problem of the list that the environment names, if there is one.
    pub problem: Option<String>,
}

/// The authorities, which the first call reads.
#[must_use]
pub fn system_roots() -> &'static SystemRoots {
    &SYSTEM
}

/// The system's list, or that of the environment. If there is none, Mozilla's list.
static SYSTEM: LazyLock<SystemRoots> = LazyLock::new(|| {
    if let Some(problem) = endless_list() {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return SystemRoots {
            roots,
            problem: Some(problem),
        };
    }
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    let is_empty = roots.is_empty();
    if is_empty {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let named: Vec<&str> = VARIABLES.into_iter().filter(is_set).collect();
    let cause = loaded.errors.first().map(ToString::to_string);
    let problem = match (named.is_empty(), is_empty, cause) {
        (true, ..) | (false, false, None) => None,
        (false, true, cause) => Some(format!(
            "the gateway trusts the authorities of Mozilla's list, because {} gives no certificate \
             ({}): correct the variable, or remove it",
            named.join(" or "),
            cause.as_deref().unwrap_or("the file has none"),
        )),
        (false, false, Some(cause)) => Some(format!(
            "not all authorities that {} names are trusted ({cause}): correct the variable",
            named.join(" or ")
        )),
    };
    SystemRoots { roots, problem }
});

/// The problem of a list that is not a file. A device or a pipe may have no end.
fn endless_list() -> Option<String> {
    let [variable, _] = VARIABLES;
    let path = std::env::var_os(variable)?;
    let is_file = std::fs::metadata(path).map_or(true, |data| data.is_file());
    (!is_file).then(|| {
        format!(
            "the gateway trusts the authorities of Mozilla's list, because {variable} names no \
             regular file: correct the variable, or remove it"
        )
    })
}
