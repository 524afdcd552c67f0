//! What becomes of a request: routes, headers, policies.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use weft_core::matching::{StringMatch, Wildcard};
use weft_core::model::address::{Address, HostBinding, Meaning, ServicePortRef};
use weft_core::model::name::{AddressKey, ObjectName, ServiceName};
use weft_core::model::policy::{Action, AuthorizationPolicy, Operation, Rule, ValueMatch};
use weft_core::model::protocol::Protocol;
use weft_core::model::route::{
    DirectResponse, HttpAction, HttpMatch, PathRewrite, Redirect, RedirectPath, RedirectPort,
};
use weft_core::model::workload::OutboundMode;
use weft_proxy::http::version::HttpVersion::Http1;
use weft_testkit::wire::{Upstream, Wire};
use weft_testkit::world::{World, identity, rule};

use crate::bed::{Bed, on_worker};

const GET: &str = "GET /hello?a=b HTTP/1.1\r\nHost: reviews\r\nX-CuStOm: 1\r\n\r\n";

#[tokio::test]
async fn a_request_goes_out_and_in_and_its_answer_comes_back() {
    on_worker(async {
        let application = Upstream::answering("hi").await;
        let inside = World::new().port(8080, Protocol::Http);
        let server = Bed::new(&inside).inbound(application.address, Http1, None).await;
        let world = World::new().service("reviews", Protocol::Http, &[server]);
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "reviews", Http1).await;
        let mut client = Wire::connect(proxy).await;
        for _ in 0..3 {
            client.send(GET).await;
            let answer = client.message().await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
            assert!(answer.contains("x-envoy-upstream-service-time: "), "{answer}");
        }
        assert_eq!(application.connections(), 1, "connections are kept");
        let request = &application.requests()[0];
        assert!(request.starts_with("GET /hello?a=b HTTP/1.1\r\n"), "{request}");
        for line in ["Host: reviews\r\n", "X-CuStOm: 1\r\n", "x-request-id: ", "x-envoy-attempt-count: 1\r\n"]
        {
            assert!(request.contains(line), "{line} in {request}");
        }
        let metrics = bed.metrics();
        let counted = metrics.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
        assert!(
            counted.contains("destination_service_name=\"reviews\"") && counted.ends_with(" 3"),
            "{counted}"
        );
    })
    .await;
}

