//! Clients of the admin port: one that loads pages, and one that reads the live stream.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::http::status;

/// Longest time without a byte.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Size limit of an answer, in bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A keep-alive connection to the admin port.
pub struct Client {
    host: String,
    connection: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(host: &str) -> anyhow::Result<Self> {
        let connection = TcpStream::connect(host)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            host: host.to_owned(),
            connection,
            buffer: Vec::new(),
        })
    }

    /// Reads a whole answer, and returns its status.
    pub fn get(&mut self, path: &str) -> anyhow::Result<u16> {
        let request = request(&self.host, path);
        self.connection.write_all(request.as_bytes())?;
        self.buffer.clear();
        let mut piece = [0; 64 * 1024];
        loop {
            let count = self.connection.read(&mut piece)?;
            ensure!(count > 0, "the admin port has closed the connection");
            self.buffer.extend_from_slice(&piece[..count]);
            ensure!(
                self.buffer.len() <= BYTES_MAX,
                "the answer of {path} is too large"
            );
            if let Some(length) = length(&self.buffer)?
                && self.buffer.len() >= length
            {
                return status(&self.buffer);
            }
        }
    }
}

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html, */*\r\n\r\n")
}

/// Length of the answer with its head; `None` while the head is incomplete.
fn length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = str::from_utf8(&answer[..end])?.to_ascii_lowercase();
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length
        .context("an answer has no content-length")?
        .trim()
        .parse()?;
    Ok(Some(end + 4 + length))
}

/// Reads the live stream until the end.
pub fn stream(host: &str, is_over: &AtomicBool) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(host)?;
    connection.set_read_timeout(Some(Duration::from_millis(100)))?;
    connection.write_all(request(host, "/api/v1/events/stream").as_bytes())?;
    let mut piece = [0; 64 * 1024];
    let mut bytes = 0;
    while !is_over.load(Ordering::Relaxed) {
        match connection.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => bail!("the live stream broke off: {error}"),
        }
    }
    ensure!(bytes > 0, "the live stream was empty");
    Ok(())
}
