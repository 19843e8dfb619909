//! One keep-alive connection with at most one request in flight.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::http::{self, MessageEnds};

pub struct Connection {
    pub socket: TcpStream,
    /// The current request, stored for repetitions until it is accepted.
    pub request: Vec<u8>,
    pub answer: Vec<u8>,
    /// Time at which the request was due.
    pub due: Instant,
    is_answered: bool,
}

/// Result of one read.
pub enum Read {
    Complete(MessageEnds),
    Incomplete,
    /// The server closed the connection while no request was in flight, which HTTP allows.
    Closed,
}

impl Connection {
    pub fn open(host: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(host).context("cannot connect to the server")?;
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

    /// Sends the request. It is smaller than the socket's empty send buffer, so the call never
    /// blocks.
    pub fn send(&mut self) -> anyhow::Result<()> {
        self.answer.clear();
        self.is_answered = false;
        self.socket
            .write_all(&self.request)
            .context("cannot send a request")
    }

    pub fn read(&mut self) -> anyhow::Result<Read> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) if self.is_answered => return Ok(Read::Closed),
            Ok(0) => bail!("the server closed a connection instead of answering"),
            Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot read an answer"),
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