#[tokio::test]
async fn http_1_0_just_works() {
    on_worker(async {
        let upstream = Upstream::answering("old").await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "reviews", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("old"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_explicit_listener_knows_the_hosts_that_it_was_given_and_no_other() {
    on_worker(async {
        let (first, second) = (Upstream::answering("first").await, Upstream::answering("second").await);
        let world = World::new().service("reviews", Protocol::Http, &[first.address]).service(
            "ratings",
            Protocol::Http,
            &[second.address],
        );
        let bound = |name: &str| {
            let address = world.address(name);
            let Meaning::Service(target) = address.meaning.clone() else { panic!("a service") };
            HostBinding { domains: vec![name.into()], target }
        };
        let meaning = Meaning::Shared(vec![bound("reviews"), bound("ratings")]);
        let address = Arc::new(Address { key: world.address("reviews").key, meaning });
        let bed = Bed::new(&world);
        let listed = bed.outbound_listed(address.clone(), Http1).await;
        let mut client = Wire::connect(listed).await;
        for (host, status, end) in
            [("ratings", 200, "second"), ("other", 404, ""), ("reviews:9", 200, "first")]
        {
            client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            let answer = client.message().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(end), "{answer}");
            assert_eq!(answer.contains("x-weft-reason: no_route\r\n"), status == 404, "{answer}");
        }
        // An address that several services share means its first, where none is named.
        let mut client = Wire::connect(bed.outbound_to(address, Http1).await).await;
        client.send("GET / HTTP/1.1\r\nHost: other\r\n\r\n").await;
        assert!(client.message().await.ends_with("first"));
    })
    .await;
}

#[tokio::test]
async fn the_first_rule_that_matches_decides() {
    on_worker(async {
        let upstream = Upstream::answering("up").await;
        let redirect = Redirect {
            path: Some(RedirectPath::Full("/new".into())),
            authority: None,
            port: RedirectPort::Keep,
            scheme: None,
            status: StatusCode::FOUND,
        };
        let on =
            |path: &str| vec![HttpMatch { uri: Some(StringMatch::Exact(path.into())), ..Default::default() }];
        let teapot = DirectResponse { status: StatusCode::IM_A_TEAPOT, body: "short".into() };
        let world = World::new()
            .service("reviews", Protocol::Http, &[upstream.address])
            .rule(rule(on("/old"), HttpAction::Redirect(Box::new(redirect))))
            .rule(rule(on("/tea"), HttpAction::Respond(teapot)))
            .forward(|forward| {
                forward.rewrite.path = Some(PathRewrite::Uri("/prefix/".into()));
                forward.rewrite.authority = Some(HeaderValue::from_static("other.example"));
                let ops = &mut forward.destinations[0].request_headers;
                ops.set.push((HeaderName::from_static("x-set"), HeaderValue::from_static("yes")));
                let ops = &mut forward.destinations[0].response_headers;
                ops.add.push((HeaderName::from_static("x-added"), HeaderValue::from_static("too")));
            });
        let proxy = Bed::new(&world).outbound(&world, "reviews", Http1).await;
        let mut client = Wire::connect(proxy).await;

        client.send("GET /old HTTP/1.1\r\nHost: reviews\r\n\r\n").await;
        let answer = client.message().await;
        assert!(
            answer.starts_with("HTTP/1.1 302 ") && answer.contains("location: http://reviews/new\r\n"),
            "{answer}"
        );
        assert!(answer.contains("x-weft-reason: redirect\r\n"), "{answer}");

        client.send("GET /tea HTTP/1.1\r\nHost: reviews\r\n\r\n").await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 418 ") && answer.ends_with("short"), "{answer}");
        assert!(answer.contains("x-weft-reason: direct_response\r\n"), "{answer}");

        client.send("GET /x HTTP/1.1\r\nHost: reviews\r\n\r\n").await;
        let answer = client.message().await;
        assert!(answer.contains("x-added: too\r\n") && answer.ends_with("up"), "{answer}");
        let request = &upstream.requests()[0];
        assert!(request.starts_with("GET /prefix/x HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("Host: other.example\r\n") && request.contains("x-set: yes\r\n"),
            "{request}"
        );
    })
    .await;
}

#[tokio::test]
async fn b7_paths_are_normalised_before_they_are_matched_and_forwarded() {
    on_worker(async {
        let upstream = Upstream::answering("").await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "reviews", Http1).await;
        let mut client = Wire::connect(proxy).await;
        client.send("GET /a/%2e%2e/admin?q HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.message().await;
        assert!(upstream.requests()[0].starts_with("GET /admin?q HTTP/1.1\r\n"), "{:?}", upstream.requests());
    })
    .await;
}

fn deny_delete() -> AuthorizationPolicy {
    let methods = ValueMatch { values: vec![Wildcard::Exact("DELETE".into())], not_values: vec![] };
    let to = vec![Operation { methods, ..Default::default() }];
    AuthorizationPolicy {
        name: ObjectName { namespace: "default".into(), name: "no-delete".into() },
        action: Action::Deny,
        dry_run: false,
        rules: vec![Rule { to, ..Default::default() }],
    }
}

#[tokio::test]
async fn e6_a_denied_request_is_told_the_reason_only_in_the_mesh() {
    on_worker(async {
        let application = Upstream::answering("done").await;
        let world = World::new().port(8080, Protocol::Http).policy(deny_delete());
        let bed = Bed::new(&world);
        let request = "DELETE /secret HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: me\r\n\r\n";
        for (peer, told) in [(None, false), (Some(identity("gateway")), true)] {
            let proxy = bed.inbound(application.address, Http1, peer).await;
            let mut client = Wire::connect(proxy).await;
            client.send(request).await;
            let answer = client.message().await;
            assert!(
                answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("RBAC: access denied"),
                "{answer}"
            );
            assert_eq!(answer.contains("x-weft-reason: policy_denied\r\n"), told, "{answer}");
            assert!(!answer.contains("secret"), "{answer}");
        }
        assert!(application.requests().is_empty(), "0 upstream");
        let metrics = bed.metrics();
        let counted = "weft_rejected_total{policy=\"default/no-delete\",reason=\"policy_denied\"} 2";
        assert!(metrics.contains(counted), "{metrics}");
    })
    .await;
}

#[tokio::test]
async fn d15_identity_headers_are_the_meshs_to_say() {
    on_worker(async {
        let body = "HTTP/1.1 200 OK\r\nx-weft-reason: policy_denied\r\ncontent-length: 0\r\n\r\n";
        let application = Upstream::replying(body).await;
        let world = World::new().port(8080, Protocol::Http);
        let bed = Bed::new(&world);
        let request =
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: forged\r\nx_weft_reason: forged\r\n\r\n";
        for peer in [None, Some(identity("gateway"))] {
            let proxy = bed.inbound(application.address, Http1, peer.clone()).await;
            let mut client = Wire::connect(proxy).await;
            client.send(request).await;
            let answer = client.message().await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("weft"), "{answer}");
            let seen = application.requests().pop().unwrap();
            assert!(!seen.contains("forged"), "{seen}");
            let told = "x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/client;Subject=\"\";\
                        URI=spiffe://cluster.local/ns/default/sa/gateway\r\n";
            assert_eq!(
                seen.to_ascii_lowercase().contains(&told.to_ascii_lowercase()),
                peer.is_some(),
                "{seen}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_closed_or_not_told_has_its_reason() {
    on_worker(async {
        let mut world = World::new();
        world.workload.outbound.mode = OutboundMode::RegistryOnly;
        let bed = Bed::new(&world);
        let key = AddressKey::new([192, 0, 2, 1].into(), 80);
        let nothing = Meaning::Nothing { prefix: "192.0.2.1/32".parse().unwrap() };
        let untold = ServicePortRef { service: ServiceName::new("default", "gone"), port: 80 };
        for (meaning, status, reason) in
            [(nothing, 502, "black_hole"), (Meaning::Service(untold), 503, "config_unavailable")]
        {
            let proxy = bed.outbound_to(Arc::new(Address { key, meaning }), Http1).await;
            let mut client = Wire::connect(proxy).await;
            client.send(GET).await;
            let answer = client.message().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!("x-weft-reason: {reason}\r\n")), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_subset_that_does_not_exist_is_no_cluster() {
    on_worker(async {
        let upstream = Upstream::answering("hi").await;
        let world = World::new().service("reviews", Protocol::Http, &[upstream.address]);
        let world = world.forward(|forward| forward.destinations[0].cluster.subset = Some("untold".into()));
        let bed = Bed::new(&world);
        let mut client = Wire::connect(bed.outbound(&world, "reviews", Http1).await).await;
        client.send(GET).await;
        let answer = client.message().await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("x-weft-reason: no_cluster\r\n"), "{answer}");
        assert_eq!(upstream.connections(), 0);
    })
    .await;
}
