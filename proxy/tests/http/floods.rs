//! Clients of HTTP/2 that abuse it: floods, bombs, and those that do not read (hardening part C).

use std::time::Duration;

use weft_core::model::protocol::Protocol;
use weft_proxy::http::version::HttpVersion::{Http1, Http2};
use weft_testkit::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, PING, PRIORITY, RESET, RawClient,
    RawFrame, SETTINGS, WINDOW_UPDATE, frame, get,
};
use weft_testkit::http2::{Upstream2, What};
use weft_testkit::wire::{Step, Upstream, Wire};
use weft_testkit::world::World;

use crate::bed::{Bed, on_worker};

/// ENHANCE_YOUR_CALM, REFUSED_STREAM, CANCEL.
const CALM: u32 = 11;
const REFUSED: u32 = 7;
const CANCEL: u32 = 8;
/// `:status: 200` (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;
/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

const WHOLE: u8 = END_STREAM | END_HEADERS;
/// The flag of SETTINGS that have been read.
const ACK: u8 = 1;

/// A client of a sidecar before an upstream that never answers.
pub(crate) async fn before_silence() -> (Upstream, RawClient) {
    let upstream = Upstream::start(vec![vec![Step::Hang]]).await;
    let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
    let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
    (upstream, RawClient::connect(proxy, &[]).await)
}

/// A client of a sidecar before an upstream that answers.
pub(crate) async fn before_answers() -> (Upstream2, RawClient) {
    before(What::Answer("fine")).await
}

/// A client of a sidecar before an upstream that does this with each request.
async fn before(what: What) -> (Upstream2, RawClient) {
    let upstream = Upstream2::start(vec![what]).await;
    let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
    let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
    (upstream, RawClient::connect(proxy, &[]).await)
}

/// The code of the GOAWAY with which the connection ended.
async fn sent_away(client: &mut RawClient) -> Option<u32> {
    client.rest().await.iter().rev().find(|frame| frame.kind == GO_AWAY).and_then(RawFrame::code)
}

#[tokio::test]
async fn c1_resets_in_a_row_end_the_connection() {
    on_worker(async {
        let (_upstream, mut client) = before_silence().await;
        let mut burst = Vec::new();
        for stream in (1..400).step_by(2) {
            burst.extend(frame(HEADERS, WHOLE, stream, get()));
            burst.extend(frame(RESET, 0, stream, 8_u32.to_be_bytes()));
        }
        client.send(burst).await;
        assert_eq!(sent_away(&mut client).await, Some(CALM));
    })
    .await;
}

#[tokio::test]
async fn c1_resets_with_pauses_end_the_connection_too() {
    on_worker(async {
        let (_upstream, mut client) = before_silence().await;
        let mut resets = 0;
        for stream in (1..4000).step_by(2) {
            client.send(frame(HEADERS, WHOLE, stream, get())).await;
            client.send(frame(PING, 0, 0, [0; 8])).await;
            if client.next_of(PING).await.is_none() {
                break;
            }
            client.send(frame(RESET, 0, stream, 8_u32.to_be_bytes())).await;
            resets += 1;
        }
        assert!((400..=500).contains(&resets), "{resets} resets and as many pings");
    })
    .await;
}

#[tokio::test]
async fn c2_streams_that_the_client_makes_us_reset_are_counted() {
    on_worker(async {
        let (_upstream, mut client) = before_silence().await;
        let much = 0x7fff_ffff_u32.to_be_bytes();
        for stream in (1..1000).step_by(2) {
            client.send(frame(HEADERS, WHOLE, stream, get())).await;
            client.send(frame(WINDOW_UPDATE, 0, stream, much)).await;
        }
        let frames = client.rest().await;
        let resets = frames.iter().filter(|frame| frame.kind == RESET).count();
        assert!(resets <= 200, "{resets}");
        assert_eq!(frames.iter().find(|f| f.kind == GO_AWAY).and_then(RawFrame::code), Some(CALM));
    })
    .await;
}

