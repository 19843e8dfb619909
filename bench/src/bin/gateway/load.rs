//! The load generator: webhooks over keep-alive connections, with a check of each answer. One
//! thread with one epoll serves all connections, which leaves most of the machine to the measured
//! server.

mod connection;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::http;
use crate::webhook::OpenAi;
use connection::{Connection, Read};

/// Limit of connections, and thereby of requests in flight.
pub const CONNECTIONS: usize = 64;
/// Delay before a refused webhook is sent again.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Time limit for the last answers after the end of the load.
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Load {
    openai: OpenAi,
    hosts: Vec<String>,
    path: String,
    poll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// Indices of idle connections; the latest one to become idle is used first.
    free: Vec<usize>,
    /// Refused webhooks: the time of the repetition, and the connection.
    refused: VecDeque<(Instant, usize)>,
    accepted: Arc<AtomicU64>,
}

/// Answers of one run.
#[derive(Default)]
pub struct Answers {
    /// Number of 200 answers within the measured time.
    pub accepted: u64,
    /// Number of 503 answers. Each refused webhook is sent again until it is accepted.
    pub refused: u64,
    /// Accepted webhooks a second.
    pub rate: f64,
    /// Times from the moment a webhook was due to its 200.
    pub latencies: Vec<Duration>,
}

/// Rule for the time at which the next webhook is sent.
#[derive(Clone, Copy)]
enum Arrivals {
    /// On each answer.
    ClosedLoop,
    /// At a fixed rate, in webhooks a second, independent of answers.
    OpenLoop { rate: f64 },
}

impl Load {
    pub fn new(url: &str, openai: OpenAi) -> anyhow::Result<Self> {
        Self::across(&[url], openai)
    }

    /// Spreads connections evenly over several servers, as a load balancer does. The URLs may
    /// differ in their hosts only.
    pub fn across(urls: &[&str], openai: OpenAi) -> anyhow::Result<Self> {
        let mut hosts = Vec::new();
        let mut path = "";
        for url in urls {
            let (host, rest) = url
                .strip_prefix("http://")
                .and_then(|rest| rest.split_once('/'))
                .with_context(|| format!("{url} is not an http URL with a path"))?;
            hosts.push(host.to_owned());
            path = rest;
        }
        // Timer slack of 1 ns, since a late wake-up would count as latency of the server.
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
        Ok(Self {
            openai,
            hosts,
            path: format!("/{path}"),
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            free: Vec::new(),
            refused: VecDeque::new(),
            accepted: Arc::default(),
        })
    }

    /// Counter of accepted webhooks, for other threads.
    pub fn accepted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.accepted)
    }

    /// Closed loop: each answer triggers the next webhook.
    pub fn closed_loop(&mut self, time: Duration) -> anyhow::Result<Answers> {
        self.run(Arrivals::ClosedLoop, time)
    }

    /// Open loop: `rate` webhooks a second. A latency counts from the time the webhook was due.
    pub fn open_loop(&mut self, rate: f64, time: Duration) -> anyhow::Result<Answers> {
        self.run(Arrivals::OpenLoop { rate }, time)
    }

    /// Sends one webhook, and returns once it is accepted.
    pub fn one(&mut self) -> anyhow::Result<()> {
        // A second webhook would be due after the end.
        self.open_loop(1.0, Duration::from_secs(1)).map(drop)
    }

    fn run(&mut self, arrivals: Arrivals, time: Duration) -> anyhow::Result<Answers> {
        let start = Instant::now();
        let end = start + time;
        let mut answers = Answers::default();
        let mut sent = 0;
        let mut events = Vec::with_capacity(CONNECTIONS);
        loop {
            let now = Instant::now();
            let due = loop {
                let due = arrivals.due(start, sent, now);
                if due > now || due >= end || !self.has_room()? {
                    break due;
                }
                self.send(due)?;
                sent += 1;
            };
            self.send_refused_again(now)?;
            let is_over = due >= end;
            if is_over && self.free.len() == self.connections.len() {
                break;
            }
            if now > end + TIMEOUT {
                bail!("answers are still missing {TIMEOUT:?} after the end");
            }
            let wait = self.wait(now, (!is_over).then_some(due));
            match epoll::wait(&self.poll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                self.read(event.data.u64() as usize, end, &mut answers)?;
            }
        }
        answers.rate = answers.accepted as f64 / time.as_secs_f64();
        Ok(answers)
    }

    /// Time until the next new or refused webhook can be sent. An answer ends the wait earlier.
    fn wait(&self, now: Instant, due: Option<Instant>) -> Timespec {
        let has_room = !self.free.is_empty() || self.connections.len() < CONNECTIONS;
        let next = due.filter(|_| has_room);
        let again = self.refused.front().map(|(at, _)| *at);
        let wait = next
            .into_iter()
            .chain(again)
            .min()
            .map_or(TIMEOUT, |at| at.saturating_duration_since(now));
        Timespec::try_from(wait).expect("a wait is below the limit of Timespec")
    }

    /// Says if a connection is idle; opens one first if necessary and within the limit.
    fn has_room(&mut self) -> anyhow::Result<bool> {
        if self.free.is_empty() && self.connections.len() < CONNECTIONS {
            let index = self.connections.len();
            self.connections.push(self.connect(index)?);
            self.free.push(index);
        }
        Ok(!self.free.is_empty())
    }

    fn connect(&self, index: usize) -> anyhow::Result<Connection> {
        let connection = Connection::open(&self.hosts[index % self.hosts.len()])?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.poll, &connection.socket, data, epoll::EventFlags::IN)?;
        Ok(connection)
    }

    fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        let index = self.free.pop().expect("there is room");
        let connection = &mut self.connections[index];
        let host = &self.hosts[index % self.hosts.len()];
        self.openai.write(&mut connection.request, host, &self.path);
        connection.due = due;
        connection.send()
    }

    fn send_refused_again(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some((_, index)) = self.refused.pop_front_if(|(at, _)| *at <= now) {
            self.connections[index].send()?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize, end: Instant, answers: &mut Answers) -> anyhow::Result<()> {
        let connection = &mut self.connections[index];
        let ends = match connection.read()? {
            Read::Complete(ends) => ends,
            Read::Incomplete => return Ok(()),
            Read::Closed => {
                self.connections[index] = self.connect(index)?;
                return Ok(());
            }
        };
        let now = Instant::now();
        match http::status(&connection.answer)? {
            200 => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                if now <= end {
                    answers.accepted += 1;
                }
                answers.latencies.push(now - connection.due);
                self.free.push(index);
            }
            503 => {
                answers.refused += 1;
                self.refused.push_back((now + REFUSED_PAUSE, index));
            }
            status => {
                let body = String::from_utf8_lossy(&connection.answer[ends.head..ends.body]);
                bail!("a webhook was answered with {status}: {body}");
            }
        }
        Ok(())
    }
}

impl Arrivals {
    /// Due time of the webhook after the first `sent` ones.
    fn due(self, start: Instant, sent: u32, now: Instant) -> Instant {
        match self {
            Self::ClosedLoop => now,
            Self::OpenLoop { rate } => start + Duration::from_secs_f64(f64::from(sent) / rate),
        }
    }
}
