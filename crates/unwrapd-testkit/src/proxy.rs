//! A small HTTP proxy: it makes tunnels (CONNECT) and forwards requests to http URLs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Rules of the proxy: 407 without these credentials, and 403 for tunnels if they are not allowed.
#[derive(Clone, Default)]
pub struct ProxyRules {
    pub authorization: Option<String>,
    pub makes_no_tunnels: bool,
}

pub struct ProxyServer {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ProxyServer {
    /// Forwards every request to `to`, whatever its host name.
    pub async fn start(to: SocketAddr, rules: ProxyRules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, to, rules.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, heads }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(
    mut client: TcpStream,
    to: SocketAddr,
    rules: ProxyRules,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut request = Vec::new();
    let end = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8(request[..end].to_vec()).unwrap();
    seen.lock().unwrap().push(head.clone());
    let is_tunnel = head.starts_with("CONNECT ");
    let is_allowed = rules.authorization.is_none_or(|wanted| {
        let wanted = format!("proxy-authorization: {wanted}");
        head.lines().any(|line| line.eq_ignore_ascii_case(&wanted))
    });
    let refusal = match (is_allowed, is_tunnel && rules.makes_no_tunnels) {
        (false, _) => Some("407 Proxy Authentication Required"),
        (true, true) => Some("403 Forbidden"),
        (true, false) => None,
    };
    if let Some(refusal) = refusal {
        let answer =
            format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        client.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let mut server = TcpStream::connect(to).await.unwrap();
    if is_tunnel {
        let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
        client.write_all(answer).await.unwrap();
        server.write_all(&request[end..]).await.unwrap();
    } else {
        // `POST http://app.example/webhook HTTP/1.1` becomes `POST /webhook HTTP/1.1`.
        let (method, rest) = head.split_once(' ').unwrap();
        let path = rest.split_once("://").unwrap().1;
        let path = &path[path.find('/').unwrap()..];
        server
            .write_all(format!("{method} {path}").as_bytes())
            .await
            .unwrap();
        server.write_all(&request[end..]).await.unwrap();
    }
    // Either side may disconnect.
    drop(copy_bidirectional(&mut client, &mut server).await);
}
