//! A request as people write it on a command line or in a test: a URL, a method, headers.

use anyhow::{Context, Result, bail};
use http::Uri;
use http::uri::Scheme;
use weft_core::explain::told::Sent;

/// The host and port that a URL names, and the request as an application would send it.
///
/// # Errors
/// The URL has no host, or another scheme than http and https.
pub fn question(method: &str, url: &str, headers: &[(String, String)]) -> Result<((String, u16), Sent)> {
    let (origin, target) = split(url)?;
    let uri: Uri = origin.parse().with_context(|| format!("{url}: no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        bail!("{url}: write it whole, as http://SERVICE:PORT/PATH");
    };
    let tls = match scheme {
        s if *s == Scheme::HTTP => false,
        s if *s == Scheme::HTTPS => true,
        other => bail!("{url}: {other}:// is neither http:// nor https://"),
    };
    let host = authority.host().to_owned();
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let headers = with_host(authority.as_str(), headers);
    let sni = tls.then(|| host.clone()).filter(|host| host.parse::<std::net::IpAddr>().is_err());
    let method = method.to_owned();
    Ok(((host, port), Sent { method, target, headers, http: !tls, tls, sni }))
}

/// Headers as an application sends them to a host, which it names unless a `host` is among them.
pub fn with_host(host: &str, headers: &[(String, String)]) -> Vec<(String, String)> {
    let written = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let own = (!written).then(|| ("host".to_owned(), host.to_owned()));
    own.into_iter().chain(headers.iter().cloned()).collect()
}

/// What is odd about a method.
pub fn doubt(method: &str) -> Option<String> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    let upper = method.to_ascii_uppercase();
    let odd = upper != method && KNOWN.contains(&upper.as_str());
    odd.then(|| format!("{method} is not {upper}: methods are told apart by case (RFC 9110)"))
}

/// `NAME: VALUE`.
///
/// # Errors
/// It has no colon.
pub fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text}: write 'NAME: VALUE'"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// The origin of a URL, and what is asked of it: paths are explained as they are sent, so they stay as they are written.
fn split(url: &str) -> Result<(&str, String)> {
    let (_, rest) =
        url.split_once("://").with_context(|| format!("{url}: write it whole, as http://{url}"))?;
    let start = url.len() - rest.len();
    let end = rest.find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let target = url[end..].split('#').next().unwrap_or_default();
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok((&url[..end], target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_sent_as_an_application_would() {
        let ((host, port), sent) = question("GET", "http://web:8080/a/../b?x#y", &[]).unwrap();
        assert_eq!((host.as_str(), port, sent.target.as_str()), ("web", 8080, "/a/../b?x"));
        assert_eq!(sent.headers, [("host".to_owned(), "web:8080".to_owned())]);
        let own = [("Host".to_owned(), "other".to_owned())];
        let ((_, port), sent) = question("GET", "https://a.example.com", &own).unwrap();
        assert_eq!((port, sent.tls, sent.sni.as_deref()), (443, true, Some("a.example.com")));
        assert_eq!((sent.headers.len(), sent.target.as_str()), (1, "/"));
    }

    #[test]
    fn what_is_no_url_says_what_to_write() {
        for bad in ["web/x", "ftp://web/x", "http:///x", "http://a b/"] {
            assert!(question("GET", bad, &[]).is_err(), "{bad}");
        }
        assert!(question("GET", "web/x", &[]).unwrap_err().to_string().ends_with("as http://web/x"));
        assert!(doubt("get").unwrap().contains("GET") && doubt("GET").is_none() && doubt("purge").is_none());
        assert!(header("no-colon").is_err());
        assert_eq!(header("a: b:c"), Ok(("a".into(), "b:c".into())));
    }
}
