//! What the other replicas count: each tells its tallies at `/programmed`, and the leader adds them up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use weft_core::model::name::ObjectName;

use super::tally::{Tallies, Tally};
use crate::source::object::ObjectId;
use crate::world::World;

/// The Service of the default revision; others have their revision behind it and a `-`.
pub const SERVICE: &str = "weft-controller";
/// Where a replica tells its tallies.
pub const PATH: &str = "/programmed";
/// How long a replica may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long what a replica said counts when it says nothing more.
const REMEMBERED: Duration = Duration::from_secs(15);
/// The longest answer, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// The other replicas of this control plane, those of other revisions too.
#[derive(Debug)]
pub struct Peers {
    /// The namespace of the control plane.
    namespace: Arc<str>,
    /// The port of their admin endpoint.
    port: u16,
    /// The pod of this replica.
    me: ObjectName,
    said: BTreeMap<IpAddr, (Tallies, Instant)>,
}

impl Peers {
    /// The replicas behind the Services of all revisions in a namespace, without this one.
    pub fn new(namespace: Arc<str>, port: u16, me: ObjectName) -> Self {
        Self { namespace, port, me, said: BTreeMap::new() }
    }

    /// Asks all of them; whether any says something new.
    pub async fn ask(&mut self, world: &World) -> bool {
        let others = self.others(world);
        let port = self.port;
        let answers = join_all(others.iter().map(|ip| ask(SocketAddr::new(*ip, port)))).await;
        let now = Instant::now();
        self.take(others.into_iter().zip(answers), now)
    }

    /// What all of them count.
    pub fn add_to(&self, sum: &mut Tallies) {
        for (object, tally) in self.said.values().flat_map(|(tallies, _)| tallies) {
            sum.entry(object.clone()).or_default().add(tally);
        }
    }

    fn others(&self, world: &World) -> Vec<IpAddr> {
        let first = ObjectName { namespace: self.namespace.clone(), name: "".into() };
        let slices = world.slices.range(first..).take_while(|(name, _)| name.namespace == self.namespace);
        let ours = slices.map(|(_, slice)| slice).filter(|slice| is_ours(&slice.service.name));
        let endpoints = ours.flat_map(|slice| &slice.endpoints);
        let mut all: Vec<_> =
            endpoints.filter(|it| it.pod.as_ref() != Some(&self.me)).map(|it| it.ip).collect();
        all.sort();
        all.dedup();
        all
    }

    fn take(&mut self, answers: impl Iterator<Item = (IpAddr, Result<Tallies>)>, now: Instant) -> bool {
        let mut kept = BTreeMap::new();
        let mut news = false;
        for (ip, answer) in answers {
            let before = self.said.remove(&ip);
            match (answer, before) {
                (Ok(tallies), before) => {
                    news |= before.is_none_or(|(known, _)| known != tallies);
                    kept.insert(ip, (tallies, now));
                }
                (Err(error), before) => {
                    tracing::debug!("replica {ip}: {error:#}");
                    match before.filter(|(_, at)| now < *at + REMEMBERED) {
                        Some(before) => drop(kept.insert(ip, before)),
                        None => news = true,
                    }
                }
            }
        }
        news |= !self.said.is_empty();
        self.said = kept;
        news
    }
}

fn is_ours(service: &str) -> bool {
    service.strip_prefix(SERVICE).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

async fn ask(address: SocketAddr) -> Result<Tallies> {
    timeout(TIMEOUT, fetch(address)).await.context("no answer in time")?
}

async fn fetch(address: SocketAddr) -> Result<Tallies> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let serving = tokio::spawn(connection);
    let request = Request::get(PATH).header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == StatusCode::OK, "status {}", response.status());
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    serving.abort();
    let read: Vec<(ObjectId, Tally)> = serde_json::from_slice(&body)?;
    Ok(read.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::object::Object;
    use crate::source::yaml;
    use crate::validate::validate;

    fn peers() -> Peers {
        let me = ObjectName { namespace: "weft-system".into(), name: "me".into() };
        Peers::new("weft-system".into(), 15014, me)
    }

    fn tallies(total: u32) -> Tallies {
        let [group, kind, namespace, name] = ["g", "VirtualService", "default", "web"].map(Into::into);
        let tally = Tally { programmed: 1, total, refusal: None };
        BTreeMap::from([(ObjectId { group, kind, namespace, name }, tally)])
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn sum(peers: &Peers) -> u32 {
        let mut all = tallies(1);
        peers.add_to(&mut all);
        all.values().next().unwrap().total
    }

    #[test]
    fn replicas_add_up_and_one_that_is_silent_counts_for_a_while() {
        let (mut peers, now) = (peers(), Instant::now());
        let silent = || Err(anyhow::anyhow!("silent"));
        assert!(peers.take([(ip(1), Ok(tallies(2))), (ip(2), Ok(tallies(4)))].into_iter(), now));
        assert_eq!(sum(&peers), 7);
        assert!(!peers.take([(ip(1), Ok(tallies(2))), (ip(2), silent())].into_iter(), now));
        assert_eq!(sum(&peers), 7);
        let later = now + REMEMBERED;
        assert!(peers.take([(ip(1), Ok(tallies(2))), (ip(2), silent())].into_iter(), later));
        assert_eq!(sum(&peers), 3);
        assert!(peers.take([(ip(1), Ok(tallies(3)))].into_iter(), later));
        assert!(peers.take(std::iter::empty(), later), "it is gone");
        assert_eq!(sum(&peers), 1);
    }
    #[test]
    fn replicas_of_all_revisions_are_asked() {
        let slice = |name: &str, service: &str, ip: &str, pod: &str| {
            format!(
                "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: weft-system, \
                 labels: {{kubernetes.io/service-name: {service}}}}}, addressType: IPv4, endpoints: [{{addresses: [{ip}], \
                 targetRef: {{kind: Pod, namespace: weft-system, name: {pod}}}}}]}}\n---\n"
            )
        };
        let text = [
            slice("a", "weft-controller", "10.0.0.1", "me"),
            slice("b", "weft-controller", "10.0.0.2", "other"),
            slice("c", "weft-controller-canary", "10.0.0.3", "canary"),
            slice("d", "weft-controllers", "10.0.0.4", "stranger"),
        ];
        let mut world = World::default();
        let path = Arc::from(Path::new("world.yaml"));
        for document in yaml::parse(&text.concat()).unwrap() {
            for object in Object::of_document(&path, document).unwrap() {
                validate(&object).fragment.map(|fragment| world.apply(fragment));
            }
        }
        assert_eq!(peers().others(&world), [ip(2), ip(3)]);
    }

    #[test]
    fn what_a_replica_of_another_version_says_more_is_not_minded() {
        let newer = r#"[[{"group":"g","kind":"VirtualService","namespace":"default","name":"web","more":1},
            {"programmed":1,"total":2,"waiting":1}]]"#;
        let read: Vec<(ObjectId, Tally)> = serde_json::from_str(newer).unwrap();
        assert_eq!(read.into_iter().collect::<Tallies>(), tallies(2));
    }
}
