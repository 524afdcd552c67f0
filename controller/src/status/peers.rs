//! What the other replicas count: each tells its tallies at `/programmed`, and the leader adds them up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
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

/// Where a replica tells its tallies.
pub const PATH: &str = "/programmed";
/// How long a replica may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long what a replica said counts when it says nothing more.
const REMEMBERED: Duration = Duration::from_secs(15);
/// The longest answer, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// The other replicas of this control plane.
#[derive(Debug)]
pub struct Peers {
    /// Their Service.
    service: ObjectName,
    /// The port of their admin endpoint.
    port: u16,
    /// The pod of this replica.
    me: ObjectName,
    said: BTreeMap<IpAddr, (Tallies, Instant)>,
}

impl Peers {
    /// The replicas behind a Service, without this one.
    pub fn new(service: ObjectName, port: u16, me: ObjectName) -> Self {
        Self { service, port, me, said: BTreeMap::new() }
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
        let namespace = self.service.namespace.clone();
        let first = ObjectName { namespace: namespace.clone(), name: "".into() };
        let slices = world.slices.range(first..).take_while(|(name, _)| name.namespace == namespace);
        let ours = slices.map(|(_, slice)| slice).filter(|slice| slice.service == self.service);
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
    use super::*;

    fn peers() -> Peers {
        let name = |name: &str| ObjectName { namespace: "weft-system".into(), name: name.into() };
        Peers::new(name("weft-controller"), 15014, name("me"))
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
}
