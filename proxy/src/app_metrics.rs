//! The application's own metrics, asked for when the sidecar's are: one scrape shows both.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;

use crate::dial::{DialOptions, Dialer};
use crate::exchange::send;

/// The longest that the application may take: Prometheus waits for ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is taken of it.
const MOST: usize = 32 << 20;

/// Where the application has its metrics: on the loopback interface, where nothing is redirected.
#[derive(Clone, Debug)]
pub struct AppMetrics {
    at: SocketAddr,
    path: String,
    dialer: Dialer,
}

impl AppMetrics {
    /// Reads `PORT/PATH`; `dialer` makes the connections.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, dialer: Dialer) -> Result<Self, String> {
        let wrong = || format!("`{text}` says no metrics: write PORT/PATH, such as 9090/metrics");
        let (port, path) = text.split_once('/').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let path = format!("/{path}");
        path.parse::<http::Uri>().map_err(|_| wrong())?;
        Ok(Self { at: (Ipv4Addr::LOCALHOST, port).into(), path, dialer })
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn fetch(&self) -> Result<Bytes, String> {
        let fetched = tokio::time::timeout(PATIENCE, self.ask()).await;
        fetched.unwrap_or_else(|_| Err(format!("no answer within {}s", PATIENCE.as_secs())))
    }

    async fn ask(&self) -> Result<Bytes, String> {
        let request = Request::get(&self.path)
            .header(header::HOST, self.at.to_string())
            .header(header::ACCEPT, "text/plain;version=0.0.4")
            .header(header::USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")));
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let stream = self.dialer.dial(self.at, &DialOptions::default()).await.map_err(|e| e.to_string())?;
        let answered = send(stream, request).await.map_err(|e| e.to_string())?;
        match answered.response.status() {
            StatusCode::OK => answered.read(MOST).await.map(Response::into_body).map_err(|e| e.to_string()),
            status => Err(format!("status {status}")),
        }
    }
}

/// The application's metrics as they may stand among others: a mark of the end, as OpenMetrics has it, would end the
/// scrape.
pub fn without_end(app: &[u8]) -> Vec<u8> {
    let end = b"# EOF";
    let mut text = Vec::with_capacity(app.len() + 1);
    for line in app.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if line.strip_suffix(b"\r").unwrap_or(line) != end {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn application(answer: &'static str) -> AppMetrics {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut head).await;
        });
        AppMetrics::parse(&format!("{}/m?a=b", at.port()), Dialer::default()).unwrap()
    }

    #[tokio::test]
    async fn what_the_application_says_is_fetched() {
        let app = application("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n").await;
        assert_eq!(app.fetch().await.as_deref(), Ok(b"a 1\n".as_slice()));
        let app = application("HTTP/1.1 503 Nope\r\nContent-Length: 0\r\n\r\n").await;
        assert!(app.fetch().await.unwrap_err().contains("503"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_does_not_answer_is_given_up() {
        let app = application("").await;
        assert!(app.fetch().await.unwrap_err().contains("5s"));
    }

    #[test]
    fn the_setting_is_read() {
        let known = AppMetrics::parse("9090/metrics", Dialer::default()).unwrap();
        assert_eq!((known.at.port(), known.path.as_str()), (9090, "/metrics"));
        let refused = |text: &&str| AppMetrics::parse(text, Dialer::default()).is_err();
        assert!(["", "9090", "0/x", "x/metrics", "70000/m"].iter().all(refused));
    }

    #[test]
    fn the_mark_of_the_end_is_left_out() {
        assert_eq!(without_end(b"# TYPE a counter\na_total 1\n# EOF\n\n"), b"# TYPE a counter\na_total 1\n");
        assert_eq!(without_end(b"a 1"), b"a 1\n");
    }
}