#[tokio::test]
async fn c3_header_lists_without_end_are_cut_off() {
    on_worker(async {
        for (size, count) in [(0, 500), (16 << 10, 100)] {
            let (upstream, mut client) = before_answers().await;
            client.send(frame(HEADERS, END_STREAM, 1, get())).await;
            // A value of many bytes, of which each frame brings some.
            client.send(frame(CONTINUATION, 0, 1, [0, 1, b'x', 0x7f, 0xff, 0xff, 0xff, 0x7f])).await;
            for _ in 0..count {
                client.send(frame(CONTINUATION, 0, 1, vec![b'a'; size])).await;
            }
            let code = sent_away(&mut client).await;
            assert!(code.is_some_and(|code| code != 0), "{code:?}, frames of {size}");
            assert!(upstream.requests().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn c4_floods_of_frames_that_say_nothing_end_the_connection() {
    on_worker(async {
        let one = 1_u32.to_be_bytes();
        let floods = [
            ("SETTINGS", frame(SETTINGS, 0, 0, [])),
            ("PING", frame(PING, 0, 0, [0; 8])),
            ("PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 5, 1])),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, one)),
            ("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, one)),
            ("unknown", frame(0xfa, 0, 0, [])),
            ("empty DATA", frame(DATA, 0, 1, [])),
        ];
        for (name, flood) in floods {
            let (_upstream, mut client) = before_silence().await;
            client.send(frame(HEADERS, END_HEADERS, 1, get())).await;
            client.send(flood.repeat(1010)).await;
            assert_eq!(sent_away(&mut client).await, Some(CALM), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn c4_a_client_that_is_answered_may_say_much() {
    on_worker(async {
        let (upstream, mut client) = before_answers().await;
        for stream in (1..1400).step_by(2) {
            client.send(frame(HEADERS, WHOLE, stream, get())).await;
            client.send(frame(PING, 0, 0, [0; 8])).await;
            let answered = client.next_of(DATA).await;
            assert_eq!(answered.map(|data| data.payload), Some(b"fine".to_vec()), "stream {stream}");
            client.send(frame(WINDOW_UPDATE, 0, 0, 4_u32.to_be_bytes())).await;
        }
        assert_eq!(upstream.requests().len(), 700);
    })
    .await;
}

/// Lets everything come that is on its way, before the clock goes on.
async fn settle() {
    for _ in 0..50_000 {
        tokio::task::yield_now().await;
    }
}

fn large() -> &'static str {
    Box::leak("x".repeat(32 << 20).into_boxed_str())
}

#[tokio::test(start_paused = true)]
async fn c5_an_http2_client_that_does_not_read_is_cut() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer(large())]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let most = 0x7fff_ffff;
        let mut client = RawClient::connect(proxy, &[(WINDOW, most)]).await;
        client.send(frame(WINDOW_UPDATE, 0, 0, (most - 65_535).to_be_bytes())).await;
        client.send(frame(HEADERS, WHOLE, 1, get())).await;
        settle().await;
        tokio::time::sleep(Duration::from_secs(24)).await;
        let got: usize = client.rest().await.iter().map(|frame| frame.payload.len()).sum();
        assert!(got < 32 << 20, "{got} bytes");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a16_a_client_that_does_not_read_is_cut_when_its_time_is_up() {
    on_worker(async {
        let body = large();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let upstream = Upstream::replying(&answer).await;
        let world = World::new().service("a", Protocol::Http, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http1).await;
        for (pause, whole) in [(290, true), (310, false)] {
            let mut client = Wire::connect(proxy).await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            settle().await;
            tokio::time::sleep(Duration::from_secs(pause)).await;
            // A clock that stood still would jump ahead of bytes that are under way.
            tokio::time::resume();
            let got = client.rest().await.len();
            tokio::time::pause();
            assert_eq!(got > body.len(), whole, "{got} bytes after {pause} s");
        }
    })
    .await;
}

/// Begins a request with more of a body than an upstream leaves room for at first.
async fn upload(client: &mut RawClient, stream: u32) {
    // The sidecar leaves more room, once the client knows of it.
    client.next_of(SETTINGS).await.expect("settings");
    client.send(frame(SETTINGS, ACK, 0, [])).await;
    ask(client, stream, END_HEADERS).await;
    client.send(frame(DATA, 0, stream, [b'x'; 16_000]).repeat(5)).await;
}

/// Opens a stream without leaving room for its response.
async fn ask(client: &mut RawClient, stream: u32, flags: u8) {
    client.send(frame(HEADERS, flags, stream, get())).await;
}

#[tokio::test(start_paused = true)]
async fn c7_a_stream_that_is_not_taken_ends_and_the_others_go_on() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer(large()), What::Echo, What::Answer("fine")]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let bed = Bed::new(&world);
        let proxy = bed.outbound(&world, "a", Http2).await;
        let mut client = RawClient::connect(proxy, &[(WINDOW, 10)]).await;
        ask(&mut client, 1, WHOLE).await;
        settle().await;
        // The client of this one has not said all itself.
        ask(&mut client, 3, END_HEADERS).await;
        client.send(frame(DATA, 0, 3, [b'x'; 8000])).await;
        client.send(frame(DATA, 0, 3, [b'y'; 8000])).await;
        settle().await;
        tokio::time::sleep(Duration::from_secs(290)).await;
        let unread = r#"weft_rejected_total{policy="",reason="unread"}"#;
        assert!(!bed.metrics().contains(unread));
        tokio::time::sleep(Duration::from_secs(320)).await;
        settle().await;
        assert!(bed.metrics().contains(&format!("{unread} 2")), "{}", bed.metrics());
        ask(&mut client, 5, WHOLE).await;
        settle().await;
        let mut ended = Vec::new();
        let answer = loop {
            let frame = client.next().await.expect("the connection stays");
            match frame.kind {
                RESET => ended.push((frame.stream, frame.code())),
                DATA if frame.stream == 5 => break frame.payload,
                _ => {}
            }
        };
        ended.sort_unstable();
        assert_eq!(ended, [(1, Some(CANCEL)), (3, Some(CANCEL))]);
        assert_eq!((answer, upstream.connections()), (b"fine".to_vec(), 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c7_an_answer_of_one_piece_that_is_not_taken_ends_too() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer("longer than ten bytes")]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let bed = Bed::new(&world);
        let mut client = RawClient::connect(bed.outbound(&world, "a", Http2).await, &[(WINDOW, 10)]).await;
        ask(&mut client, 1, WHOLE).await;
        settle().await;
        tokio::time::sleep(Duration::from_secs(320)).await;
        settle().await;
        assert_eq!(client.next_of(DATA).await.expect("what there is room for").payload, b"longer tha");
        assert_eq!(client.next_of(RESET).await.expect("the end").code(), Some(CANCEL));
        assert!(bed.metrics().contains(r#"weft_rejected_total{policy="",reason="unread"} 1"#));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c7_a_body_that_an_upstream_does_not_take_ends_soon_after_the_answer() {
    on_worker(async {
        let (upstream, mut client) = before(What::AnswerUnread("early")).await;
        upload(&mut client, 1).await;
        assert_eq!(client.next_of(DATA).await.expect("an answer").payload, b"early");
        settle().await;
        assert_eq!(upstream.given_up(), 0, "it may take it yet");
        tokio::time::sleep(Duration::from_secs(31)).await;
        settle().await;
        assert_eq!(upstream.given_up(), 1);
    })
    .await;
}

#[tokio::test]
async fn c7_a_body_that_an_upstream_does_not_take_ends_with_its_client() {
    on_worker(async {
        let (upstream, mut client) = before(What::Hang).await;
        upload(&mut client, 1).await;
        settle().await;
        assert_eq!((upstream.begun(), upstream.given_up()), (1, 0));
        client.send(frame(RESET, 0, 1, CANCEL.to_be_bytes())).await;
        settle().await;
        assert_eq!(upstream.given_up(), 1);
    })
    .await;
}

#[tokio::test]
async fn c7_streams_that_stand_still_do_not_hold_up_others() {
    on_worker(async {
        let upstream = Upstream2::start(vec![What::Answer(large())]).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let mut client = RawClient::connect(proxy, &[(WINDOW, 0)]).await;
        for stream in (1..60).step_by(2) {
            ask(&mut client, stream, WHOLE).await;
        }
        settle().await;
        let most = 0x3fff_ffff_u32.to_be_bytes();
        ask(&mut client, 61, WHOLE).await;
        client.send([frame(WINDOW_UPDATE, 0, 0, most), frame(WINDOW_UPDATE, 0, 61, most)].concat()).await;
        let mut got = 0;
        while got < 32 << 20 {
            let data = client.next_of(DATA).await.expect("all of it");
            assert_eq!(data.stream, 61);
            got += data.payload.len();
        }
        assert_eq!(upstream.connections(), 1);
    })
    .await;
}

/// A header block: a field of this size for the dynamic table, and so many references to it.
fn bomb(name: &str, size: usize, references: usize) -> Vec<u8> {
    let mut block = get();
    block.extend([0x40, u8::try_from(name.len()).expect("a short name")]);
    block.extend(name.as_bytes());
    match size {
        0..127 => block.push(size as u8),
        _ => block.extend([0x7f, ((size - 127) & 0x7f) as u8 | 0x80, ((size - 127) >> 7) as u8]),
    }
    block.extend(vec![b'v'; size]);
    block.extend(vec![0xbe; references]);
    block
}

#[tokio::test]
async fn c6_header_lists_that_unfold_reach_nobody() {
    on_worker(async {
        for block in [bomb("x-bomb", 4000, 12_000), bomb("cookie", 4, 2000)] {
            let (upstream, mut client) = before_answers().await;
            client.send(frame(HEADERS, WHOLE, 1, block)).await;
            let ended = loop {
                match client.next().await {
                    Some(frame) if matches!(frame.kind, HEADERS | RESET | GO_AWAY) => break Some(frame),
                    Some(_) => {}
                    None => break None,
                }
            };
            let fine = |frame: &RawFrame| frame.kind == HEADERS && frame.payload.first() == Some(&STATUS_200);
            assert!(ended.is_some_and(|frame| !fine(&frame)));
            assert!(upstream.requests().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn c11_streams_over_the_limit_are_refused() {
    on_worker(async {
        let (_upstream, mut client) = before_silence().await;
        for stream in (1..2100).step_by(2) {
            client.send(frame(HEADERS, WHOLE, stream, get())).await;
        }
        for _ in 0..50 {
            let reset = client.next_of(RESET).await.expect("a reset");
            assert_eq!(reset.code(), Some(REFUSED));
            assert!(reset.stream > 2000, "{}", reset.stream);
        }
    })
    .await;
}

#[tokio::test]
async fn c15_many_requests_given_up_do_not_spoil_the_connection() {
    on_worker(async {
        let mut script = vec![What::Hang; 80];
        script.push(What::Answer("fine"));
        let upstream = Upstream2::start(script).await;
        let world = World::new().service("a", Protocol::Auto, &[upstream.address]);
        let proxy = Bed::new(&world).outbound(&world, "a", Http2).await;
        let mut client = RawClient::connect(proxy, &[]).await;
        for stream in (1..160).step_by(2) {
            client.send(frame(HEADERS, WHOLE, stream, get())).await;
        }
        while upstream.begun() < 80 {
            tokio::task::yield_now().await;
        }
        for stream in (1..160).step_by(2) {
            client.send(frame(RESET, 0, stream, 8_u32.to_be_bytes())).await;
        }
        client.send(frame(HEADERS, WHOLE, 161, get())).await;
        let answer = client.next_of(DATA).await.expect("an answer");
        assert_eq!((answer.stream, answer.payload), (161, b"fine".to_vec()));
        assert_eq!(upstream.connections(), 1);
    })
    .await;
}
