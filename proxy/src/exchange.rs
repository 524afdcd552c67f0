//! One HTTP/1.1 request on a connection of its own: to a collector, to the application's metrics and probes.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// What can go wrong while an answer is read.
pub type ReadError = Box<dyn Error + Send + Sync>;

/// An answer whose body is not read yet. Its connection ends with it.
#[derive(Debug)]
pub struct Answered {
    /// Head and body.
    pub response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

/// Sends a request, whose URI is a path, as `Host` says to whom.
///
/// # Errors
/// What is wrong with the connection, or with what came over it.
pub async fn send<S, B>(stream: S, request: Request<B>) -> hyper::Result<Answered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<ReadError>> + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let carried = async {
        // An end of the connection before that of the exchange is told by the exchange.
        let _ = connection.await;
    };
    let connection = AbortOnDropHandle::new(tokio::spawn(carried));
    let response = sender.send_request(request).await?;
    Ok(Answered { response, _connection: connection })
}

impl Answered {
    /// The whole answer, with a body of at most so many bytes.
    ///
    /// # Errors
    /// A body that is longer, or was cut.
    pub async fn read(self, most: usize) -> Result<Response<Bytes>, ReadError> {
        let (head, body) = self.response.into_parts();
        let body = Limited::new(body, most).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}
