use std::net::Ipv4Addr;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn probes(path: &str, probe: &str) -> Probes {
    let text = format!("{{\"{path}\": {probe}}}");
    Probes::read(Some(&text), Some(HOME), Dialer::default()).unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((HOME, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Answers one connection with a text, and gives what it was asked.
async fn answer(listener: TcpListener, text: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = vec![0; 4096];
    let read = stream.read(&mut asked).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&asked[..read]).into_owned()
}

#[tokio::test]
async fn http_goes_with_the_authors_headers_and_brings_the_status() {
    let (listener, port) = listen().await;
    let headers = r#"[{"name": "Host", "value": "web.shop"}, {"name": "X", "value": "1"}, {"name": "X", "value": "2"}]"#;
    let probe = format!(
        r#"{{"httpGet": {{"path": "/live?a=b", "port": {port}, "httpHeaders": {headers}}}, "timeoutSeconds": 5}}"#
    );
    let probes = probes("/app-health/app/livez", &probe);
    let (verdict, asked) = tokio::join!(
        probes.ask("/app-health/app/livez"),
        answer(listener, "HTTP/1.1 418 x\r\ncontent-length: 0\r\n\r\n")
    );
    assert_eq!(verdict.unwrap().status, 418);
    assert!(asked.starts_with("GET /live?a=b HTTP/1.1\r\n"), "{asked}");
    let lower = asked.to_lowercase();
    assert!(lower.contains("host: web.shop\r\n") && !lower.contains("host: 127"), "{asked}");
    assert!(
        lower.contains("x: 1\r\n") && lower.contains("x: 2\r\n") && lower.contains("kube-probe/"),
        "{asked}"
    );
    assert_eq!(probes.ask("/app-health/other/livez").await, None);
}

#[tokio::test]
async fn https_believes_any_certificate() {
    let (listener, port) = listen().await;
    let made = rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let serve = async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = TlsAcceptor::from(std::sync::Arc::new(config)).accept(tcp).await.unwrap();
        let _ = tls.read(&mut [0; 4096]).await.unwrap();
        tls.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.unwrap();
        tls.shutdown().await.unwrap();
    };
    let probes = probes(
        "/x",
        &format!(r#"{{"httpGet": {{"port": {port}, "scheme": "HTTPS"}}, "timeoutSeconds": 5}}"#),
    );
    let (verdict, ()) = tokio::join!(probes.ask("/x"), serve);
    assert_eq!(verdict.unwrap().status, 204);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_not_good() {
    let (listener, port) = listen().await;
    let probes = probes("/x", &format!(r#"{{"tcpSocket": {{"port": {port}}}, "timeoutSeconds": 5}}"#));
    assert_eq!(probes.ask("/x").await.unwrap().status, 200);
    drop(listener);
    let verdict = probes.ask("/x").await.unwrap();
    assert!(verdict.status == 503 && verdict.text.contains("refused"), "{verdict:?}");
}

#[tokio::test]
async fn an_application_that_is_silent_is_not_waited_for() {
    let (listener, port) = listen().await;
    let probes =
        probes("/x", &format!(r#"{{"httpGet": {{"path": "/", "port": {port}}}, "timeoutSeconds": 1}}"#));
    let verdict = probes.ask("/x").await.unwrap();
    assert!(verdict.status == 503 && verdict.text.contains("within 1s"), "{verdict:?}");
    drop(listener);
}

#[tokio::test]
async fn grpc_of_another_protocol_is_not_good() {
    let (listener, port) = listen().await;
    let probes =
        probes("/x", &format!(r#"{{"grpc": {{"port": {port}, "service": "a"}}, "timeoutSeconds": 5}}"#));
    let (verdict, asked) = tokio::join!(probes.ask("/x"), answer(listener, "HTTP/1.1 400 x\r\n\r\n"));
    assert_eq!(verdict.unwrap().status, 503);
    assert!(asked.starts_with("PRI * HTTP/2.0"), "{asked}");
}

#[test]
fn what_is_no_probe_is_refused() {
    let read = |text| Probes::read(Some(text), Some(HOME), Dialer::default());
    assert!(read("").is_ok() && read("{}").is_ok());
    assert!(read("[]").is_err() && read(r#"{"/x": {"exec": {}}}"#).is_err());
    let error = read("x").unwrap_err().to_string();
    assert!(error.starts_with("WEFT_APP_PROBES"), "{error}");
}
