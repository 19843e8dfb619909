//! The age of connections: a host name may get another address while the old server still answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use openai_webhooks::{EventType, Webhooks};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use unwrapd::delivery::limits::Limits;
use unwrapd::destinations::Destination as _;
use unwrapd::destinations::http::{CONNECTION_AGE_MAX, HttpDestination, HttpSettings};

use super::{assert_delivered, delivery};
use crate::support::application::{Answer, Application};
use crate::support::process::{Serving, write_config};
use crate::support::{APP_SECRET, PATIENCE, address_of, loopback};

/// A name that resolves to 127.0.0.1 until it is moved.
struct Moving {
    is_moved: AtomicBool,
    to: IpAddr,
}

impl Moving {
    fn move_on(&self) {
        self.is_moved.store(true, Ordering::SeqCst);
    }
}

impl Resolve for Moving {
    fn resolve(&self, _name: Name) -> Resolving {
        let address = if self.is_moved.load(Ordering::SeqCst) {
            self.to
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        let found = [SocketAddr::new(address, 0)].into_iter();
        Box::pin(async move { Ok(Box::new(found) as Addrs) })
    }
}

/// An old application and a new one, at the same port of two addresses, and a destination by name.
struct Move {
    old: Application,
    new: Application,
    name: Arc<Moving>,
    destination: Arc<HttpDestination>,
}

impl Move {
    async fn start(old: impl IntoIterator<Item = Answer>, age_max: Duration) -> Self {
        let old = Application::start(old).await;
        let url: reqwest::Url = old.url.parse().unwrap();
        let to = IpAddr::V4(loopback());
        let new = SocketAddr::new(to, url.port().unwrap());
        let new = Application::start_at(new, []).await;
        let name = Arc::new(Moving {
            is_moved: AtomicBool::new(false),
            to,
        });
        let url = old.url.replace("127.0.0.1", "app.example");
        let webhooks = Webhooks::new(APP_SECRET).unwrap();
        let mut settings = HttpSettings::new(url.parse().unwrap(), webhooks);
        settings.allow_private = true;
        settings.connection_age_max = age_max;
        let lookup = Arc::clone(&name) as Arc<dyn Resolve>;
        let destination = HttpDestination::with_lookup(settings, Limits::default(), lookup);
        Self {
            old,
            new,
            name,
            destination: Arc::new(destination.unwrap()),
        }
    }

    async fn deliver(&self) {
        let outcome = self.destination.send(&delivery("{}"), None).await;
        assert_delivered(&outcome);
    }
}

#[tokio::test]
async fn steady_traffic_follows_a_name_that_moves() {
    let mut test = Move::start([], Duration::from_millis(20)).await;
    test.deliver().await;
    test.old.next().await;
    test.name.move_on();
    let deadline = Instant::now() + PATIENCE;
    while !test.new.has_more() {
        assert!(
            Instant::now() < deadline,
            "all of it goes to the old server"
        );
        test.deliver().await;
    }
}

#[tokio::test]
async fn a_connection_serves_until_it_is_old_or_new_ones_are_asked_for() {
    assert!((60..=300).contains(&CONNECTION_AGE_MAX.as_secs()));
    let mut test = Move::start([], CONNECTION_AGE_MAX).await;
    test.deliver().await;
    test.name.move_on();
    for _ in 0..10 {
        test.deliver().await;
        test.old.next().await;
    }
    assert!(!test.new.has_more());
    test.destination.renew_connections();
    test.deliver().await;
    test.new.next().await;
}

#[tokio::test]
async fn a_request_under_way_ends_on_its_old_connection() {
    let answer = Arc::new(Notify::new());
    let held = Answer::WhenTold(Arc::clone(&answer));
    let mut test = Move::start([held], CONNECTION_AGE_MAX).await;
    let destination = Arc::clone(&test.destination);
    let under_way = tokio::spawn(async move { destination.send(&delivery("{}"), None).await });
    test.old.next().await;
    test.name.move_on();
    for _ in 0..3 {
        test.destination.renew_connections();
        test.deliver().await;
        test.new.next().await;
    }
    answer.notify_one();
    let outcome = under_way.await.unwrap();
    assert_delivered(&outcome);
    assert!(!test.old.has_more() && !test.new.has_more());
}

/// Forwards connections, and counts them.
async fn counted(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::SeqCst);
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_opens_new_connections_though_nothing_has_changed() {
    let mut app = Application::start([]).await;
    let (address, connections) = counted(address_of(&app.url)).await;
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &format!("http://{address}/webhook"));
    let mut serving = Serving::start(folder.path(), &[("UNWRAPD_LOG", "unwrapd=debug")]);
    let mut number = 0;
    for expected in 1..=3 {
        for _ in 0..3 {
            number += 1;
            serving
                .receive(&format!("wh_{number}"), EventType::BatchCompleted)
                .await;
            app.next().await;
            // Then its connection is free for the next one.
            tokio::task::block_in_place(|| serving.announced("delivered: HTTP 200"));
        }
        assert_eq!(connections.load(Ordering::SeqCst), expected);
        serving.signal(Signal::HUP);
        tokio::task::block_in_place(|| serving.announced("was reloaded"));
    }
}
