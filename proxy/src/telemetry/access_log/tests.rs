//! Entries in, lines out; filters; a log that nobody reads.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use serde_json::Value;
use weft_core::access_log::filter::Filter;
use weft_core::access_log::template::Template;
use weft_core::reason::Reason;

use super::*;
use crate::telemetry::kept::Text;
use crate::telemetry::labels::Outcome;

fn told(format: LogFormat, filter: Option<&str>) -> Arc<telemetry::Telemetry> {
    let filter = filter.map(|source| Filter::parse(source).unwrap());
    let logs = vec![telemetry::AccessLog { to: LogTarget::Stdout, format, filter }];
    let access_log = Sides { client: logs, server: Vec::new() };
    Arc::new(telemetry::Telemetry { access_log, ..Default::default() })
}

fn entry(format: LogFormat) -> AccessEntry {
    let logs = Logs::of(&told(format, None), Reporter::Source).unwrap();
    let mut entry = AccessEntry::begin(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123), logs);
    entry.put(Text::Method, "GET");
    entry.put(Text::Path, "/a");
    entry.protocol = "HTTP/1.1";
    entry
}

fn line(entry: &AccessEntry) -> String {
    let mut out = Room::default();
    Lines::default().write(&mut out, entry, &Format::of(&entry.logs.list()[0].format));
    String::from_utf8(out.written().to_vec()).unwrap()
}

fn ended(mut entry: AccessEntry, status: u16, reason: Option<Reason>) -> AccessEntry {
    let policy = reason.map(|_| "default/deny".into());
    entry.end(Outcome { status, reason, ..Outcome::default() }, policy, Duration::from_millis(7));
    entry
}

#[test]
fn json_has_istios_fields_the_reason_and_the_policy() {
    let mut e = entry(LogFormat::DefaultJson);
    e.upstream_host = Some("10.244.0.3:8080".parse().unwrap());
    e.upstream_service_time = Some(Duration::from_millis(5));
    let v: Value = serde_json::from_str(&line(&ended(e, 403, Some(Reason::PolicyDenied)))).unwrap();
    assert_eq!(v["reason"], "policy_denied");
    assert_eq!(v["policy"], "default/deny");
    assert_eq!(v["response_code"], 403);
    assert_eq!(v["duration"], 7);
    assert_eq!(v["start_time"], "2023-11-14T22:13:20.123Z");
    assert_eq!(v["upstream_host"], "10.244.0.3:8080");
    assert_eq!(v["upstream_service_time"], 5);
    assert_eq!(v["user_agent"], Value::Null);
    assert_eq!(v.as_object().unwrap().len(), 28);
}

#[test]
fn text_is_istios_line_with_reason_and_policy() {
    let mut e = entry(LogFormat::DefaultText);
    e.upstream_host = Some("[fd00::1]:80".parse().unwrap());
    e.route_name = "default".into();
    e.bytes_sent = 1234;
    assert_eq!(
        line(&ended(e, 200, None)),
        "[2023-11-14T22:13:20.123Z] \"GET /a HTTP/1.1\" 200 - via_upstream - \"-\" 0 1234 7 - \"-\" \"-\" \"-\" \"-\" \
         \"[fd00::1]:80\" - - - - - default - -\n"
    );
}

#[test]
fn lines_of_the_users_own() {
    let template = |source: &str| Template::parse(source).unwrap();
    let headers = HeaderMap::from_iter([
        (http::header::ACCEPT, "a/b".parse().unwrap()),
        ("x-forwarded-for".parse().unwrap(), "10.0.0.9".parse().unwrap()),
    ]);
    let format = LogFormat::Text(template("%REQ(ACCEPT):2% %REQ(MISSING?ACCEPT)% %RESP(ACCEPT)% 100%%"));
    let mut e = entry(format);
    e.put_request(&headers);
    assert_eq!(line(&e), "a/ a/b - 100%\n");
    e.put_response(&headers);
    assert_eq!(line(&e), "a/ a/b a/b 100%\n");
    let fields = [("code", "%RESPONSE_CODE%"), ("who \"?", "%REQ(x-forwarded-for)% via %PROTOCOL%")];
    let fields = fields.map(|(name, source)| (name.into(), template(source)));
    let mut e = entry(LogFormat::Json(fields.to_vec()));
    e.put_request(&headers);
    assert_eq!(line(&e), "{\"code\":0,\"who \\\"?\":\"10.0.0.9 via HTTP/1.1\"}\n");
    assert_eq!(line(&entry(LogFormat::Json(Vec::new()))), "{}\n");
}

