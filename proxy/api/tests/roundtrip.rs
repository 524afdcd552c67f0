//! What is encoded decodes to the same, and no bytes make a decoder panic.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_api::resource::Resource;
use weft_api::{decode, encode, name};
use weft_core::model::name::ResourceName;
use weft_testkit::generate;

fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        generate::workload::workload().prop_map(|it| Resource::Workload(Arc::new(it))),
        generate::address::address().prop_map(|it| Resource::Address(Arc::new(it))),
        generate::service::service().prop_map(|it| Resource::Service(Arc::new(it))),
        generate::endpoint::slice().prop_map(|it| Resource::Endpoints(Arc::new(it))),
    ]
}

/// Decodes bytes as every type; what comes out does not matter.
fn decode_all(body: &[u8]) {
    let _ = decode::workload(body);
    let _ = decode::address(body);
    let _ = decode::service(body);
    let _ = decode::endpoints(body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(resource in resource()) {
        let encoded = encode::resource(&resource);
        prop_assert_eq!(decode::resource(&resource.name(), encoded.body()), Ok(resource.clone()));
        prop_assert_eq!(encode::resource(&resource.clone()), encoded);
    }

    #[test]
    fn names_read_back(resource in generate::value::resource_name()) {
        prop_assert_eq!(name::parse(name::type_of(&resource), &resource.to_string()), Ok(resource));
    }

    #[test]
    fn f9_arbitrary_bytes_are_refused_without_a_panic(body in vec(any::<u8>(), 0..200)) {
        decode_all(&body);
    }

    #[test]
    fn f9_damaged_resources_are_refused_without_a_panic(
        resource in resource(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = encode::resource(&resource).body().to_vec();
        prop_assume!(!body.is_empty());
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        decode_all(&body);
        body.truncate(cut.index(body.len()));
        decode_all(&body);
    }

    #[test]
    fn a_name_that_is_garbage_is_an_error(kind in 0..5i32, text in "\\PC{0,20}") {
        let kind = weft_api::pb::config::ResourceType::try_from(kind).unwrap();
        if let Ok(read) = name::parse(kind, &text) {
            prop_assert_eq!(read.to_string(), text);
        }
    }
}

#[test]
fn a_resource_must_be_the_one_that_was_asked_for() {
    let body = weft_api::encoded::Encoded::of(&weft_api::pb::config::EndpointSlice {
        service: Some(weft_api::pb::config::ServiceName { namespace: "a".into(), host: "b".into() }),
        ..Default::default()
    });
    let asked = name::parse(weft_api::pb::config::ResourceType::Endpoints, "a/b#0").unwrap();
    assert!(decode::resource(&asked, body.body()).is_ok());
    let other = name::parse(weft_api::pb::config::ResourceType::Endpoints, "a/b#1").unwrap();
    let error = decode::resource(&other, body.body()).unwrap_err();
    assert_eq!(error.to_string(), "it calls itself `a/b#0`");
    assert!(decode::resource(&ResourceName::Workload, &[]).is_err(), "an empty message is no workload");
}
