//! What few route rules ask for.

use weft_core::model::extras::{Abort, AbortWith, Cors, Delay, Extras, Fault, GRPC_STATUSES, Share};

use super::common::string_match;
use super::value::{
    At, Result, at_most, chosen, fail, header_value, list, number, optional, required, span, status,
};
use crate::limits::MAX_VALUES;
use crate::pb::config as pb;

/// The highest gRPC status: UNAUTHENTICATED.
const LAST_GRPC_STATUS: u32 = GRPC_STATUSES.len() as u32 - 1;

pub(super) fn extras(rule: &pb::HttpRule) -> Result<Option<Box<Extras>>> {
    let fault = optional("fault", rule.fault.as_ref(), fault)?;
    let cors = optional("cors", rule.cors.as_ref(), cors)?;
    Ok(Extras { fault, cors }.boxed())
}

fn fault(it: &pb::Fault) -> Result<Fault> {
    let fault = Fault {
        delay: optional("delay", it.delay.as_ref(), delay)?,
        abort: optional("abort", it.abort.as_ref(), abort)?,
    };
    if fault == Fault::default() { fail("empty") } else { Ok(fault) }
}

fn delay(it: &pb::Delay) -> Result<Delay> {
    Ok(Delay { share: share(it.share).at("share")?, time: span(it.nanos).at("nanos")? })
}

fn abort(it: &pb::Abort) -> Result<Abort> {
    Ok(Abort {
        share: share(it.share).at("share")?,
        with: match chosen(it.with.as_ref())? {
            pb::abort::With::HttpStatus(code) => AbortWith::Http(status(*code, 200..=599).at("http_status")?),
            pb::abort::With::GrpcStatus(code) => {
                let code = at_most(LAST_GRPC_STATUS, *code).and_then(number);
                AbortWith::Grpc(code.at("grpc_status")?)
            }
        },
    })
}

fn cors(it: &pb::Cors) -> Result<Cors> {
    Ok(Cors {
        origins: list("origins", &it.origins, MAX_VALUES, string_match)?,
        allow_methods: optional("allow_methods", it.allow_methods.as_ref(), |value| header_value(value))?,
        allow_headers: optional("allow_headers", it.allow_headers.as_ref(), |value| header_value(value))?,
        expose_headers: optional("expose_headers", it.expose_headers.as_ref(), |value| header_value(value))?,
        max_age: it.max_age_seconds,
        credentials: it.credentials,
        ignore_unmatched: it.ignore_unmatched,
    })
}

fn share(millionths: u32) -> Result<Share> {
    let share = Share::of_millionths(millionths);
    required(share.as_ref()).copied().or_else(|_| fail(format!("{millionths} is more than a million")))
}
