//! Sockets from a service manager, by the protocol of systemd: `LISTEN_FDS` is their number,
//! `LISTEN_PID` the process they are for, and `LISTEN_FDNAMES` has their names.

use std::net::TcpListener;

use listenfd::ListenFd;

use crate::cli::failure::{Failure, usage};
use crate::gateway::Sockets;

/// Variable with the names, separated by colons.
const NAMES: &str = "LISTEN_FDNAMES";

/// Takes the sockets that were passed to this process. Call it before other threads run: it removes
/// variables of the environment, so that no child takes the sockets for its own.
pub(in crate::cli) fn take() -> Result<Sockets, Failure> {
    let mut passed = ListenFd::from_env();
    let names = names(std::env::var(NAMES).ok().as_deref(), passed.len()).map_err(usage)?;
    let mut sockets = Sockets::default();
    for (number, name) in names.into_iter().enumerate() {
        let socket = passed.take_tcp_listener(number).map_err(|error| {
            usage(format!(
                "the socket {name:?} of the service manager is not a TCP socket: {error}"
            ))
        })?;
        let port = match name {
            Name::Public => &mut sockets.public,
            Name::Admin => &mut sockets.admin,
        };
        if let Some(socket) = socket {
            is_listening(&socket).map_err(usage)?;
            *port = Some(socket);
        }
    }
    Ok(sockets)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Public,
    Admin,
}

/// The ports that the sockets are for. Without names, the first is the public port.
fn names(text: Option<&str>, sockets: usize) -> Result<Vec<Name>, String> {
    if sockets == 0 {
        return Ok(Vec::new());
    }
    let names = match text {
        None => vec!["public", "admin"].into_iter().take(sockets).collect(),
        Some(text) => text.split(':').collect::<Vec<_>>(),
    };
    if names.len() != sockets {
        return Err(format!(
            "the service manager passed {sockets} sockets with {} names: pass one for the public \
             port, and at most one for the admin port",
            names.len()
        ));
    }
    let mut found = Vec::new();
    for name in names {
        let port = match name {
            "public" => Name::Public,
            "admin" => Name::Admin,
            _ => {
                return Err(format!(
                    "the service manager passed a socket with the name {name:?}: name it `public` \
                     or `admin` (systemd: FileDescriptorName= of the socket unit)"
                ));
            }
        };
        if found.contains(&port) {
            return Err(format!(
                "the service manager passed several sockets with the name `{name}`: a port has one \
                 address (systemd: one ListenStream= in each socket unit)"
            ));
        }
        found.push(port);
    }
    Ok(found)
}

/// Refuses a connection, on which each attempt to accept would fail. Only Linux tells the two apart.
fn is_listening(socket: &TcpListener) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    if !rustix::net::sockopt::socket_acceptconn(socket).is_ok_and(|is_so| is_so) {
        return Err(
            "the service manager passed a connection in place of a listening socket: set Accept=no \
             in the socket unit"
                .into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_apart_by_name_or_else_by_order() {
        assert_eq!(names(None, 0), Ok(vec![]));
        assert_eq!(names(Some("public"), 0), Ok(vec![]));
        assert_eq!(names(None, 1), Ok(vec![Name::Public]));
        assert_eq!(names(None, 2), Ok(vec![Name::Public, Name::Admin]));
        assert_eq!(
            names(Some("admin:public"), 2),
            Ok(vec![Name::Admin, Name::Public])
        );
        assert_eq!(names(Some("admin"), 1), Ok(vec![Name::Admin]));
    }

    #[test]
    fn a_socket_without_a_port_is_refused_with_a_remedy() {
        for (text, sockets, problem) in [
            (None, 3, "3 sockets with 2 names"),
            (Some("public"), 2, "2 sockets with 1 names"),
            (Some("unwrapd.socket"), 1, "FileDescriptorName="),
            (Some("public:public"), 2, "several sockets"),
            (Some(""), 1, "FileDescriptorName="),
        ] {
            let error = names(text, sockets).unwrap_err();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }
}
