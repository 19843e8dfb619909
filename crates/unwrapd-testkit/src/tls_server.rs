//! A TLS server with a certificate that a test makes. It answers each request with 200.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// An authority with its key.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Authority {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap()
}

/// The result of `openssl req -x509`: a certificate of `localhost` that is its own authority.
pub fn self_signed(years: Option<(i32, i32)>) -> (Certificate, KeyPair) {
    let mut params = params("localhost", years);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

/// A certificate of `name`, valid in these years.
pub fn signed_by(
    authority: &Authority,
    name: &str,
    years: Option<(i32, i32)>,
) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, years).signed_by(&key, authority).unwrap();
    (certificate, key)
}

fn params(name: &str, years: Option<(i32, i32)>) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if let Some((from, to)) = years {
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
    }
    params
}

/// Listens on a port of `localhost` with this certificate.
pub fn serve((certificate, key): &(Certificate, KeyPair)) -> SocketAddr {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    listen(vec![certificate.der().clone()], key)
}

/// Listens as [`serve`] does, with a certificate, its chain, and its key in PEM.
pub fn serve_pem(chain: &[u8], key: &[u8]) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(chain);
    let chain = chain.collect::<Result<_, _>>().unwrap();
    listen(chain, PrivateKeyDer::from_pem_slice(key).unwrap())
}

fn listen(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        // The server requests no client certificate, so that all clients may connect.
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            chain, key,
        ))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, connection.unwrap());
            // The server handles one connection at a time, so none may stay open and delay the
            // next.
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !request.ends_with(b"{}") {
                match stream.read(&mut part) {
                    Ok(bytes @ 1..) => request.extend_from_slice(&part[..bytes]),
                    // A client that does not trust it disconnects here.
                    _ => break,
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            drop(stream.write_all(answer));
            stream.conn.send_close_notify();
            drop(stream.flush());
        }
    });
    address
}
