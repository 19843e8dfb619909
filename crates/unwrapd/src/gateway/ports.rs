//! The ports that the gateway listens on.

use std::io::ErrorKind;
use std::net::SocketAddr;

use rustix::io::Errno;
use tokio::net::TcpListener;

use crate::config::Config;

pub(super) struct Ports {
    /// The public port, where OpenAI posts.
    pub(super) public: TcpListener,
    /// The admin port, if it is configured.
    pub(super) admin: Option<TcpListener>,
}

impl Ports {
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            public: bind(config.listen).await?,
            admin: match config.admin {
                Some(address) => Some(bind(address).await?),
                None => None,
            },
        })
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = bind_remedy(&error, address.port());
        let remedy = remedy.map_or_else(String::new, |remedy| format!(": {remedy}"));
        anyhow::Error::new(error).context(format!("cannot listen on {address}{remedy}"))
    })
}

/// The remedy for a port that cannot be opened, if there is one.
fn bind_remedy(error: &std::io::Error, port: u16) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another program, or another unwrapd, uses the port: stop it (`ss -ltnp 'sport = :{port}'` names it), or set another port"
        ),
        ErrorKind::PermissionDenied => format!(
            "this user may not open port {port}: set one of 1024 or more and forward to it, or \
             give the program the capability CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)"
        ),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address (`ip address` lists them): set one that it has, or 0.0.0.0 for all".into()
        }
        _ => match Errno::from_io_error(error)? {
            Errno::AFNOSUPPORT => {
                "this machine does not support this kind of address, such as IPv6: set an IPv4 address".into()
            }
            Errno::MFILE | Errno::NFILE => {
                "too many files are open: raise the limit (ulimit -n, LimitNOFILE)".into()
            }
            _ => return None,
        },
    })
}
