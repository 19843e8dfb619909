//! Reads certificates from PEM files, within the limits of [`files`].

mod system;

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::files;

pub use system::{SystemRoots, system_roots};

/// Maximum size of a file of certificates, in bytes. The list of all public authorities has a fifth
/// of that.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads all certificates of a PEM file, at least one. The error names the problem and the remedy,
/// but not the file.
pub fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let content = files::read(file, FILE_BYTES_MAX)
        .map_err(|error| format!("cannot read the file: {error}"))?;
    let bytes = &content.bytes;
    if !holds(bytes, b"-----BEGIN CERTIFICATE-----") {
        return Err(other_form(bytes));
    }
    CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| "the file is not valid PEM: save it again".into())
}

/// The problem of a file that has no certificate in PEM.
fn other_form(bytes: &[u8]) -> String {
    // The object identifier of PKCS #7 signed data.
    const PKCS7: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    // Version 3, with which each PKCS #12 file begins.
    const PKCS12: &[u8] = b"\x02\x01\x03";
    let beginning = &bytes[..bytes.len().min(32)];
    if holds(bytes, b"-----BEGIN PKCS7-----") || holds(beginning, PKCS7) {
        return "the file is PKCS #7: convert it with `openssl pkcs7 \
            -print_certs -in FILE -out NEW` (with -inform der if it is binary)"
            .into();
    }
    if beginning.starts_with(&[0x30, 0x82]) {
        return if beginning.get(4..).is_some_and(|rest| rest.starts_with(PKCS12)) {
            "the file is PKCS #12: convert it with `openssl pkcs12 -nokeys -in FILE -out NEW`"
        } else {
            "the file is DER and not PEM: convert it with `openssl x509 -inform der -in FILE -out NEW`"
        }
        .into();
    }
    match files::text(bytes) {
        Ok(_) => "the file has no certificate: name the PEM file, which has the line -----BEGIN CERTIFICATE-----".into(),
        Err(problem) => problem,
    }
}

fn holds(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_form_is_named_with_the_way_to_convert_it() {
        let utf16: Vec<u8> = "-----BEGIN CERTIFICATE-----"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (bytes, problem) in [
            (&b"\x30\x82\x01\x00\x30\x82\x00\xf0"[..], "openssl x509"),
            (b"\x30\x82\x01\x00\x02\x01\x03\x30", "openssl pkcs12"),
            (
                b"\x30\x82\x01\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
                "openssl pkcs7",
            ),
            (b"-----BEGIN PKCS7-----\n", "openssl pkcs7"),
            (&utf16, "UTF-16"),
            (b"-----BEGIN PRIVATE KEY-----\n", "has no certificate"),
            (b"", "has no certificate"),
            (b"\x30\x82", "openssl x509"),
        ] {
            let told = other_form(bytes);
            assert!(told.contains(problem), "{bytes:?}: {told}");
        }
    }
}
