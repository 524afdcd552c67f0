//! Formats for kinds of requests.
//!
//! Most of a line's fields are the same for all requests that take the same way and end alike: cluster, route, status,
//! flags, and all that is absent. For kinds that are seen often a format is kept in which these are constant bytes, so
//! that a line is its few other values with long constants between them.

use std::sync::Arc;

use weft_core::model::cluster::Cluster;

use super::entry::AccessEntry;
use super::format::Format;
use super::labels::Outcome;
use super::line::Lines;
use super::room::Room;

/// The places for kinds: each kind has one of them, where it may meet others.
const PLACES: usize = 32;

/// A format, and what it is for kinds of requests.
#[derive(Debug)]
pub(super) struct Kinds {
    format: Format,
    places: Vec<Place>,
}

/// A kind that is known, if any, and one that would be it.
#[derive(Debug, Default)]
struct Place {
    known: Option<(Kind, Format)>,
    /// The kind that was here last, where it is not the known one.
    candidate: Option<Kind>,
}

/// What requests of a kind have in common.
#[derive(Debug)]
struct Kind {
    cluster: Option<Arc<Cluster>>,
    route: Arc<str>,
    protocol: &'static str,
    outcome: Outcome,
    present: u32,
}

// === impl Kinds ===

impl Kinds {
    /// A format of which no kinds are known yet.
    pub(super) fn of(format: Format) -> Self {
        Self { format, places: Vec::new() }
    }

    /// Appends the line of an entry.
    pub(super) fn write(&mut self, lines: &mut Lines, room: &mut Room, entry: &AccessEntry) {
        let present = entry.present();
        if let Some(place) = self.places.get_mut(place_of(entry, present)) {
            if let Some((kind, format)) = &place.known
                && kind.has(entry, present)
            {
                place.candidate = None;
                return lines.write(room, entry, format);
            }
            place.missed(lines, entry, present, &self.format);
        } else {
            self.places.resize_with(PLACES, Place::default);
        }
        lines.write(room, entry, &self.format);
    }
}

impl Place {
    /// A kind that comes twice, and the known one not in between, is the known one from then on: kinds that take turns
    /// do not drive each other out.
    #[cold]
    fn missed(&mut self, lines: &mut Lines, entry: &AccessEntry, present: u32, format: &Format) {
        match self.candidate.take().filter(|kind| kind.has(entry, present)) {
            Some(kind) => self.known = Some((kind, lines.format_of_kind(entry, format))),
            None => self.candidate = Some(Kind::of(entry, present)),
        }
    }
}

// === impl Kind ===

impl Kind {
    fn of(entry: &AccessEntry, present: u32) -> Self {
        Self {
            cluster: entry.upstream_cluster.clone(),
            route: Arc::clone(&entry.route_name),
            protocol: entry.protocol,
            outcome: entry.outcome,
            present,
        }
    }

    fn has(&self, entry: &AccessEntry, present: u32) -> bool {
        self.present == present
            && address(self.cluster.as_ref()) == address(entry.upstream_cluster.as_ref())
            && Arc::ptr_eq(&self.route, &entry.route_name)
            && self.outcome == entry.outcome
            && std::ptr::eq(self.protocol, entry.protocol)
    }
}

fn place_of(entry: &AccessEntry, present: u32) -> usize {
    let route = Arc::as_ptr(&entry.route_name).cast::<u8>().addr();
    let kind = [route, present as usize, usize::from(entry.outcome.status)];
    // The upper bits of a product with an odd number depend on all of its bits.
    let mix = |all: usize, one: usize| (all ^ one).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    kind.into_iter().fold(address(entry.upstream_cluster.as_ref()), mix) % PLACES
}

