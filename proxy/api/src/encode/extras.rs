//! What few route rules ask for.

use weft_core::model::extras::{Abort, AbortWith, Delay, Fault};

use super::common::nanos;
use crate::pb::config as pb;

pub(super) fn fault(fault: &Fault) -> pb::Fault {
    pb::Fault { delay: fault.delay.as_ref().map(delay), abort: fault.abort.as_ref().map(abort) }
}

fn delay(delay: &Delay) -> pb::Delay {
    pb::Delay { share: delay.share.millionths(), nanos: nanos(delay.time) }
}

fn abort(abort: &Abort) -> pb::Abort {
    use pb::abort::With;
    let with = match abort.with {
        AbortWith::Http(status) => With::HttpStatus(status.as_u16().into()),
        AbortWith::Grpc(status) => With::GrpcStatus(status.into()),
    };
    pb::Abort { share: abort.share.millionths(), with: Some(with) }
}
