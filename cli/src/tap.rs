//! `weft tap`: requests as they pass, from the sidecars of a workload.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use weft_proxy::telemetry::tap::Filter;

use crate::output::{self, Format};
use crate::query::encode;
use crate::reach::{Place, Reach, Sidecar};

/// How often new pods are looked for.
const LOOK: Duration = Duration::from_secs(3);
/// Lines that may wait to be printed.
const QUEUE: usize = 1024;
/// How wide columns are at the least.
const WIDTHS: [(&str, usize); 6] =
    [("time", 12), ("side", 3), ("method", 6), ("path", 20), ("from", 16), ("to", 24)];
/// The widest that a path is printed.
const PATH: usize = 60;

/// `weft tap`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  weft tap deploy/content-service                                all its requests, in and out, until Ctrl-C
  weft tap deploy/content-service --path /api --status 5xx       what fails under /api, and why
  weft tap web-0 --side in --from api-gateway -c 20         twenty requests of one caller
  weft tap deploy/web --status 0,4xx --for 30s -o json | jq .    for programs: a line of JSON each

--from takes a workload (NAME, NAMESPACE/NAME) or an identity (ns/NAMESPACE/sa/ACCOUNT, or the whole of it). \
Status 0 is a request whose client left before it was answered; opaque TCP connections are not shown.

What a tap costs is bounded: at most 5120 requests a second and pod are shown, at most 8 taps are open at a sidecar at a \
time, and requests that could not be shown are counted. Nobody who taps slows a request down.")]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// A pod, or a workload (deploy/NAME, sts/NAME, job/NAME): all of its pods
    target: String,
    #[command(flatten)]
    wanted: Wanted,
    /// End after so many requests
    #[arg(short, long)]
    count: Option<u64>,
    /// End after so long: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::units::duration)]
    time: Option<Duration>,
    /// How to print; JSON is one object a line
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Which requests.
#[derive(Clone, Debug, Default, clap::Args)]
struct Wanted {
    /// Only paths that begin so
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Only these statuses: 503, 5xx, 400-499, or several with commas
    #[arg(long)]
    status: Option<String>,
    /// Only these methods: GET, or several with commas
    #[arg(long)]
    method: Option<String>,
    /// Only from this workload or identity
    #[arg(long, value_name = "WORKLOAD|PRINCIPAL")]
    from: Option<String>,
    /// Only what the mesh answered or cut for these reasons: policy_denied, or several with commas
    #[arg(long)]
    reason: Option<String>,
    /// Only what comes in, or goes out: in or out
    #[arg(long, value_name = "in|out")]
    side: Option<String>,
}

/// What the tap of one sidecar says.
struct Told {
    pod: String,
    what: What,
}

enum What {
    Line(Value),
    /// It has ended: why, unless it was in order.
    End(Option<anyhow::Error>),
}

/// What was shown.
#[derive(Default)]
struct Totals {
    shown: u64,
    dropped: u64,
}

