//! One kept-alive connection with at most one request under way.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::http::{self, MessageEnds};

pub struct Connection {
    pub socket: TcpStream,
    /// Kept until it is accepted.
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
    /// When the request should have been sent.
    pub due: Instant,
    is_answered: bool,
}

/// What came in.
pub enum Read {
    Complete(MessageEnds),
    Incomplete,
    /// The server closed the connection while nothing was under way, as it may.
    Closed,
}

impl Connection {
    pub fn open(host: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(host).context("the server takes no connection")?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            request: Vec::new(),
            answer: Vec::new(),
            due: Instant::now(),
            is_answered: true,
        })
    }

    /// A request is smaller than the buffer of a socket that has been read empty, so it never has
    /// to wait.
    pub fn send(&mut self) -> anyhow::Result<()> {
        self.answer.clear();
        self.is_answered = false;
        self.socket
            .write_all(&self.request)
            .context("the server took no request")
    }

    pub fn read(&mut self) -> anyhow::Result<Read> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) if self.is_answered => return Ok(Read::Closed),
            Ok(0) => bail!("the server closed a connection instead of answering"),
            Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("an answer broke off"),
        }
        Ok(match http::first_message(&self.answer)? {
            Some(ends) => {
                self.is_answered = true;
                Read::Complete(ends)
            }
            None => Read::Incomplete,
        })
    }
}
