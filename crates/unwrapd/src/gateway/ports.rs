//! The ports that the gateway listens on: it binds them, or a service manager passes them to it.

use std::io::ErrorKind;
use std::net::{self, SocketAddr};

use rustix::io::Errno;
use tokio::net::TcpListener;

use crate::config::Config;

/// Sockets that a service manager has opened. It keeps them open over a restart of the gateway, so
/// that no connection is refused meanwhile. A port without a socket is bound.
#[derive(Default)]
pub(crate) struct Sockets {
    /// The public port.
    pub(crate) public: Option<net::TcpListener>,
    /// The admin port.
    pub(crate) admin: Option<net::TcpListener>,
}

impl Sockets {
    /// Checks that the sockets have the addresses of the configuration. All checks of a
    /// configuration are about its own addresses, such as that of a token for the admin port.
    pub(crate) fn check(&self, config: &Config) -> Result<(), String> {
        if let Some(public) = &self.public {
            has_address(public, "listen", Some(config.listen))?;
        }
        if let Some(admin) = &self.admin {
            has_address(admin, "admin", config.admin)?;
        }
        Ok(())
    }
}

fn has_address(
    socket: &net::TcpListener,
    key: &str,
    configured: Option<SocketAddr>,
) -> Result<(), String> {
    let address = socket
        .local_addr()
        .map_err(|error| format!("the address of a passed socket is unknown: {error}"))?;
    match configured {
        Some(configured) if configured == address => Ok(()),
        Some(configured) => Err(format!(
            "the service manager listens on {address}, and `{key}` of [server] is {configured}: \
             write the same address in both (systemd: ListenStream= of the socket unit)"
        )),
        None => Err(format!(
            "the service manager listens on {address}, and [server] has no `{key}`: add `{key} = \
             \"{address}\"`, or disable that socket"
        )),
    }
}

pub(super) struct Ports {
    /// The public port, where OpenAI posts.
    pub(super) public: TcpListener,
    /// The admin port, if it is configured.
    pub(super) admin: Option<TcpListener>,
}

impl Ports {
    pub(super) async fn open(sockets: Sockets, config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            public: open(sockets.public, config.listen).await?,
            admin: match config.admin {
                Some(address) => Some(open(sockets.admin, address).await?),
                None => None,
            },
        })
    }
}

async fn open(
    socket: Option<net::TcpListener>,
    address: SocketAddr,
) -> anyhow::Result<TcpListener> {
    match socket {
        Some(socket) => {
            socket.set_nonblocking(true)?;
            Ok(TcpListener::from_std(socket)?)
        }
        None => bind(address).await,
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
            "another program, or another unwrapd, uses the port: stop it (`ss -ltnp 'sport = \
             :{port}'` names it), or set another port"
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
