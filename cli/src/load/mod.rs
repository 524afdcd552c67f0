//! A load generator: so many connections, each asking again as soon as it has its answer, on one thread.
//!
//! It counts what samples, tests and the tour want to know: statuses, which version and pod answered, the reasons of
//! answers that a sidecar made, failures, latencies, connections. It never asks twice for a request that may have been
//! sent: what a client sees is what it counts.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::load::client::{Connection, Failure, Template};
use crate::load::tally::{Summary, Tally};
use crate::output::Format;
use crate::{output, units};

/// Times in buckets.
pub mod histogram;
/// What is counted.
pub mod tally;
/// One connection.
pub mod client;

/// Pause before a connection is tried again after a failure.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Flags of `weft load`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to, as http://HOST/PATH; only http is known here
    pub url: Uri,
    /// Connections, each with one request at a time
    #[arg(short, long, default_value_t = 1)]
    pub connections: u32,
    /// Requests in all
    #[arg(short = 'n', long, conflicts_with = "duration")]
    pub requests: Option<u64>,
    /// Time for which to ask; 10s when neither this nor a number of requests is given
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Header of every request, `NAME: VALUE`
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Method of every request
    #[arg(short = 'X', long, default_value = "GET")]
    pub method: Method,
    /// Bytes of every request's body
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = units::bytes)]
    pub body: u64,
    /// Requests a second, over all connections; as many as go when not given
    #[arg(long)]
    pub rate: Option<f64>,
    /// Longest time for one request
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = units::duration)]
    pub timeout: Duration,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1
    #[arg(long)]
    pub http2: bool,
    /// Print the counts so far as a line of JSON in this interval
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub report: Option<Duration>,
    /// How to print the result
    #[arg(short, long, default_value = "text")]
    pub output: Format,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    let name = name.trim().parse().map_err(|e| format!("{name}: {e}"))?;
    Ok((name, value.trim().parse().map_err(|e| format!("{value}: {e}"))?))
}

/// Runs the load, prints the result.
///
/// # Errors
/// When the URL cannot be used.
pub fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = LocalSet::new().block_on(&runtime, watched(args))?;
    match (args.output, args.report) {
        (Format::Text, None) => output::line(summary.text()),
        _ => output::json(&summary),
    }
    Ok(())
}

/// The load, with reports or a progress line on the way. SIGINT and SIGTERM end it early.
async fn watched(args: &Args) -> Result<Summary> {
    let run = Run::start(args).await?;
    let progress = args.report.is_none() && std::io::stderr().is_terminal();
    let interval = args.report.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval_at(run.started + interval, interval);
    let ended = run.ended();
    tokio::pin!(ended);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            () = &mut ended => break,
            _ = interrupt.recv() => run.stop(),
            _ = terminate.recv() => run.stop(),
            _ = ticks.tick() => match args.report {
                Some(_) => output::json(&run.summary(false)),
                None if progress => eprint!("\r{}", progress_line(&run.summary(false))),
                None => {}
            },
        }
    }
    if progress {
        eprintln!();
    }
    Ok(run.summary(true))
}

fn progress_line(summary: &Summary) -> String {
    let seconds = summary.elapsed_ms as f64 / 1000.0;
    format!("{seconds:>5.0} s  {} requests, {} failed  ", summary.requests, summary.failed())
}

/// A load that runs.
#[derive(Debug)]
pub struct Run {
    shared: Rc<Shared>,
    started: Instant,
    workers: RefCell<Vec<tokio::task::JoinHandle<()>>>,
}

/// For how long requests that were not sent in time are sent later.
const MADE_UP: Duration = Duration::from_secs(1);

/// What the connections share.
#[derive(Debug)]
struct Shared {
    template: Template,
    to: SocketAddr,
    tally: RefCell<Tally>,
    left: Cell<u64>,
    until: Option<Instant>,
    /// Time between two requests.
    gap: Duration,
    next: Cell<Instant>,
}