fn address(cluster: Option<&Arc<Cluster>>) -> usize {
    cluster.map_or(0, |cluster| Arc::as_ptr(cluster).addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    use weft_core::access_log::template::Template;
    use weft_core::chance::Chance;
    use weft_core::model::telemetry::{AccessLog, LogFormat, Sides, Telemetry};
    use weft_core::reason::Reason;

    use crate::telemetry::entry::Logs;
    use crate::telemetry::kept::Text;
    use crate::telemetry::labels::{AppProtocol, Reporter};

    const TEXTS: [Text; 8] = [
        Text::Method,
        Text::Path,
        Text::Authority,
        Text::UserAgent,
        Text::ForwardedFor,
        Text::RequestId,
        Text::ServerName,
        Text::TransportFailure,
    ];

    fn formats() -> Vec<LogFormat> {
        let template = |source: &str| Template::parse(source).unwrap();
        let shown = "%REQ(ACCEPT)% %REQ(MISSING?:PATH):3% %RESP(X)%, \"%POLICY%\" %TRACE_ID% %DOWNSTREAM_PEER_URI_SAN%";
        let fields =
            ["%REQ(ACCEPT)%", "%RESPONSE_CODE%", "a %REQ(:PATH)% b", "%REQ(:METHOD?ACCEPT)%", "%POLICY%"];
        let fields = fields.iter().enumerate().map(|(i, field)| (format!("f{i}").into(), template(field)));
        vec![
            LogFormat::DefaultJson,
            LogFormat::DefaultText,
            LogFormat::Text(template(shown)),
            LogFormat::Json(fields.collect()),
        ]
    }

    fn logs() -> Logs {
        let logs = formats().into_iter().map(|format| AccessLog { format, ..AccessLog::default() }).collect();
        let access_log = Sides { client: logs, server: Vec::new() };
        Logs::of(&Arc::new(Telemetry { access_log, ..Telemetry::default() }), Reporter::Source).unwrap()
    }

    /// An entry whose values are there as the bits of `there` say.
    fn entry(logs: &Logs, there: u32, text: &str, end: (u16, usize), routes: &[Arc<str>; 2]) -> AccessEntry {
        let mut bits = (0..32).map(|bit| there & 1 << bit != 0);
        let mut is_there = || bits.next().unwrap();
        let mut entry = AccessEntry::begin(UNIX_EPOCH + Duration::from_millis(there.into()), logs.clone());
        TEXTS.iter().filter(|_| is_there()).for_each(|what| entry.put(*what, text));
        let address = |port: u16| Some(([10, 0, 0, 1], port).into());
        entry.upstream_host = address(end.0).filter(|_| is_there());
        entry.upstream_local_address = address(2).filter(|_| is_there());
        entry.downstream_local_address = address(3).filter(|_| is_there());
        entry.downstream_remote_address = address(4).filter(|_| is_there());
        entry.upstream_service_time = is_there().then(|| Duration::from_millis(end.0.into()));
        let id = weft_core::identity::SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b").unwrap();
        entry.source_principal = is_there().then_some(id);
        entry.trace_id = is_there().then_some([7; 16]);
        entry.protocol = if is_there() { "HTTP/1.1" } else { "HTTP/2" };
        entry.route_name = Arc::clone(&routes[usize::from(is_there())]);
        if is_there() {
            entry.put_request(&http::HeaderMap::from_iter([(http::header::ACCEPT, "*/*".parse().unwrap())]));
        }
        let policy = is_there().then(|| text.into());
        let reason = is_there().then(|| Reason::ALL[end.1 % Reason::ALL.len()]);
        let protocol = if is_there() { AppProtocol::Grpc } else { AppProtocol::Http };
        let grpc_status = is_there().then_some(13);
        let outcome = Outcome { protocol, status: end.0 % 600, grpc_status, reason, delayed: is_there() };
        entry.end(outcome, policy, Duration::from_millis(end.1 as u64));
        entry
    }

    #[test]
    fn a_line_says_the_same_whether_its_kind_is_known() {
        let (logs, routes) = (logs(), ["route".into(), "a \"route\"\n".into()]);
        let texts =
            ["x", "/api?x=1", "a \"b\"\n", "\u{7f}\u{e9}", "a text that is longer than a block of bytes is"];
        let mut chance = Chance::new(1);
        for format in formats() {
            let (mut kinds, mut lines, mut plain) =
                (Kinds::of(Format::of(&format)), Lines::default(), Lines::default());
            let mut told =
                [0; 8].map(|_| (chance.draw() as u32, (chance.draw() as u16, chance.draw() as usize % 99)));
            for _ in 0..2000 {
                let at = chance.draw() as usize;
                if at.is_multiple_of(64) {
                    told[at % 8].0 = chance.draw() as u32;
                }
                let (there, end) = told[at % 8];
                let entry = entry(&logs, there, texts[chance.draw() as usize % texts.len()], end, &routes);
                let (mut shown, mut expected) = (Room::default(), Room::default());
                kinds.write(&mut lines, &mut shown, &entry);
                plain.write(&mut expected, &entry, &Format::of(&format));
                let text = |room: &Room| String::from_utf8(room.written().to_vec()).unwrap();
                assert_eq!(text(&shown), text(&expected), "{format:?}");
            }
            assert!(kinds.places.iter().any(|place| place.known.is_some()));
        }
    }

    #[test]
    fn a_kind_is_known_from_its_second_request_and_not_driven_out_by_others() {
        let (logs, routes) = (logs(), ["a".into(), "b".into()]);
        let mut kinds = Kinds::of(Format::of(&LogFormat::DefaultJson));
        let (mut lines, mut room) = (Lines::default(), Room::default());
        let mut see = |there: u32, kinds: &mut Kinds| {
            kinds.write(&mut lines, &mut room, &entry(&logs, there, "x", (200, 0), &routes));
        };
        let known = |kinds: &Kinds| kinds.places.iter().filter(|place| place.known.is_some()).count();
        (0..2).for_each(|_| see(0, &mut kinds));
        assert_eq!(known(&kinds), 0, "the first made the places, the second is a candidate");
        see(0, &mut kinds);
        assert_eq!(known(&kinds), 1);
        for there in 0..1000 {
            see(there, &mut kinds);
            see(0, &mut kinds);
        }
        assert_eq!(known(&kinds), 1, "each came once");
        assert!(kinds.places.len() <= PLACES);
    }
}
