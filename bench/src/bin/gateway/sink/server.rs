//! The server in the sink's process. One thread with one epoll, like the load generator, since the
//! machine has few cores.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::SinkBehaviour;
use crate::http;
use crate::webhook::{self, Kind};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Number of the listening socket. Connections have the numbers after it.
const LISTENER: u64 = 0;

/// Serves until the process ends.
pub fn serve(behaviour: SinkBehaviour) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}/delivered", listener.local_addr()?);
    let mut server = Server {
        behaviour,
        poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        connections: HashMap::new(),
        answers: VecDeque::new(),
        count: 0,
        responses: Vec::new(),
        calls: Vec::new(),
    };
    server.watch(&listener, LISTENER)?;
    let mut numbers = LISTENER + 1..;
    let mut events = Vec::with_capacity(256);
    loop {
        let wait = server.answer_due();
        match epoll::wait(&server.poll, spare_capacity(&mut events), wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => {
                    let (socket, _) = listener.accept()?;
                    let number = numbers.next().expect("connections never exhaust u64");
                    server.take(socket, number)?;
                }
                number => server.read(number),
            }
        }
    }
}

struct Server {
    behaviour: SinkBehaviour,
    poll: OwnedFd,
    connections: HashMap<u64, Connection>,
    /// Delayed answers with due time and connection, in order of due time.
    answers: VecDeque<(Instant, u64)>,
    count: u64,
    /// Latencies of `Kind::Response`, in microseconds.
    responses: Vec<u32>,
    /// Latencies of `Kind::Call`, in microseconds.
    calls: Vec<u32>,
}

struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
}

impl Server {
    fn watch(&self, socket: impl rustix::fd::AsFd, number: u64) -> anyhow::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&self.poll, socket, data, epoll::EventFlags::IN)?)
    }

    fn take(&mut self, socket: TcpStream, number: u64) -> anyhow::Result<()> {
        socket.set_nodelay(true)?;
        self.watch(&socket, number)?;
        let request = Vec::new();
        self.connections
            .insert(number, Connection { socket, request });
        Ok(())
    }

    /// Sends due answers, and returns the time until the next one.
    fn answer_due(&mut self) -> Option<Timespec> {
        let now = Instant::now();
        while let Some((_, number)) = self.answers.pop_front_if(|(at, _)| *at <= now) {
            self.answer(number, OK);
        }
        let (at, _) = self.answers.front()?;
        Timespec::try_from(at.saturating_duration_since(now)).ok()
    }

    fn read(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let mut buffer = [0; 16 * 1024];
        match connection.socket.read(&mut buffer) {
            Ok(count) if count > 0 => connection.request.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Closed by the gateway, or failed.
            _ => {
                self.connections.remove(&number);
                return;
            }
        }
        let request = &connection.request;
        let ends = match http::first_message(request) {
            Ok(Some(ends)) => ends,
            Ok(None) => return,
            Err(_) => {
                self.connections.remove(&number);
                return;
            }
        };
        let body = &request[ends.head..ends.body];
        if request.starts_with(b"GET ") {
            let answer = match &request[4..] {
                path if path.starts_with(b"/count ") => self.count.to_string().into_bytes(),
                path if path.starts_with(b"/call ") => drain(&mut self.calls),
                _ => drain(&mut self.responses),
            };
            connection.request.clear();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            self.answer(number, &[head.as_bytes(), &answer].concat());
            return;
        }
        self.count += 1;
        if let Some((kind, latency)) = webhook::kind_and_latency(body) {
            let microseconds = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
            match kind {
                Kind::Response => self.responses.push(microseconds),
                Kind::Call => self.calls.push(microseconds),
            }
        }
        connection.request.drain(..ends.body);
        match self.behaviour {
            SinkBehaviour::Prompt => self.answer(number, OK),
            SinkBehaviour::Slow(delay) => self.later(delay, number),
            SinkBehaviour::Hung => {}
        }
    }

    fn later(&mut self, delay: Duration, number: u64) {
        self.answers.push_back((Instant::now() + delay, number));
    }

    fn answer(&mut self, number: u64, answer: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&number)
            && connection.socket.write_all(answer).is_err()
        {
            self.connections.remove(&number);
        }
    }
}

/// Name of a kind in queries.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Response => "response",
        Kind::Call => "call",
    }
}

fn drain(microseconds: &mut Vec<u32>) -> Vec<u8> {
    std::mem::take(microseconds)
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}
