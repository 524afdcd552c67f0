//! Faults that a route does to requests on purpose: in the client's sidecar, before the request goes anywhere.

use http::Response;
use weft_core::http::grpc;
use weft_core::model::extras::{AbortWith, Fault};
use weft_core::reason::Reason;
use weft_core::route::fault;

use crate::call::Call;
use crate::http::answer::{Asker, answer_in_grpc, answer_with};
use crate::http::body::Body;
use crate::local::Local;

/// Harms a request as its rule says: holds it up, then answers it. `None`: it goes on. Whoever drops this, because the
/// client has gone, ends the delay.
pub async fn inject(local: &Local, call: &mut Call, injected: &Fault) -> Option<Response<Body>> {
    let injected = fault::inject(injected, local.random());
    if let Some(time) = injected.delay {
        call.hold(local, time);
        tokio::time::sleep(time).await;
    }
    injected.abort.map(|with| aborted(with, Asker { grpc: call.is_grpc(), trusted: true }))
}

fn aborted(with: AbortWith, asker: Asker) -> Response<Body> {
    let reason = Reason::FaultInjected;
    match with {
        AbortWith::Http(status) => answer_with(reason, status, asker),
        AbortWith::Grpc(code) if asker.grpc => answer_in_grpc(reason, code, asker),
        AbortWith::Grpc(code) => answer_with(reason, grpc::http_status_of(code), asker),
    }
}
