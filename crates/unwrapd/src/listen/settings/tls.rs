//! The tables `[server.tls]` and `[server.admin_tls]`.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use crate::settings_file::{Key, Location, Mistake, Mistakes, missing};
use crate::tls::{Tls, TlsError, TlsPart};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    certificate: Key<String>,
    key: Key<String>,
}

/// Reads the certificate and the key of the table `name`. `None`: their mistakes are reported
/// already.
pub(super) fn read_tls(
    name: &str,
    table: Spanned<TlsTable>,
    location: &Location,
) -> Result<Option<Arc<Tls>>, Mistakes> {
    let span = table.span();
    let TlsTable { certificate, key } = table.into_inner();
    let mut mistakes = Mistakes::default();
    for (part, is_there) in [
        ("certificate", certificate.is_some()),
        ("key", key.is_some()),
    ] {
        if !is_there && !location.is_broken(&format!("{name}.{part}")) {
            mistakes.add(missing(span.clone(), part));
        }
    }
    mistakes.check()?;
    let Some((certificate, key)) = certificate.zip(key) else {
        return Ok(None);
    };
    let files = (Path::new(certificate.get_ref()), Path::new(key.get_ref()));
    let error = match Tls::read(files.0, files.1) {
        Ok(tls) => return Ok(Some(tls)),
        Err(error) => error,
    };
    let mistake = |error: TlsError| {
        let span = match error.part() {
            TlsPart::Certificate => certificate.span(),
            TlsPart::Key => key.span(),
        };
        Mistake::new(span, error.to_string())
    };
    let mut mistakes = Mistakes::default();
    for problem in Tls::problems(files.0, files.1) {
        mistakes.add(mistake(problem));
    }
    mistakes.check()?;
    // The files were corrected after the first read, so its error is the only one.
    Err(mistake(error).into())
}
