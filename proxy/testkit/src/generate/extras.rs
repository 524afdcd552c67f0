//! What few route rules ask for.

use http::StatusCode;
use proptest::option;
use proptest::prelude::*;
use weft_core::model::extras::{Abort, AbortWith, Delay, Extras, Fault, Share};

use super::value::span;

/// Anything that a rule may ask for; mostly nothing.
pub fn extras() -> impl Strategy<Value = Option<Box<Extras>>> {
    prop_oneof![
        3 => Just(None),
        1 => option::of(fault()).prop_map(|fault| Extras { fault }.boxed()),
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

fn share() -> impl Strategy<Value = Share> {
    (0..=1_000_000u32).prop_map(|millionths| Share::of_millionths(millionths).expect("a share"))
}
