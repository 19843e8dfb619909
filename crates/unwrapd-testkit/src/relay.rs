//! A TCP relay to a server. It can cut connections, and lose the server's answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    pub port: u16,
    is_deaf: Arc<AtomicBool>,
    is_shut: Arc<AtomicBool>,
    cuts: watch::Sender<()>,
}

impl Relay {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_deaf = Arc::new(AtomicBool::new(false));
        let is_shut = Arc::new(AtomicBool::new(false));
        let cuts = watch::Sender::new(());
        tokio::spawn({
            let (is_deaf, cuts) = (Arc::clone(&is_deaf), cuts.clone());
            let is_shut = Arc::clone(&is_shut);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    // The order matters: a connection that sees the relay open is cut when it
                    // shuts.
                    let mut cut = cuts.subscribe();
                    if is_shut.load(Ordering::SeqCst) {
                        continue;
                    }
                    let relayed = relay(client, to, Arc::clone(&is_deaf));
                    tokio::spawn(async move {
                        tokio::select! {
                            () = relayed => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        });
        Self {
            port,
            is_deaf,
            is_shut,
            cuts,
        }
    }

    /// Closes all connections, and every new one until it is opened.
    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets new connections work.
    pub fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
    }

    /// Loses the server's answers from this moment; requests still arrive.
    pub fn lose_answers(&self) {
        self.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Closes all connections. New ones work.
    pub fn cut(&self) {
        self.is_deaf.store(false, Ordering::SeqCst);
        self.cuts.send_replace(());
    }
}

async fn relay(mut client: TcpStream, to: SocketAddr, is_deaf: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let answers = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if !is_deaf.load(Ordering::SeqCst)
                && to_client.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}