#[test]
fn g24_nothing_ends_its_line_and_long_values_are_cut() {
    for format in [LogFormat::DefaultJson, LogFormat::DefaultText] {
        let mut e = entry(format);
        e.put(Text::Path, "/x\r\n[fake] \"GET");
        let mut headers = HeaderMap::new();
        let hostile = [b"\xff\xfe\"".as_slice(), &b"\xc3\xa9".repeat(100_000)].concat();
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_bytes(&hostile).unwrap());
        e.put_request(&headers);
        let text = line(&e);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n') && text.len() < 4096);
        assert!(text.contains(r#"[fake] \"GET"#), "{text}");
    }
}

#[test]
fn a_filter_decides_what_is_handed_on() {
    let told = told(LogFormat::DefaultText, Some("response.code >= 400 || request.path.startsWith('/b')"));
    let logged = |status: u16, path: &str| {
        let mut e = AccessEntry::begin(UNIX_EPOCH, Logs::of(&told, Reporter::Source).unwrap());
        e.put(Text::Path, path);
        e.end(Outcome { status, ..Outcome::default() }, None, Duration::ZERO)
    };
    assert!(logged(404, "/") && logged(200, "/b") && !logged(200, "/a"));
    assert!(Logs::of(&told, Reporter::Destination).is_none(), "nothing is said of the other side");
}

#[test]
fn what_the_controller_says_goes_before_the_sidecars_own_setting() {
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let log = AccessLog::to_streams(AccessLogFormat::Json, dropped);
    let told = told(LogFormat::DefaultText, None);
    let format = |logs: Option<Logs>| logs.unwrap().list()[0].format.clone();
    assert_eq!(format(log.logs(Some(&told), Reporter::Source)), LogFormat::DefaultText);
    assert_eq!(format(log.logs(Some(&told), Reporter::Destination)), LogFormat::DefaultJson);
    assert_eq!(format(log.logs(None, Reporter::Source)), LogFormat::DefaultJson);
}

/// A writer that never returns, as a pipe that nobody reads.
struct Blocked(std::sync::mpsc::Receiver<()>);

impl Write for Blocked {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn g5_a_blocked_log_drops_lines_and_counts_them() {
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let (release, blocked) = channel::<()>();
    let blocked = Mutex::new(Some(Blocked(blocked)));
    let open = move || {
        let stdout = blocked.lock().unwrap().take().unwrap();
        Outputs { stdout: Box::new(stdout), stderr: Box::new(std::io::sink()) }
    };
    let log = AccessLog::opening(AccessLogFormat::Json, dropped.clone(), Box::new(open));
    for _ in 0..QUEUE + 1000 {
        let mut e = entry(LogFormat::DefaultJson);
        e.end(Outcome::default(), None, Duration::ZERO);
        log.write(Box::new(e));
    }
    let most = 1000 - BATCH as u64 - 1;
    assert!((most..=1000).contains(&dropped.get()), "{}", dropped.get());
    // Nobody waits for it.
    log.flush(Duration::MAX);
    Sender::clone(&release).send(()).unwrap();
    drop(release);
}

/// What was written, for a test to look at.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let shown = Shown::default();
    let stdout = shown.clone();
    let open = move || Outputs { stdout: Box::new(stdout.clone()), stderr: Box::new(std::io::sink()) };
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let log = AccessLog::opening(AccessLogFormat::Json, dropped, Box::new(open));
    log.flush(Duration::MAX);
    for _ in 0..3 {
        log.write(Box::new(ended(entry(LogFormat::DefaultJson), 200, None)));
    }
    log.flush(Duration::from_secs(60));
    let written = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
    assert_eq!(written.lines().count(), 3, "{written}");
}
