//! What a connection carries, told from its first bytes; the waiting around `weft_core::detect`.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use weft_core::detect::sniff::Detected;
use weft_core::detect::{Detection, Rules, Step};
use weft_core::reason::Reason;

use crate::downstream::Stop;
use crate::io::Io;
use crate::tls::HANDSHAKE_TIMEOUT;

/// The first byte of a TLS record that can hold a ClientHello.
const HANDSHAKE_RECORD: u8 = 22;

/// A connection that was dialled before it was known what the client sends.
pub trait Dialled {
    /// The connection.
    fn io(&mut self) -> &mut Io;
}

/// What happened while waiting.
enum Event<U> {
    Client(std::io::Result<usize>),
    Server,
    Dialled(Result<U, Stop>),
    Silence(Duration),
    Late,
}

/// A connection being dialled, or standing.
enum Upstream<'d, U> {
    None,
    Dialling(Pin<Box<dyn Future<Output = Result<U, Stop>> + 'd>>),
    Up(U),
}

/// Looks at the first bytes of `client`, which stay to be read. Where the client is silent `dial` is called, and
/// whichever side speaks first decides; what was dialled is given back with the verdict.
///
/// # Errors
/// The client was gone; or `dial` failed; or the ClientHello that began, or that must come, did not come in time.
pub async fn detect<'d, U, D>(
    client: &mut Io,
    rules: Rules,
    dial: impl FnOnce() -> D,
) -> Result<(Detected, Option<U>), Stop>
where
    U: Dialled,
    D: Future<Output = Result<U, Stop>> + 'd,
{
    let mut dial = Some(dial);
    let mut upstream = Upstream::None;
    let mut detection = Detection::new(rules);
    let mut hello = HelloTimer::new(rules);
    let mut step = match client.seen() {
        [] => detection.start(),
        seen => detection.client(seen),
    };
    loop {
        let patience = match step {
            // What was dialled carries opaque bytes; requests find connections of their own.
            Step::Decided(http @ (Detected::Http1 | Detected::Http2)) => return Ok((http, None)),
            Step::Decided(detected) => return Ok((detected, upstream.up().await?)),
            Step::Wait(patience) => patience,
            Step::Dial => {
                upstream = Upstream::dialling(dial.take());
                None
            }
        };
        step = match wait(client, &mut upstream, patience, hello.until(client.seen())).await {
            Event::Client(Ok(0)) => detection.client_end(client.seen()),
            Event::Client(Ok(_)) => detection.client(client.seen()),
            Event::Client(Err(_)) => return Err(Stop::ClientGone),
            Event::Silence(quiet) => detection.silence(quiet),
            Event::Server => detection.server(),
            Event::Late => return Err(Reason::TlsHandshake.into()),
            Event::Dialled(dialled) => {
                upstream = Upstream::Up(dialled?);
                Step::Wait(None)
            }
        };
    }
}

async fn wait<U: Dialled>(
    client: &mut Io,
    upstream: &mut Upstream<'_, U>,
    patience: Option<Duration>,
    late: Option<Instant>,
) -> Event<U> {
    tokio::select! {
        biased;
        came = client.see_more() => Event::Client(came),
        event = upstream.event() => event,
        () = sleep(patience.map(|quiet| Instant::now() + quiet)) => Event::Silence(patience.unwrap_or_default()),
        () = sleep(late) => Event::Late,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl<'d, U: Dialled> Upstream<'d, U> {
    fn dialling<D>(dial: Option<impl FnOnce() -> D>) -> Self
    where
        D: Future<Output = Result<U, Stop>> + 'd,
    {
        dial.map_or(Self::None, |dial| Self::Dialling(Box::pin(dial())))
    }

    /// What the upstream does: stands, speaks, or closes.
    async fn event(&mut self) -> Event<U> {
        match self {
            Self::None => std::future::pending().await,
            Self::Dialling(dialling) => Event::Dialled(dialling.await),
            Self::Up(upstream) => {
                // An end or an error of the upstream is passed on by the relay, like its bytes.
                let _ = upstream.io().see_more().await;
                Event::Server
            }
        }
    }

    /// The connection, once it stands; none where none was dialled.
    async fn up(self) -> Result<Option<U>, Stop> {
        match self {
            Self::None => Ok(None),
            Self::Dialling(dialling) => dialling.await.map(Some),
            Self::Up(upstream) => Ok(Some(upstream)),
        }
    }
}

/// Bounds the time until a ClientHello is whole: where it must come, from the start; where it may, from its first
/// byte (hardening D10).
struct HelloTimer {
    rules: Rules,
    until: Option<Instant>,
}

impl HelloTimer {
    fn new(rules: Rules) -> Self {
        let due = rules.tls && !rules.may_dial;
        Self { rules, until: due.then(|| Instant::now() + HANDSHAKE_TIMEOUT) }
    }

    fn until(&mut self, seen: &[u8]) -> Option<Instant> {
        if self.until.is_none() && self.rules.tls && seen.first() == Some(&HANDSHAKE_RECORD) {
            self.until = Some(Instant::now() + HANDSHAKE_TIMEOUT);
        }
        self.until
    }
}
