//! A request as the bytes and the head that decide about it.

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Uri};

use crate::detect::hello::{Hello, client_hello};
use crate::detect::sniff::Detected;
use crate::detect::{Detection, Rules, Step};

use super::told::Sent;

/// What a connection that carries this request is taken for, by the rules of its port.
pub(super) fn detected(rules: Rules, sent: &Sent) -> Detected {
    let mut detection = Detection::new(rules);
    if let Step::Decided(detected) = detection.start() {
        return detected;
    }
    let bytes = first_bytes(sent);
    match detection.client(&bytes) {
        Step::Decided(detected) => detected,
        Step::Dial | Step::Wait(_) => match detection.client_end(&bytes) {
            Step::Decided(detected) => detected,
            Step::Dial | Step::Wait(_) => Detected::Opaque,
        },
    }
}

/// The head of a request; `None` where it can be none.
pub(super) fn head(sent: &Sent) -> Option<Parts> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(sent.method.as_bytes()).ok()?;
    *request.uri_mut() = sent.target.parse::<Uri>().ok()?;
    for (name, value) in &sent.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_str(value).ok()?);
    }
    Some(request.into_parts().0)
}

/// The request that a head is.
pub(super) fn sent(parts: &Parts, like: &Sent) -> Sent {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Sent {
        method: parts.method.to_string(),
        target: target(parts),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        ..like.clone()
    }
}

/// Path and query.
pub(super) fn target(parts: &Parts) -> String {
    parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

fn first_bytes(sent: &Sent) -> Vec<u8> {
    if sent.tls {
        return hello(sent.sni.as_deref());
    }
    format!("{} {} HTTP/1.1\r\n", sent.method, sent.target).into_bytes()
}

/// A ClientHello (RFC 8446 section 4.1.2) that says nothing but the server's name.
fn hello(sni: Option<&str>) -> Vec<u8> {
    let extensions = sni.map(|name| {
        let name = [&[0][..], &long(name.as_bytes())].concat();
        [&[0, 0][..], &long(&long(&name))].concat()
    });
    let body =
        [&[3, 3][..], &[0; 32], &[0, 0, 2, 0x13, 1, 1, 0], &long(&extensions.unwrap_or_default())].concat();
    let message = [&[1, 0][..], &long(&body)].concat();
    let bytes = [&[22, 3, 1][..], &long(&message)].concat();
    debug_assert!(matches!(client_hello(&bytes), Hello::Whole(_)));
    bytes
}

/// With its length before it.
fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::protocol::Protocol;

    fn request(tls: bool) -> Sent {
        let sni = tls.then(|| "a.example.com".to_owned());
        let headers = vec![("host".to_owned(), "a.example.com".to_owned())];
        Sent { method: "GET".into(), target: "/x?y".into(), headers, http: true, tls, sni }
    }

    fn taken_for(protocol: Protocol, tls: bool) -> Detected {
        detected(Rules { protocol, tls: false, may_dial: true }, &request(tls))
    }

    #[test]
    fn a_request_is_taken_for_what_its_first_bytes_and_its_port_say() {
        assert_eq!(taken_for(Protocol::Auto, false), Detected::Http1);
        assert_eq!(taken_for(Protocol::Http, false), Detected::Http1);
        assert_eq!(taken_for(Protocol::Tcp, false), Detected::Opaque);
        assert_eq!(taken_for(Protocol::Tls, false), Detected::Opaque);
        let Detected::Tls(hello) = taken_for(Protocol::Auto, true) else { panic!("no TLS") };
        assert_eq!(hello.sni.as_deref(), Some("a.example.com"));
        assert_eq!(taken_for(Protocol::Http, true), Detected::Http1);
    }

    #[test]
    fn a_head_is_read_back_as_it_was() {
        let asked = request(false);
        assert_eq!(sent(&head(&asked).unwrap(), &asked), asked);
        assert!(head(&Sent { method: "G T".into(), ..asked.clone() }).is_none());
        assert!(head(&Sent { target: "/a b".into(), ..asked }).is_none());
    }
}
