//! Both ends against each other, over streams that break, repeat and come late, with replicas that lag behind.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use weft_core::model::name::{AddressKey, ResourceName, ServiceName};

use super::client::{self, Event, ProtocolError, StreamId};
use super::server::{self, Change, Status};
use crate::encoded::Encoded;
use crate::error::DecodeError;
use crate::pb::config::{ClientInfo, DeltaRequest, DeltaResponse};

/// From here on a sidecar refuses a value.
const BAD: u8 = 200;

type State = BTreeMap<ResourceName, u8>;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Op {
    Want(u8),
    Release(u8),
    /// The world changes.
    Change(u8, Option<u8>),
    /// The controller hears of all changes.
    CatchUp,
    /// One message arrives, once or twice.
    Up {
        twice: bool,
    },
    Down {
        twice: bool,
    },
    /// A message of an earlier stream arrives, or an earlier message of this one.
    Late(u8),
    Progress,
    /// The stream breaks; the next one goes to a replica that is behind by so many changes.
    Break {
        lag: u8,
    },
}

struct Sim {
    history: Vec<State>,
    replica: usize,
    client: client::Session,
    server: server::Session,
    stream: StreamId,
    up: VecDeque<DeltaRequest>,
    down: VecDeque<DeltaResponse>,
    past: Vec<(StreamId, DeltaResponse)>,
    /// What the sidecar serves by.
    held: BTreeMap<ResourceName, Option<u8>>,
    refused: BTreeMap<ResourceName, u8>,
    /// What this stream said last of each name.
    said: BTreeMap<ResourceName, Option<u8>>,
}

fn name(n: u8) -> ResourceName {
    match n % 8 {
        0 => ResourceName::Workload,
        n @ 1..4 => ResourceName::Address(AddressKey::new([10, 0, 0, n].into(), 80)),
        n => ResourceName::Service(ServiceName::new("default", &format!("s{n}"))),
    }
}

fn encoded(value: u8) -> Encoded {
    Encoded::from_body(Bytes::copy_from_slice(&[value]))
}

fn decode(_: &ResourceName, body: &Bytes) -> Result<u8, DecodeError> {
    if body[0] < BAD { Ok(body[0]) } else { Err(DecodeError::invalid("bad").in_field("value")) }
}

impl Sim {
    fn new() -> Self {
        let mut client = client::Session::new(ClientInfo::default());
        let stream = client.connect();
        Self {
            history: vec![State::new()],
            replica: 0,
            client,
            server: server::Session::default(),
            stream,
            up: VecDeque::new(),
            down: VecDeque::new(),
            past: Vec::new(),
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Want(n) => self.client.want(name(n)),
            Op::Release(n) => self.release(&name(n)),
            Op::Change(n, value) => self.change(&name(n), value),
            Op::CatchUp => self.catch_up(),
            Op::Up { twice } => self.up(twice),
            Op::Down { twice } => self.down(twice),
            Op::Late(n) => self.late(n),
            Op::Progress => {
                let response = self.server.progress(self.as_of());
                self.say(response);
            }
            Op::Break { lag } => self.reconnect(lag),
        }
        self.pump();
    }

    fn as_of(&self) -> u64 {
        self.replica as u64 + 1
    }

    fn release(&mut self, name: &ResourceName) {
        self.client.release(name);
        self.held.remove(name);
        self.refused.remove(name);
    }

    fn change(&mut self, name: &ResourceName, value: Option<u8>) {
        let mut next = self.history.last().unwrap().clone();
        match value {
            Some(value) => next.insert(name.clone(), value),
            None => next.remove(name),
        };
        self.history.push(next);
        if self.replica + 2 == self.history.len() {
            self.replica += 1;
            self.server.mark(name);
        }
    }

    fn catch_up(&mut self) {
        self.replica = self.history.len() - 1;
        self.server.mark_all();
    }

    fn reconnect(&mut self, lag: u8) {
        self.replica = (self.history.len() - 1).saturating_sub(lag.into());
        self.past.extend(self.down.drain(..).map(|response| (self.stream, response)));
        self.up.clear();
        self.said.clear();
        self.client.disconnect();
        assert_eq!(self.client.next_request(), None);
        self.server = server::Session::default();
        self.stream = self.client.connect();
    }

