//! A sidecar's end of the configuration stream: asks for addresses, then for the services that they mean, then for their
//! endpoints, and answers everything, as a sidecar with traffic does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use weft_api::decode;
use weft_api::pb::config::config_service_client::ConfigServiceClient;
use weft_api::pb::config::{ClientInfo, DeltaRequest};
use weft_api::resource::Resource;
use weft_api::session::client::{Event, Session};
use weft_core::model::address::Meaning;
use weft_core::model::name::{AddressKey, ResourceName, SliceName};

use crate::wire::Trust;

/// That a sidecar has everything it asked for at first, or that it has answered something later.
pub(crate) struct Heard {
    /// When the answer was on its way.
    pub(crate) at: Instant,
}

/// A sidecar.
pub(crate) struct Sidecar {
    number: usize,
    received: Arc<AtomicU64>,
}

impl Sidecar {
    /// Connects and follows, and tells `heard` of it: once when all is configured, then of every response that says
    /// anything.
    pub(crate) fn begin(
        number: usize,
        trust: Trust,
        token: String,
        addresses: Vec<SocketAddr>,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> Arc<Self> {
        let sidecar = Arc::new(Self { number, received: Arc::default() });
        let this = sidecar.clone();
        tokio::spawn(async move {
            let told = heard.clone();
            let ended = this.run(trust, token, addresses, heard).await;
            // At the end nobody listens any more.
            if let Err(error) = ended
                && !told.is_closed()
            {
                crate::note(&format!("sidecar {}: {error:#}", this.number));
            }
        });
        sidecar
    }

    /// Bytes that have come from the controller, with all of TLS.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    async fn run(
        &self,
        trust: Trust,
        token: String,
        addresses: Vec<SocketAddr>,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> Result<()> {
        let channel = trust.connect(self.received.clone()).await?;
        let (requests, receiver) = mpsc::channel::<DeltaRequest>(64);
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let mut session = Session::new(ClientInfo { version: "bench".into(), features: Vec::new() });
        let stream = session.connect();
        session.want(ResourceName::Workload);
        for address in addresses {
            session.want(ResourceName::Address(AddressKey::new(address.ip(), address.port())));
        }
        send(&mut session, &requests).await?;
        let mut responses = ConfigServiceClient::new(channel).stream(request).await?.into_inner();
        let mut configured = false;
        while let Some(response) = responses.message().await? {
            let events = session.receive(stream, response, |name, body| decode::resource(name, body))?;
            let news = !events.is_empty();
            for event in events {
                follow(&mut session, event);
            }
            send(&mut session, &requests).await?;
            let complete = session.wanted().all(|(name, _)| session.is_answered(name));
            if complete && (news || !configured) {
                configured = true;
                heard.send(Heard { at: Instant::now() })?;
            }
        }
        Ok(())
    }
}

/// Asks for what something leads to.
fn follow(session: &mut Session, event: Event<Resource>) {
    let Event::Set { name, value, .. } = event else { return };
    match (name, value) {
        (ResourceName::Address(_), Resource::Address(address)) => {
            if let Meaning::Service(target) = &address.meaning {
                session.want(ResourceName::Service(target.service.clone()));
            }
        }
        (ResourceName::Service(service), Resource::Service(value)) => {
            for slice in 0..value.slices {
                session.want(ResourceName::Endpoints(SliceName { service: service.clone(), slice }));
            }
        }
        _ => {}
    }
}

async fn send(session: &mut Session, requests: &mpsc::Sender<DeltaRequest>) -> Result<()> {
    while let Some(request) = session.next_request() {
        requests.send(request).await?;
    }
    Ok(())
}