/// Taps until told to end.
///
/// # Errors
/// A condition cannot be read, or no sidecar can be tapped; says why.
pub async fn run(args: Args) -> Result<ExitCode> {
    let query = args.wanted.query();
    Filter::parse(&query).map_err(|error| anyhow::anyhow!("{error}"))?;
    let reach = args.place.reach().await?;
    let mut totals = Totals::default();
    let until = async {
        match args.time {
            Some(time) => sleep_until(Instant::now() + time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        over = follow(&reach, &args, &query, &mut totals) => over?,
        () = until => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    output::progress(totals.in_words());
    Ok(ExitCode::SUCCESS)
}

async fn follow(reach: &Reach, args: &Args, query: &str, totals: &mut Totals) -> Result<()> {
    let (tell, mut told) = mpsc::channel(QUEUE);
    let mut tapped = BTreeSet::new();
    let mut printer = Printer::new(args.output);
    begin(reach.sidecars(&args.target).await?, query, &tell, &mut tapped);
    let mut looks = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(Told { pod, what }) = told.recv() => match what {
                What::Line(line) => printer.print(&pod, &line, totals),
                What::End(why) => {
                    tapped.remove(&pod);
                    ended(&pod, why, tapped.is_empty() && totals.shown == 0)?;
                }
            },
            _ = looks.tick() => {
                // A workload between two pods has none for a moment.
                if let Ok(sidecars) = reach.sidecars(&args.target).await {
                    begin(sidecars, query, &tell, &mut tapped);
                }
            }
        }
        if args.count.is_some_and(|count| totals.shown >= count) {
            return Ok(());
        }
    }
}

/// The first failure of all is the answer; later ones are told, and tried again.
fn ended(pod: &str, why: Option<anyhow::Error>, alone: bool) -> Result<()> {
    match why {
        Some(error) if alone => Err(error),
        Some(error) => {
            output::warning(format!("{pod}: {error:#}"));
            Ok(())
        }
        None => {
            output::progress(format!("{pod}: the tap has ended"));
            Ok(())
        }
    }
}

fn begin(sidecars: Vec<Sidecar>, query: &str, tell: &mpsc::Sender<Told>, tapped: &mut BTreeSet<String>) {
    for sidecar in sidecars {
        if tapped.insert(sidecar.pod.clone()) {
            tokio::spawn(tap(sidecar, format!("/tap?{query}"), tell.clone()));
        }
    }
}

async fn tap(sidecar: Sidecar, path: String, tell: mpsc::Sender<Told>) {
    let pod = sidecar.pod.clone();
    let over = async {
        let mut lines = sidecar.stream(&path).await?;
        while let Some(line) = lines.next().await? {
            if line.is_empty() {
                continue;
            }
            let line = serde_json::from_slice(&line).context("what the sidecar tells is no JSON")?;
            if tell.send(Told { pod: pod.clone(), what: What::Line(line) }).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    };
    let why = over.await.err();
    // Nobody may be listening any more.
    let _ = tell.send(Told { pod, what: What::End(why) }).await;
}

impl Wanted {
    /// The conditions as the sidecar reads them.
    fn query(&self) -> String {
        let side = self.side.as_deref().map(|side| match side {
            "in" => "inbound",
            "out" => "outbound",
            other => other,
        });
        let side = side.map(str::to_owned);
        let all = [
            ("path", &self.path),
            ("status", &self.status),
            ("method", &self.method),
            ("from", &self.from),
            ("reason", &self.reason),
            ("side", &side),
        ];
        let given = all.iter().filter_map(|(key, value)| Some((key, value.as_deref()?)));
        given.map(|(key, value)| format!("{key}={}", encode(value))).collect::<Vec<_>>().join("&")
    }
}

impl Totals {
    fn in_words(&self) -> String {
        match self.dropped {
            0 => format!("{} requests", self.shown),
            dropped => format!("{} requests; {dropped} more came too fast to be shown", self.shown),
        }
    }
}

/// Prints requests, and what of them could not be shown.
struct Printer {
    format: Format,
    headed: bool,
    /// The widths so far, so that columns stay where they are.
    widths: BTreeMap<&'static str, usize>,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self { format, headed: false, widths: WIDTHS.into() }
    }

    fn print(&mut self, pod: &str, line: &Value, totals: &mut Totals) {
        let dropped = line["dropped"].as_u64();
        totals.dropped += dropped.unwrap_or(0);
        totals.shown += u64::from(dropped.is_none());
        match (self.format, dropped) {
            (Format::Json, _) => {
                let mut line = line.clone();
                line["pod"] = pod.into();
                output::json(&line);
            }
            (Format::Text, Some(dropped)) => {
                output::line(format!("... {dropped} more at {pod}, too many to be shown"));
            }
            (Format::Text, None) => self.row(pod, line),
        }
    }

    fn row(&mut self, pod: &str, line: &Value) {
        if !std::mem::replace(&mut self.headed, true) {
            let head = ["TIME", "", "STATUS", "METHOD", "PATH", "FROM", "TO", "MS", "WHY"];
            output::line(self.columns(&head.map(str::to_owned)));
        }
        let cells = cells(pod, line);
        output::line(self.columns(&cells));
    }

    fn columns(&mut self, cells: &[String; 9]) -> String {
        const NAMES: [&str; 9] = ["time", "side", "status", "method", "path", "from", "to", "ms", "why"];
        let mut text = String::new();
        for (name, cell) in NAMES.iter().zip(cells) {
            let width = self.widths.entry(name).or_insert(0);
            *width = cell.chars().count().max(*width);
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.trim_end().to_owned()
    }
}

/// One request in words.
fn cells(pod: &str, line: &Value) -> [String; 9] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let inbound = line["side"] == "inbound";
    let time = text(&line["time"]);
    let clock =
        time.split_once('T').map_or(time.as_str(), |(_, clock)| clock).trim_end_matches('Z').to_owned();
    let who = |end: &str| {
        let name = text(&line[end]["workload"]);
        if name.is_empty() { text(&line[end]["address"]) } else { name }
    };
    let service = text(&line["service"]);
    let to = match inbound {
        true => pod.to_owned(),
        false if line["destination"]["workload"].is_string() => who("destination"),
        false => service,
    };
    let path: String = line["path"].as_str().unwrap_or_default().chars().map(printable).take(PATH).collect();
    [
        clock,
        if inbound { "in" } else { "out" }.to_owned(),
        status(line),
        text(&line["method"]),
        path,
        who("source"),
        to,
        format!("{:.1}", line["durationMillis"].as_f64().unwrap_or(0.0)),
        why(line),
    ]
}

fn printable(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

fn status(line: &Value) -> String {
    let status = line["status"].as_u64().unwrap_or(0);
    match line["grpcStatus"].as_u64() {
        Some(grpc) => format!("{status}/{grpc}"),
        None if status == 0 => "left".to_owned(),
        None => status.to_string(),
    }
}

fn why(line: &Value) -> String {
    let named = |key: &str, before: &str| line[key].as_str().map(|value| format!("{before}{value}"));
    let parts = [named("reason", ""), named("policy", "by "), named("route", "route ")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_written_as_the_sidecar_reads_them() {
        let wanted =
            Wanted { path: Some("/api?x=1&y".into()), status: Some("5xx,0".into()), ..Wanted::default() };
        assert_eq!(wanted.query(), "path=%2Fapi%3Fx%3D1%26y&status=5xx%2C0");
        assert!(Filter::parse(&wanted.query()).is_ok());
        assert_eq!(Wanted::default().query(), "");
        assert_eq!(Wanted { side: Some("in".into()), ..Wanted::default() }.query(), "side=inbound");
    }

    #[test]
    fn a_request_is_told_in_a_row() {
        let denied = json!({"time": "2026-11-21T10:11:12.345Z", "side": "inbound", "status": 403, "method": "DELETE",
            "path": "/api/\u{1b}[2J", "source": {"workload": "client"}, "durationMillis": 1.25,
            "reason": "policy_denied", "policy": "default/authz"});
        let expected = [
            "10:11:12.345",
            "in",
            "403",
            "DELETE",
            "/api/\u{fffd}[2J",
            "client",
            "web-0",
            "1.2",
            "policy_denied by default/authz",
        ];
        assert_eq!(cells("web-0", &denied), expected.map(str::to_owned));
        let left = json!({"side": "outbound", "status": 0, "source": {"address": "10.0.0.1:5"}, "service": "web.default"});
        let cells = cells("client-0", &left);
        assert_eq!((&*cells[2], &*cells[5], &*cells[6]), ("left", "10.0.0.1:5", "web.default"));
    }

    #[test]
    fn what_was_not_shown_is_counted() {
        let mut totals = Totals::default();
        let mut printer = Printer::new(Format::Json);
        totals.shown += 3;
        printer.print("web-0", &json!({"dropped": 7}), &mut totals);
        assert_eq!(totals.in_words(), "3 requests; 7 more came too fast to be shown");
    }
}
