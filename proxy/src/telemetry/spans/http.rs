//! OTLP over HTTP/1.1: a connection for each batch.

use std::time::Duration;

use ::http::header::HOST;
use ::http::{HeaderValue, Request, Response, Uri};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use opentelemetry_http::{HttpClient, HttpError};

use super::connect::Connector;
use crate::exchange::send;

/// What is read of a collector's answer.
const MOST_ANSWER: usize = 64 << 10;

/// Posts to one collector.
#[derive(Debug)]
pub struct Posting {
    /// The way to it.
    pub connector: Connector,
    /// How long one batch may take, from connecting to the end of the answer.
    pub timeout: Duration,
}

#[async_trait]
impl HttpClient for Posting {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        tokio::time::timeout(self.timeout, self.post(request)).await?
    }
}

impl Posting {
    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = in_origin_form(request)?.map(Full::new);
        let stream = self.connector.connect().await?;
        send(stream, request).await?.read(MOST_ANSWER).await
    }
}

/// The request as one connection is sent it: a path, and `Host`.
fn in_origin_form(mut request: Request<Bytes>) -> Result<Request<Bytes>, HttpError> {
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = target.authority.take() {
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    target.scheme = None;
    *request.uri_mut() = Uri::from_parts(target)?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_host_and_a_path() {
        let request = Request::post("http://jaeger:4318/v1/traces").body(Bytes::new()).unwrap();
        let request = in_origin_form(request).unwrap();
        assert_eq!(request.uri(), "/v1/traces");
        assert_eq!(request.headers()[HOST], "jaeger:4318");
    }
}
