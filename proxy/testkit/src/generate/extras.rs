//! What few route rules ask for.

use http::StatusCode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weft_core::model::extras::{Abort, AbortWith, Cors, Delay, Extras, Fault, Share};

use super::value::{header_value, span, string_match};

/// Anything that a rule may ask for; mostly nothing.
pub fn extras() -> impl Strategy<Value = Option<Box<Extras>>> {
    prop_oneof![
        3 => Just(None),
        1 => (option::of(fault()), option::of(cors())).prop_map(|(fault, cors)| Extras { fault, cors }.boxed()),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let with = prop_oneof![
        (200..600u16).prop_map(|code| AbortWith::Http(StatusCode::from_u16(code).expect("a status"))),
        (0..17u8).prop_map(AbortWith::Grpc),
    ];
    let delay = (share(), span()).prop_map(|(share, time)| Delay { share, time });
    let abort = (share(), with).prop_map(|(share, with)| Abort { share, with });
    (option::of(delay), option::of(abort))
        .prop_filter("something is done", |(delay, abort)| delay.is_some() || abort.is_some())
        .prop_map(|(delay, abort)| Fault { delay, abort })
}

fn cors() -> impl Strategy<Value = Cors> {
    let value = || option::of(header_value());
    let flags = (any::<bool>(), any::<bool>(), option::of(any::<u64>()));
    (vec(string_match(), 0..3), value(), value(), value(), flags).prop_map(
        |(
            origins,
            allow_methods,
            allow_headers,
            expose_headers,
            (credentials, ignore_unmatched, max_age),
        )| Cors {
            origins,
            allow_methods,
            allow_headers,
            expose_headers,
            max_age,
            credentials,
            ignore_unmatched,
        },
    )
}

fn share() -> impl Strategy<Value = Share> {
    (0..=1_000_000u32).prop_map(|millionths| Share::of_millionths(millionths).expect("a share"))
}