impl Run {
    /// Starts the load. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// When the URL cannot be used or its host has no address.
    pub async fn start(args: &Args) -> Result<Self> {
        let to = resolve(&args.url).await?;
        let started = Instant::now();
        let timed = args.duration.or(args.requests.is_none().then_some(Duration::from_secs(10)));
        let gap = args
            .rate
            .filter(|rate| *rate > 0.0)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        let shared = Rc::new(Shared {
            template: template(args)?,
            to,
            tally: RefCell::default(),
            left: Cell::new(args.requests.unwrap_or(u64::MAX)),
            until: timed.map(|time| started + time),
            gap,
            next: Cell::new(started),
        });
        let worker = |_| tokio::task::spawn_local(work(Rc::clone(&shared)));
        let workers = RefCell::new((0..args.connections.max(1)).map(worker).collect());
        Ok(Self { shared, started, workers })
    }

    /// The counts so far.
    pub fn summary(&self, done: bool) -> Summary {
        self.shared.tally.borrow().summary(self.started.elapsed(), done)
    }

    /// Begins no further request; those that are under way are finished.
    pub fn stop(&self) {
        self.shared.left.set(0);
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        let workers = self.workers.take();
        futures_util::future::join_all(workers).await;
    }
}

fn template(args: &Args) -> Result<Template> {
    if args.url.scheme_str() != Some("http") {
        bail!("{}: only http://HOST[:PORT]/PATH is known here", args.url);
    }
    let size = usize::try_from(args.body).context("--body is too large")?;
    Ok(Template {
        uri: args.url.clone(),
        method: args.method.clone(),
        headers: args.headers.iter().cloned().collect::<HeaderMap>(),
        body: Bytes::from(vec![b'.'; size]),
        http2: args.http2,
        timeout: args.timeout,
    })
}

async fn resolve(url: &Uri) -> Result<SocketAddr> {
    let host = url.host().with_context(|| format!("{url}: has no host"))?.trim_matches(['[', ']']);
    let mut found = tokio::net::lookup_host((host, url.port_u16().unwrap_or(80))).await;
    let first = found.as_mut().ok().and_then(Iterator::next);
    first.with_context(|| format!("{host}: has no address"))
}

/// One connection's life, over as many connections as it takes.
async fn work(shared: Rc<Shared>) {
    let mut connection = None;
    while shared.turn().await {
        let began = Instant::now();
        let asked = tokio::time::timeout(shared.template.timeout, shared.ask(&mut connection)).await;
        match asked.unwrap_or(Err("timeout")) {
            Ok((status, headers)) => shared.tally.borrow_mut().answer(status, &headers, began.elapsed()),
            Err(kind) => {
                connection = None;
                shared.tally.borrow_mut().error(kind);
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Waits until one more request may go; false when there shall be none.
    async fn turn(&self) -> bool {
        if !self.gap.is_zero() {
            // Who is late makes up for it, but not for a standstill.
            let now = Instant::now();
            let slot = self.next.get().max(now.checked_sub(MADE_UP).unwrap_or(now));
            self.next.set(slot + self.gap);
            tokio::time::sleep_until(slot).await;
        }
        let over = self.left.get() == 0 || self.until.is_some_and(|until| Instant::now() >= until);
        if !over {
            self.left.set(self.left.get() - 1);
        }
        !over
    }

    /// One request, over the connection there is or a new one.
    async fn ask(&self, kept: &mut Option<Connection>) -> Result<(u16, HeaderMap), &'static str> {
        loop {
            let (mut connection, fresh) = match kept.take() {
                Some(open) => (open, false),
                None => (self.connect().await?, true),
            };
            match connection.ask(&self.template).await {
                Ok(answer) => {
                    *kept = Some(connection).filter(|c| !self.seen_closed(c));
                    return Ok(answer);
                }
                Err(Failure::Unsent) => {
                    self.tally.borrow_mut().closed();
                    if fresh {
                        return Err("closed");
                    }
                }
                Err(Failure::Kind(kind)) => {
                    self.seen_closed(&connection);
                    return Err(kind);
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, &'static str> {
        let connection = client::connect(self.to, self.template.http2).await?;
        self.tally.borrow_mut().opened();
        Ok(connection)
    }

    fn seen_closed(&self, connection: &Connection) -> bool {
        let closed = connection.is_closed();
        if closed {
            self.tally.borrow_mut().closed();
        }
        closed
    }
}