    fn pump(&mut self) {
        self.up.extend(std::iter::from_fn(|| self.client.next_request()));
        loop {
            let world = &self.history[self.replica];
            let as_of = self.replica as u64 + 1;
            let response = self.server.next_response(as_of, |name| world.get(name).map(|v| encoded(*v)));
            if response.is_none() {
                break;
            }
            self.say(response);
        }
    }

    /// Sends a response, which must hold news only.
    fn say(&mut self, response: Option<DeltaResponse>) {
        let Some(response) = response else { return };
        let kind = crate::name::known_type(response.r#type).unwrap();
        let absent = response.removed.iter().map(|text| (text, None));
        for (text, value) in response.resources.iter().map(|r| (&r.name, Some(r.body[0]))).chain(absent) {
            let name = crate::name::parse(kind, text).unwrap();
            assert_ne!(self.said.insert(name, value), Some(value), "said twice");
        }
        self.down.push_back(response);
    }

    fn up(&mut self, twice: bool) {
        let Some(request) = self.up.pop_front() else { return };
        for _ in 0..=usize::from(twice) {
            let Change { unsubscribed, .. } = self.server.receive(request.clone()).unwrap();
            for name in unsubscribed {
                self.said.remove(&name);
            }
        }
    }

    fn down(&mut self, twice: bool) {
        let Some(response) = self.down.pop_front() else { return };
        self.past.push((self.stream, response.clone()));
        for _ in 0..=usize::from(twice) {
            self.deliver(self.stream, response.clone());
        }
    }

    fn late(&mut self, n: u8) {
        if let Some((stream, response)) = self.past.get(usize::from(n) % self.past.len().max(1)).cloned() {
            let before = self.held.clone();
            self.deliver(stream, response);
            assert_eq!(before, self.held, "a late message changed something");
        }
    }

    fn deliver(&mut self, stream: StreamId, response: DeltaResponse) {
        let (before, as_of) = (self.client.as_of(), response.as_of);
        for event in self.client.receive(stream, response, decode).unwrap() {
            assert!(as_of >= before, "went back from {before} to {as_of}");
            let world = &self.history[as_of as usize - 1];
            match event {
                Event::Set { name, value, .. } => {
                    assert_eq!(world.get(&name), Some(&value));
                    self.refused.remove(&name);
                    self.held.insert(name, Some(value));
                }
                Event::Absent { name } => {
                    assert_eq!(world.get(&name), None);
                    self.refused.remove(&name);
                    self.held.insert(name, None);
                }
                Event::Refused { name, .. } => {
                    self.refused.insert(name.clone(), world[&name]);
                }
            }
        }
    }

    /// Everything arrives, from a replica that knows all.
    fn settle(&mut self) {
        self.catch_up();
        self.pump();
        while !self.up.is_empty() || !self.down.is_empty() {
            self.up(false);
            self.down(false);
            self.pump();
        }
    }

    fn check(&self) {
        let world = self.history.last().unwrap();
        let mut subscribed: Vec<_> = self.server.names().map(|(name, ..)| name.clone()).collect();
        subscribed.sort();
        assert_eq!(subscribed, self.client.wanted().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        for (name, _, status) in self.server.names() {
            let value = world.get(name).copied();
            if value.is_some_and(|value| value >= BAD) {
                assert_eq!(self.refused.get(name), value.as_ref());
                assert_eq!(status, &Status::Refused { path: "value".into(), reason: "bad".into() });
            } else {
                assert_eq!(self.held.get(name), Some(&value));
                assert_eq!(self.refused.get(name), None);
                assert_eq!(status, &Status::Programmed);
                assert!(self.client.is_answered(name));
            }
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any::<u8>().prop_map(Op::Want),
        2 => any::<u8>().prop_map(Op::Release),
        4 => (any::<u8>(), prop::option::weighted(0.8, any::<u8>())).prop_map(|(n, v)| Op::Change(n, v.map(|v| v / 50 * 50))),
        1 => Just(Op::CatchUp),
        8 => prop::bool::weighted(0.1).prop_map(|twice| Op::Up { twice }),
        8 => prop::bool::weighted(0.1).prop_map(|twice| Op::Down { twice }),
        1 => any::<u8>().prop_map(Op::Late),
        1 => Just(Op::Progress),
        1 => (0..4u8).prop_map(|lag| Op::Break { lag }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn f10_f11_both_ends_agree_after_anything(ops in prop::collection::vec(op(), 0..120)) {
        let mut sim = Sim::new();
        for op in &ops {
            sim.run(op);
        }
        sim.settle();
        sim.check();
        sim.reconnect(0);
        sim.settle();
        sim.check();
        prop_assert!(sim.down.is_empty());
    }
}

fn responses(server: &mut server::Session, as_of: u64, value: Option<u8>) -> Vec<DeltaResponse> {
    std::iter::from_fn(|| server.next_response(as_of, |_| value.map(encoded))).collect()
}

fn connected(names: &[u8]) -> (client::Session, server::Session, StreamId) {
    let mut client = client::Session::new(ClientInfo { version: "1".into(), features: Vec::new() });
    names.iter().for_each(|n| client.want(name(*n)));
    let stream = client.connect();
    let mut server = server::Session::default();
    while let Some(request) = client.next_request() {
        server.receive(request).unwrap();
    }
    (client, server, stream)
}

#[test]
fn f10_a_controller_that_does_not_know_the_world_says_nothing() {
    let (mut client, mut server, stream) = connected(&[0]);
    assert_eq!(server.info().unwrap().version, "1");
    assert_eq!(responses(&mut server, 0, None), []);
    let empty =
        DeltaResponse { r#type: 1, nonce: 1, removed: vec!["self".into()], ..DeltaResponse::default() };
    assert_eq!(client.receive(stream, empty, decode), Err(ProtocolError::Stale { held: 0, got: 0 }));
    assert!(!client.is_answered(&name(0)));
    assert_eq!(responses(&mut server, 5, Some(1)).len(), 1);
}

#[test]
fn f11_a_replica_that_is_behind_waits_and_one_that_does_not_is_dropped() {
    let version = encoded(1).version().clone();
    let mut client = client::Session::resume(ClientInfo::default(), 7, [(name(0), version)]);
    let stream = client.connect();
    let mut server = server::Session::default();
    server.receive(client.next_request().unwrap()).unwrap();
    assert!(server.lags(6));
    assert_eq!(responses(&mut server, 6, Some(2)), []);
    assert_eq!(responses(&mut server, 7, Some(1)), [], "what is held is not sent again");
    assert_eq!(server.names().next().unwrap().2, &Status::Programmed);
    let old = DeltaResponse { r#type: 1, nonce: 1, as_of: 6, ..DeltaResponse::default() };
    assert_eq!(client.receive(stream, old, decode), Err(ProtocolError::Stale { held: 7, got: 6 }));
}

#[test]
fn f7_one_bad_resource_is_refused_alone() {
    let (mut client, mut server, stream) = connected(&[4, 5]);
    let bad = name(5);
    let response = server.next_response(1, |name| Some(encoded(if *name == bad { BAD } else { 1 }))).unwrap();
    let events = client.receive(stream, response, decode).unwrap();
    assert!(matches!(&events[0], Event::Set { name: n, .. } if *n == name(4)));
    assert!(matches!(&events[1], Event::Refused { name, .. } if *name == bad));
    let change = server.receive(client.next_request().unwrap()).unwrap();
    assert!(change.answered);
    assert_eq!((&change.refused[0].name, &*change.refused[0].path), (&bad, "value"));
    server.mark(&bad);
    assert_eq!(
        server.next_response(2, |_| Some(encoded(BAD))),
        None,
        "it is not sent again until it changes"
    );
    let (_, _, status) = server.names().find(|(name, ..)| **name == bad).unwrap();
    assert_eq!(status, &Status::Refused { path: "value".into(), reason: "bad".into() });
}

#[test]
fn a_refusal_is_lifted_when_the_controller_goes_back_to_what_is_held_while_the_stream_is_down() {
    let (mut client, mut server, stream) = connected(&[0]);
    let mut step = |server: &mut server::Session, stream, as_of, value| {
        let events = responses(server, as_of, Some(value))
            .into_iter()
            .flat_map(|response| client.receive(stream, response, decode).unwrap());
        let events: Vec<_> = events.collect();
        while let Some(request) = client.next_request() {
            server.receive(request).unwrap();
        }
        server.mark_all();
        events
    };
    step(&mut server, stream, 1, 1);
    assert!(matches!(step(&mut server, stream, 2, BAD)[..], [Event::Refused { .. }]));
    let stream = client.connect();
    let mut server = server::Session::default();
    server.receive(client.next_request().unwrap()).unwrap();
    let response = responses(&mut server, 3, Some(1)).remove(0);
    assert!(matches!(client.receive(stream, response, decode).unwrap()[..], [Event::Set { value: 1, .. }]));
}

#[test]
fn f9_garbage_is_an_error_and_no_more() {
    let (mut client, mut server, stream) = connected(&[0]);
    let response = |kind, nonce| DeltaResponse { r#type: kind, nonce, as_of: 1, ..DeltaResponse::default() };
    assert_eq!(client.receive(stream, response(9, 1), decode), Err(ProtocolError::Type(9)));
    assert_eq!(client.receive(stream, response(1, 0), decode), Err(ProtocolError::Nonce));
    let mut forged = responses(&mut server, 1, Some(1)).remove(0);
    forged.resources[0].version = "0".into();
    assert!(matches!(client.receive(stream, forged, decode).unwrap()[..], [Event::Refused { .. }]));
    let request = |kind, subscribe| DeltaRequest { r#type: kind, subscribe, ..DeltaRequest::default() };
    assert!(server.receive(request(0, vec![])).is_err());
    assert!(server.receive(request(3, vec!["x".into()])).is_err());
    assert!(server.receive(request(2, vec!["x".into(); 5_000])).is_err());
}

#[test]
fn what_a_newer_sidecar_asks_for_is_said_to_be_nothing_and_all_else_is_served() {
    let (_, mut server, _) = connected(&[0]);
    let ask = |kind, subscribe: &[&str]| DeltaRequest {
        r#type: kind,
        subscribe: subscribe.iter().map(ToString::to_string).collect(),
        ..DeltaRequest::default()
    };
    server.receive(ask(9, &["x", "y"])).unwrap();
    server.receive(ask(7, &["z"])).unwrap();
    let said = responses(&mut server, 1, Some(1));
    assert!(said.iter().map(|it| it.nonce).eq(1..=3), "{said:?}");
    assert_eq!(said[0].resources.len(), 1, "what is known comes first");
    let nothing: Vec<_> =
        said[1..].iter().map(|it| (it.r#type, it.removed.concat(), it.resources.len())).collect();
    assert_eq!(nothing, [(7, "z".to_owned(), 0), (9, "xy".to_owned(), 0)]);
    server.receive(DeltaRequest { response_nonce: 3, ..ask(9, &[]) }).unwrap();
    assert!(responses(&mut server, 1, Some(1)).is_empty(), "once");
    let long = "x".repeat(300 << 10);
    assert!((0..4).any(|_| server.receive(ask(9, &[&long])).is_err()), "what is not taken does not pile up");
    assert!(server.receive(ask(-1, &["x"])).is_err());
}

#[test]
fn a_large_answer_comes_in_parts_and_each_is_awaited() {
    let (mut client, mut server, stream) = connected(&[4, 5, 6]);
    let large = Encoded::from_body(vec![1; 300 << 10].into());
    let mut sizes = Vec::new();
    while let Some(response) = server.next_response(1, |_| Some(large.clone())) {
        assert_eq!(server.next_response(1, |_| Some(large.clone())), None);
        sizes.push(response.resources.len());
        client.receive(stream, response, decode).unwrap();
        assert!(server.receive(client.next_request().unwrap()).unwrap().answered);
    }
    assert_eq!(sizes, [2, 1]);
}

#[test]
fn what_is_too_large_is_said_to_be_refused_and_not_sent() {
    let (_, mut server, _) = connected(&[4]);
    let huge = Encoded::from_body(vec![1; 4 << 20].into());
    assert_eq!(server.next_response(1, |_| Some(huge.clone())), None);
    assert!(matches!(server.names().next().unwrap().2, Status::Refused { .. }));
}
