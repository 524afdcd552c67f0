//! What it costs to be watched: a tap at 10,000 requests a second, and a scrape of a sidecar that knows 200 destinations.
//!
//!     cargo run --release -p weft-proxy --example watching
//!
//! CPU time is that of the threads that a sidecar has: the worker that serves, and the one that formats and writes. The
//! client that reads is left out.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_core::identity::SpiffeId;
use weft_core::model::metadata::WorkloadMetadata;
use weft_core::model::telemetry::Sides;
use weft_proxy::clock::Clock;
use weft_proxy::settings::AccessLogFormat;
use weft_proxy::telemetry::tap::Filter;
use weft_proxy::telemetry::{
    AccessEntry, Logs, Outcome, PeerRef, Reporter, RequestRecord, Scope, ScopeRef, Security, ServiceLabels,
    Telemetry, Text, WorkerTelemetry,
};
use weft_proxy::web::{self, Answer, Answers, Question};

/// How long each case is measured.
const TIME: Duration = Duration::from_secs(5);
/// Requests a second.
const RATE: u32 = 10_000;
/// Destinations that the scraped sidecar knows.
const DESTINATIONS: usize = 200;

fn main() {
    let telemetry = Telemetry::new(AccessLogFormat::Off, Clock::system());
    let (address, usage) = serve(telemetry.clone());
    let worker = telemetry.worker(0);
    let scope = scope(&worker, 0);
    unwatched(&telemetry, &worker, &scope);
    let idle = paced(&telemetry, &worker, &scope).0;
    for (what, query) in [
        ("all requests", ""),
        ("those of a path that few have", "path=/other"),
        ("failures, of which there are none", "status=5xx"),
    ] {
        let reader = read(address, query);
        let before = usage();
        let (worked, shown) = paced(&telemetry, &worker, &scope);
        let written = usage() - before;
        let cost = (worked.saturating_sub(idle) + written).as_secs_f64() / TIME.as_secs_f64();
        say(format_args!("tap of {what}: {:.2} % of a core at {shown} requests/s", cost * 100.0));
        drop(reader);
        std::thread::sleep(Duration::from_millis(300));
    }
    scraped();
}

/// A line of the report; nobody is there to hear of a closed pipe.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One after the other, as fast as it goes, while nobody watches.
fn unwatched(telemetry: &Telemetry, worker: &WorkerTelemetry, scope: &Rc<Scope>) {
    const MANY: u32 = 1_000_000;
    let before = own();
    (0..MANY).for_each(|_| request(telemetry, worker, scope));
    let each = (own() - before).as_nanos() / u128::from(MANY);
    let before = own();
    let wanted = (0..MANY).filter(|_| std::hint::black_box(telemetry).taps.want("GET", "/api/x")).count();
    let looks = (own() - before).as_nanos() as f64 / f64::from(MANY);
    say(format_args!(
        "nobody watches: {each} ns to record a request, of which {looks:.1} ns for looking ({wanted} wanted)"
    ));
}

