//! What few route rules ask for.

use bytes::Bytes;
use http::HeaderValue;
use weft_core::model::extras::{Abort, AbortWith, Cors, Delay, Fault};

use super::common::{nanos, string_match};
use crate::pb::config as pb;

pub(super) fn fault(fault: &Fault) -> pb::Fault {
    pb::Fault { delay: fault.delay.as_ref().map(delay), abort: fault.abort.as_ref().map(abort) }
}

pub(super) fn cors(cors: &Cors) -> pb::Cors {
    let value = |value: &HeaderValue| Bytes::copy_from_slice(value.as_bytes());
    pb::Cors {
        origins: cors.origins.iter().map(string_match).collect(),
        allow_methods: cors.allow_methods.as_ref().map(value),
        allow_headers: cors.allow_headers.as_ref().map(value),
        expose_headers: cors.expose_headers.as_ref().map(value),
        max_age_seconds: cors.max_age,
        credentials: cors.credentials,
        ignore_unmatched: cors.ignore_unmatched,
    }
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
