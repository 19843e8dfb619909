//! The load: webhooks over kept-alive connections, each answer checked. One thread and one system
//! call to wait for all of them, so that most of the machine is left to who is measured.

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

/// Most connections, and so most requests under way.
pub const CONNECTIONS: usize = 64;
/// How long to wait before a refused webhook is sent once more.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// How long to wait for the last answers.
const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Load {
    openai: OpenAi,
    hosts: Vec<String>,
    path: String,
    poll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// The last to become free is the next to be used.
    free: Vec<usize>,
    /// Refused: when to send again, and on which connection.
    refused: VecDeque<(Instant, usize)>,
    accepted: Arc<AtomicU64>,
}

/// What was answered.
#[derive(Default)]
pub struct Answers {
    /// 200, within the time.
    pub accepted: u64,
    /// 503: sent again until it was accepted.
    pub refused: u64,
    /// 200s a second.
    pub rate: f64,
    /// From the moment it was meant to be sent to a 200.
    pub latencies: Vec<Duration>,
}

#[derive(Clone, Copy)]
enum Arrivals {
    /// As fast as the answers come.
    ClosedLoop,
    /// Each in its time, whatever became of those before.
    OpenLoop { rate: f64 },
}

impl Load {
    pub fn new(url: &str, openai: OpenAi) -> anyhow::Result<Self> {
        Self::across(&[url], openai)
    }

    /// To each of these in turn, a connection each, as before a load balancer; they differ in their
    /// hosts only.
    pub fn across(urls: &[&str], openai: OpenAi) -> anyhow::Result<Self> {
        let mut hosts = Vec::new();
        let mut path = "";
        for url in urls {
            let (host, rest) = url
                .strip_prefix("http://")
                .and_then(|rest| rest.split_once('/'))
                .with_context(|| format!("{url} is no URL to send to"))?;
            hosts.push(host.to_owned());
            path = rest;
        }
        // To the microsecond: a late wake-up would count as the server's.
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

    /// Counts what was accepted, for another thread to look at.
    pub fn accepted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.accepted)
    }

    /// Closed loop: the next webhook goes out when an answer comes in.
    pub fn closed_loop(&mut self, time: Duration) -> anyhow::Result<Answers> {
        self.run(Arrivals::ClosedLoop, time)
    }

    /// Open loop: so many a second. Latencies count from the time a webhook should have been sent.
    pub fn open_loop(&mut self, rate: f64, time: Duration) -> anyhow::Result<Answers> {
        self.run(Arrivals::OpenLoop { rate }, time)
    }

    /// One webhook, accepted.
    pub fn one(&mut self) -> anyhow::Result<()> {
        // A second one would be due when the time is over.
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

    /// Until the next webhook is due and can be sent, or a refused one; else until an answer comes.
    fn wait(&self, now: Instant, due: Option<Instant>) -> Timespec {
        let has_room = !self.free.is_empty() || self.connections.len() < CONNECTIONS;
        let next = due.filter(|_| has_room);
        let again = self.refused.front().map(|(at, _)| *at);
        let wait = next
            .into_iter()
            .chain(again)
            .min()
            .map_or(TIMEOUT, |at| at.saturating_duration_since(now));
        Timespec::try_from(wait).expect("seconds, not centuries")
    }

    /// Connects when no connection is free, up to the limit.
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
    /// When the next webhook is due, after so many.
    fn due(self, start: Instant, sent: u32, now: Instant) -> Instant {
        match self {
            Self::ClosedLoop => now,
            Self::OpenLoop { rate } => start + Duration::from_secs_f64(f64::from(sent) / rate),
        }
    }
}
