//! After 101 on both sides: bytes, both ways, until one side ends.

use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::tcp::{self, Traffic};

/// The client's half of an upgrade that was asked for.
pub struct Asked(OnUpgrade);

/// Takes the client's half of an upgrade from its request.
pub fn asked<B>(request: &mut Request<B>) -> Asked {
    Asked(hyper::upgrade::on(request))
}

/// The upstream's half, where it granted the upgrade.
pub fn granted<B>(response: &mut Response<B>) -> Option<OnUpgrade> {
    (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(response))
}

impl Asked {
    /// Relays once both sides have left HTTP; the bytes that went each way.
    pub async fn relay(self, upstream: OnUpgrade) -> Traffic {
        let traffic = Traffic::default();
        if let (Ok(client), Ok(upstream)) = (self.0.await, upstream.await) {
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            let end = tcp::relay(&mut client, &mut upstream, None, &traffic).await;
            tracing::debug!(?end, "tunnel ended");
        }
        traffic
    }
}
