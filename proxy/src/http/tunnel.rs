//! After 101 on both sides: bytes, both ways, until one side ends.

use http::Response;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::response::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use weft_core::http::headers::Hop;

use super::body::{Body, End, Finish, Summary};
use crate::tcp::{self, Traffic};

/// Passes a 101 on, and relays once both sides have left HTTP. `client`: the half that came with the request; `ending`
/// is told of the tunnel's end.
pub fn switch(mut head: Parts, hop: Hop, client: OnUpgrade, ending: Box<dyn Finish>) -> Response<Body> {
    if let Some(upstream) = head.extensions.remove::<OnUpgrade>() {
        tokio::task::spawn_local(relay(client, upstream, ending));
    }
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(upgrade) = hop.upgrade {
        head.headers.insert(UPGRADE, upgrade);
    }
    Response::from_parts(head, Body::empty())
}

async fn relay(client: OnUpgrade, upstream: OnUpgrade, ending: Box<dyn Finish>) {
    let traffic = Traffic::default();
    let mut end = End::Client;
    if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let ended = tcp::relay(&mut client, &mut upstream, None, &traffic).await;
        tracing::debug!(?ended, "tunnel ended");
        end = End::Complete;
    }
    ending.finish(Summary { end, bytes: traffic.received.get(), grpc_status: None, messages: 0 });
}