/// At a steady rate; the CPU time that it took, and the rate.
fn paced(telemetry: &Telemetry, worker: &WorkerTelemetry, scope: &Rc<Scope>) -> (Duration, u64) {
    let (began, before) = (Instant::now(), own());
    let mut sent = 0;
    while began.elapsed() < TIME {
        let due = (began.elapsed().as_secs_f64() * f64::from(RATE)) as u64;
        while sent < due {
            request(telemetry, worker, scope);
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (own() - before, sent / TIME.as_secs())
}

/// What a worker does to record one request.
fn request(telemetry: &Telemetry, worker: &WorkerTelemetry, scope: &Rc<Scope>) {
    let mut record = RequestRecord::begin(tokio::time::Instant::now());
    record.tapped = telemetry.taps.want("GET", "/api/orders/4711?expand=lines");
    record.scope = Some(Rc::clone(scope));
    if record.tapped {
        record.log = Some(Box::new(entry()));
    }
    record.outcome = Outcome { status: 200, ..Outcome::default() };
    (record.request_bytes, record.response_bytes) = (0, 1024);
    let took = record.started.elapsed();
    record.finish(worker, took);
}

fn entry() -> AccessEntry {
    let mut entry = AccessEntry::begin(SystemTime::now(), Logs::none(Reporter::Source));
    entry.protocol = "HTTP/1.1";
    for (what, text) in [
        (Text::Method, "GET"),
        (Text::Path, "/api/orders/4711?expand=lines"),
        (Text::Authority, "content-service.default.svc.cluster.local"),
        (Text::UserAgent, "Mozilla/5.0 (X11; Linux x86_64)"),
        (Text::RequestId, "6f1c7a52-94f2-4c1e-8d3d-0a7f6cc9f1f0"),
    ] {
        entry.put(what, text);
    }
    entry.downstream_remote_address = Some(([10, 244, 0, 2], 40_000).into());
    entry.upstream_host = Some(([10, 244, 0, 3], 8080).into());
    entry
}

fn scope(worker: &WorkerTelemetry, number: usize) -> Rc<Scope> {
    let metadata = |name: String| {
        Arc::new(WorkloadMetadata {
            canonical_service: name.as_str().into(),
            app: name.as_str().into(),
            workload: name.into(),
            namespace: "default".into(),
            ..WorkloadMetadata::default()
        })
    };
    let principal = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/api-gateway").expect("an identity");
    let (source, destination) = (metadata("api-gateway".into()), metadata(format!("content-{number}")));
    let host = format!("content-{number}.default.svc.cluster.local").into();
    let service =
        ServiceLabels { host, name: format!("content-{number}").into(), namespace: "default".into() };
    worker.scope(ScopeRef {
        reporter: Reporter::Source,
        security: Security::Unknown,
        source: PeerRef { metadata: &source, principal: Some(&principal) },
        destination: PeerRef { metadata: &destination, principal: Some(&principal) },
        service: &service,
    })
}

/// The CPU time of a scrape: two workers, and two outcomes for each destination.
fn scraped() {
    const SCRAPES: u32 = 50;
    let telemetry = Telemetry::new(AccessLogFormat::Off, Clock::system());
    for worker in [telemetry.worker(0), telemetry.worker(1)] {
        for number in 0..DESTINATIONS {
            let scope = scope(&worker, number);
            for status in [200, 503] {
                let outcome = Outcome { status, ..Outcome::default() };
                scope.request(outcome, Duration::from_millis(3), 100, 1000);
            }
        }
    }
    let before = own();
    // As it is served: each piece is gone when the next one is written.
    let scrape = || telemetry.pieces(Sides::default()).map(|piece| piece.len()).sum::<usize>();
    let bytes: usize = (0..SCRAPES).map(|_| scrape()).sum();
    let each = (own() - before) / SCRAPES;
    say(format_args!(
        "scrape of {DESTINATIONS} destinations with two outcomes each: {:.2} ms of CPU, {} KiB",
        each.as_secs_f64() * 1000.0,
        bytes / SCRAPES as usize / 1024
    ));
}

struct Tapped(Telemetry);

impl Answers for Tapped {
    async fn answer(&self, question: Question) -> Answer {
        let filter = Filter::parse(&question.query).expect("a filter");
        web::lines(self.0.taps.open(filter).expect("a place"))
    }
}

/// Serves taps on a thread of its own; where, and what tells the CPU time of that thread.
fn serve(telemetry: Telemetry) -> (SocketAddr, impl Fn() -> Duration) {
    let (tell, told) = mpsc::channel();
    let (ask, asked) = tokio::sync::mpsc::unbounded_channel::<mpsc::Sender<Duration>>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = web::listen(([127, 0, 0, 1], 0).into()).expect("a port");
            tell.send(listener.local_addr().expect("an address")).expect("somebody listens");
            tokio::spawn(web::serve(listener, Arc::new(Tapped(telemetry))));
            let mut asked = asked;
            while let Some(answer) = asked.recv().await {
                let _ = answer.send(own());
            }
        });
    });
    let usage = move || {
        let (answer, answered) = mpsc::channel();
        ask.send(answer).expect("the server runs");
        answered.recv().expect("the server runs")
    };
    (told.recv().expect("the server runs"), usage)
}

/// Reads a tap until it is dropped, once its first answer has come.
fn read(address: SocketAddr, query: &str) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let request = format!("GET /tap?{query} HTTP/1.1\r\nhost: a\r\n\r\n");
    let stream = runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut head = [0; 17];
        stream.read_exact(&mut head).await.expect("an answer");
        stream
    });
    runtime.spawn(async move {
        let (mut stream, mut bytes) = (stream, vec![0; 1 << 16]);
        while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    });
    runtime
}

/// The CPU time of this thread.
fn own() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the kernel counts");
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    Duration::from_micros(micros.unsigned_abs())
}
