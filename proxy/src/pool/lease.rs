//! A connection while a request has it.

use std::rc::Rc;

use http::{Request, Response};
use http_body::Body;

use super::conn::Http1;
use super::connect::Destination;
use super::http2::{self, Http2};
use super::send_fault::SendFault;
use crate::flow::{Flow, NARROW};
use crate::http::fault::{Cut, FramingFault, find};
use crate::http::incoming::Incoming;
use crate::http::permission::Permission;
use crate::http::upload::UploadBody;

/// Where a connection belongs when no request has it.
pub(super) trait Home {
    /// An HTTP/1 connection has come to the end of an exchange.
    fn give_back(self: Rc<Self>, connection: Http1, to: &Destination);
    /// A stream of an HTTP/2 connection has ended.
    fn stream_ended(self: Rc<Self>, connection: &Rc<Http2>, to: &Destination);
}

/// A connection for one request. Given back when the exchange is complete; dropped before that, an HTTP/1
/// connection closes, which tells the upstream.
pub struct Lease {
    home: Rc<dyn Home>,
    to: Destination,
    connection: Option<Leased>,
}

/// What of a connection a request has.
enum Leased {
    Http1(Http1),
    Http2 {
        connection: Rc<Http2>,
        /// What is yet to be sent of the request.
        rest: Option<http2::Rest>,
    },
}

impl Lease {
    pub(super) fn http1(home: Rc<dyn Home>, to: Destination, mut connection: Http1) -> Self {
        connection.served += 1;
        Self { home, to, connection: Some(Leased::Http1(connection)) }
    }

    pub(super) fn http2(home: Rc<dyn Home>, to: Destination, connection: Rc<Http2>) -> Self {
        connection.active.set(connection.active.get() + 1);
        connection.served.set(connection.served.get() + 1);
        Self { home, to, connection: Some(Leased::Http2 { connection, rest: None }) }
    }

    /// Where the connection goes.
    pub fn to(&self) -> &Destination {
        &self.to
    }

    /// Whether the connection carried a request before: it may be closing as this one is sent.
    pub fn is_used(&self) -> bool {
        match &self.connection {
            Some(Leased::Http1(connection)) => connection.served > 1,
            Some(Leased::Http2 { connection, .. }) => connection.served.get() > 1,
            None => false,
        }
    }

    /// Sends a request and waits for the head of its response. `client`: the connection that it comes from, where that
    /// keeps pace with others.
    ///
    /// # Errors
    /// [`SendFault`]: what is known of the request's fate.
    pub async fn send(
        &mut self,
        mut request: Request<UploadBody>,
        client: Option<&Flow>,
    ) -> Result<Response<Incoming>, SendFault> {
        let permission = request.body().permission();
        match &mut self.connection {
            Some(Leased::Http1(connection)) => {
                if let Some(permission) = permission {
                    listen(&mut request, permission);
                }
                connection.ask(&request);
                if let Some(client) = client.filter(|_| is_much(request.body())) {
                    client.join(connection.flow());
                }
                let sent = connection.sender.try_send_request(request).await;
                if let (Some(client), Ok(response)) = (client, &sent)
                    && is_much(response.body())
                {
                    client.join(connection.flow());
                }
                match sent {
                    Ok(response) => Ok(response.map(Incoming::Http1)),
                    Err(mut error) => Err(fault(error.take_message().is_some(), error.error())),
                }
            }
            Some(Leased::Http2 { connection, rest }) => {
                if let Some(permission) = permission {
                    permission.give();
                }
                let begun = connection.begin(request)?;
                *rest = begun.rest;
                http2::answered(begun.response).await
            }
            None => Err(SendFault::Unsent),
        }
    }

    /// The connection again, of a lease that nobody took.
    pub(super) fn into_idle(mut self) -> Option<Http1> {
        match self.connection.take()? {
            Leased::Http1(mut connection) => {
                connection.served -= 1;
                Some(connection)
            }
            Leased::Http2 { .. } => None,
        }
    }

    /// The exchange is complete: the connection may serve another.
    pub fn give_back(mut self) {
        match self.connection.take() {
            Some(Leased::Http1(connection)) => {
                connection.flow().part();
                Rc::clone(&self.home).give_back(connection, &self.to);
            }
            Some(Leased::Http2 { connection, rest }) => {
                if let Some(rest) = rest {
                    http2::end_soon(rest);
                }
                // Its stream ends with the lease.
                self.connection = Some(Leased::Http2 { connection, rest: None });
            }
            None => {}
        }
    }
}

/// An HTTP/1 connection in the middle of an exchange closes with its sender; of an HTTP/2 connection a stream ends.
impl Drop for Lease {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(Leased::Http1(connection)) => connection.flow().part(),
            Some(Leased::Http2 { connection, .. }) => {
                connection.active.set(connection.active.get() - 1);
                Rc::clone(&self.home).stream_ended(&connection, &self.to);
            }
            None => {}
        }
    }
}

/// Whether a body may be more than is read of it at once.
fn is_much(body: &impl Body) -> bool {
    body.size_hint().upper().is_none_or(|most| most > NARROW as u64)
}

/// Gives the permission when the upstream says 100.
fn listen(request: &mut Request<UploadBody>, permission: Permission) {
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == http::StatusCode::CONTINUE {
            permission.give();
        }
    });
}

fn fault(handed_back: bool, error: &hyper::Error) -> SendFault {
    if handed_back {
        return SendFault::Unsent;
    }
    if let Some(framing) = find::<FramingFault>(error) {
        return SendFault::Framing(Some(framing.0));
    }
    if error.is_parse() {
        return SendFault::Framing(None);
    }
    match find::<Cut>(error) {
        Some(_) => SendFault::Body,
        None => SendFault::Reset,
    }
}
