use ::http::Method;
use proptest::prelude::*;

use super::fault::Fault;
use super::*;

fn request(bytes: &[u8]) -> Result<Progress, Refusal> {
    HeadScanner::requests(Limits::default()).scan(bytes)
}

#[track_caller]
fn refused(text: &str, status: u16, fault: Fault) {
    let refusal = request(text.as_bytes()).expect_err(text);
    assert_eq!((refusal.status, refusal.fault), (status, fault), "{text:?}");
}

#[track_caller]
fn with_field(line: &str, status: u16, fault: Fault) {
    refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"), status, fault);
}

#[track_caller]
fn passes(bytes: &[u8]) -> HeadScanner {
    let mut scanner = HeadScanner::requests(Limits::default());
    assert_eq!(scanner.scan(bytes), Ok(Progress::All), "{:?}", String::from_utf8_lossy(bytes));
    scanner
}

#[track_caller]
fn complete(text: &str) {
    assert!(passes(text.as_bytes()).between_messages(), "{text:?}");
}

fn asked(method: Method, upgrade: bool) -> HeadScanner {
    let mut scanner = HeadScanner::responses(Limits::default());
    scanner.asked(&method, upgrade);
    scanner
}

#[track_caller]
fn bad_response(text: &str, fault: Fault) {
    let refusal = asked(Method::GET, false).scan(text.as_bytes()).expect_err(text);
    assert_eq!((refusal.status, refusal.fault), (502, fault), "{text:?}");
}

#[test]
fn a1_length_and_encoding() {
    with_field("Content-Length: 4\r\nTransfer-Encoding: chunked", 400, Fault::TwoLengths);
    with_field("Transfer-Encoding: chunked\r\ncontent-length: 0", 400, Fault::TwoLengths);
}

#[test]
fn a2_two_lengths() {
    with_field("Content-Length: 4\r\nContent-Length: 5", 400, Fault::ContentLengths);
    with_field("Content-Length: 4, 4", 400, Fault::ContentLength);
    complete("POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd");
}

#[test]
fn a3_content_length_that_is_no_number() {
    for value in
        ["", " ", "+1", "-1", "0x10", "1_0", "1 2", "1,", "18446744073709551616", "9223372036854775808"]
    {
        with_field(&format!("Content-Length:{value}"), 400, Fault::ContentLength);
    }
    complete("POST / HTTP/1.1\r\nContent-Length: 010\r\n\r\n0123456789");
}

#[test]
fn a4_transfer_encoding_that_is_not_chunked() {
    for value in ["", ",chunked", "chunked,", "\u{a0}chunked", "chunked;q=1", "\"chunked\"", "chun ked"] {
        with_field(&format!("Transfer-Encoding: {value}"), 400, Fault::TransferEncoding);
    }
    for value in ["gzip, chunked", "identity", "xchunked", "chunked, identity", "chunked, chunked"] {
        with_field(&format!("transfer-encoding: {value}"), 501, Fault::TransferCoding);
    }
    with_field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, Fault::TransferEncoding);
    complete("POST / HTTP/1.1\r\nTransfer-Encoding: \tChunked \r\n\r\n0\r\n\r\n");
}

#[test]
fn a5_transfer_encoding_in_http_1_0() {
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, Fault::TransferEncoding);
}

#[test]
fn a6_chunk_sizes() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for line in
        ["0x5", " 5", "5 ;a", "5 ", "", "_", "00000000000000005", "5g", "+5", "8000000000000000", "-1", ";a"]
    {
        refused(&format!("{head}{line}\r\nabcde\r\n0\r\n\r\n"), 400, Fault::ChunkSize);
    }
    refused(&format!("{head}5\r\nabcdefg\r\n0\r\n\r\n"), 400, Fault::ChunkEnd);
    refused(&format!("{head}5\r\nabcde\n0\r\n\r\n"), 400, Fault::ChunkEnd);
    refused(&format!("{head}5;{}\r\n", "a".repeat(5000)), 400, Fault::ChunkSize);
    refused(&format!("{head}{}", "0".repeat(5000)), 400, Fault::ChunkSize);
    complete(&format!("{head}5;name=\"v\"; x\r\nabcde\r\n0A\r\n0123456789\r\n000\r\n\r\n"));
}

#[test]
fn a6_the_bytes_before_a_bad_chunk_are_sound() {
    let text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0x5\r\n";
    let refusal = request(text.as_bytes()).expect_err("bad chunk");
    assert_eq!(&text[refusal.at..], "0x5\r\n");
}

#[test]
fn a7_bare_line_feeds() {
    refused("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, Fault::BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, Fault::BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", 400, Fault::BareLf);
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, Fault::BareLf);
    refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nabcde\r\n", 400, Fault::BareLf);
    refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nabcde\r\n", 400, Fault::BareLf);
    refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\n\r\n", 400, Fault::BareLf);
    refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", 400, Fault::BareLf);
}

#[test]
fn a8_control_characters() {
    with_field("A: b\rc", 400, Fault::BareCr);
    with_field("A: b\0c", 400, Fault::Control);
    with_field("A: b\u{7f}", 400, Fault::Control);
    with_field("A\0: b", 400, Fault::FieldName);
    with_field("A\r: b", 400, Fault::FieldName);
    refused("GET /\0 HTTP/1.1\r\n\r\n", 400, Fault::Target);
    refused("GET /a\rb HTTP/1.1\r\n\r\n", 400, Fault::Version);
    refused("GET / HTTP/1.1\rX\r\n\r\n", 400, Fault::BareCr);
    refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;\0\r\n", 400, Fault::Control);
}

#[test]
fn a9_field_lines_that_are_none() {
    with_field("A : b", 400, Fault::FieldName);
    with_field("A\t: b", 400, Fault::FieldName);
    with_field("A: b\r\n c", 400, Fault::Fold);
    with_field("A: b\r\n\tc", 400, Fault::Fold);
    with_field("no colon", 400, Fault::FieldName);
    with_field("nocolon", 400, Fault::FieldName);
    with_field(": b", 400, Fault::FieldName);
    with_field("\u{e9}: b", 400, Fault::FieldName);
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, Fault::Fold);
}

#[test]
fn a10_obs_text_in_a_value() {
    assert!(passes(b"GET / HTTP/1.1\r\nA: \x80\xff\ttab  \r\n\r\n").between_messages());
}

#[test]
fn a11_methods() {
    for line in ["G=\":<> / HTTP/1.1", " / HTTP/1.1", "G\tET / HTTP/1.1", "GET", "\u{e9} / HTTP/1.1"] {
        refused(&format!("{line}\r\nHost: a\r\n\r\n"), 400, Fault::Method);
    }
    complete("FOO / HTTP/1.1\r\nHost: a\r\n\r\nget /x HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a12_versions() {
    for line in
        ["GET / HTTP/1.32", "GET / HTTP/\r1.1", "GET /", "GET / http/1.1", "GET / HTTP/1", "GET / HTTP/1,1"]
    {
        let fault = if line.ends_with("32") { Fault::VersionUnsupported } else { Fault::Version };
        let status = request(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).expect_err(line);
        assert!(status.fault == fault || line.ends_with("32"), "{line}");
        assert!(matches!(status.status, 400 | 505), "{line}");
    }
    refused("GET / HTTP/2.0\r\n\r\n", 505, Fault::VersionUnsupported);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, Fault::VersionUnsupported);
    refused("GET / HTTP/1.1 \r\n\r\n", 400, Fault::Control);
    refused("GET  / HTTP/1.1\r\n\r\n", 400, Fault::Target);
    refused("GET /a b HTTP/1.1\r\n\r\n", 400, Fault::Version);
    complete("GET / HTTP/1.0\r\n\r\n");
}

#[test]
fn a13_limits() {
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
    complete(&fields(100));
    refused(&fields(101), 431, Fault::TooManyFields);
    refused(&format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(65 << 10)), 431, Fault::SectionTooLarge);
    refused(&format!("GET / HTTP/1.1\r\na: {}", "b".repeat(65 << 10)), 431, Fault::SectionTooLarge);
    refused(&format!("GET /{} HTTP/1.1\r\n\r\n", "b".repeat(16 << 10)), 414, Fault::TargetTooLong);
    refused(&format!("GET /{}", "b".repeat(17 << 10)), 414, Fault::TargetTooLong);
    complete(&format!("GET /{} HTTP/1.1\r\n\r\n", "b".repeat((16 << 10) - 1)));
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    refused(&format!("{chunked}{}", "a: b\r\n".repeat(101)), 431, Fault::TooManyFields);
}

#[test]
fn a13_the_buffer_is_freed() {
    let mut scanner = HeadScanner::requests(Limits::default());
    for _ in 0..64 {
        let _ = scanner.scan(&[b'a'; 1024]);
    }
    assert_eq!(scanner.carry.capacity(), 0);
}

#[test]
fn a17_pipelined_requests_are_followed() {
    let one = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n";
    complete(&one.repeat(1000));
    assert_eq!(passes(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET ").end(), Err(Fault::Truncated));
}

#[test]
fn a18_garbage_after_a_request() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\x01\x02\r\n";
    let refusal = request(text.as_bytes()).expect_err("garbage");
    assert_eq!((refusal.fault, &text[refusal.at..]), (Fault::Method, "\x01\x02\r\n"));
    refused("GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\n", 400, Fault::Method);
}

#[test]
fn a19_any_method_may_have_a_body() {
    complete("GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiDELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a22_interim_responses_are_counted() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let many = |n: usize| format!("{}{last}", interim.repeat(n));
    assert_eq!(asked(Method::GET, false).scan(many(32).as_bytes()), Ok(Progress::All));
    bad_response(&many(33), Fault::TooManyInterim);
}

#[test]
fn a24_response_framing() {
    bad_response(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::TwoLengths,
    );
    bad_response("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", Fault::ContentLengths);
    bad_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n", Fault::ChunkSize);
    bad_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::TransferCoding);
    bad_response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncoding);
    bad_response("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nabcd", Fault::BodyForbidden);
    bad_response("HTTP/1.1 204 No Content\r\n\r\nabcd", Fault::Unasked);
    bad_response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd", Fault::Unasked);
    bad_response("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab", Fault::Unasked);
    bad_response("HTTP/1.1 101 Switching Protocols\r\n\r\n", Fault::Switch);
    for line in
        ["HTTP/1.1 20 OK", "HTTP/1.1 2000", "HTTP/1.1 099 x", "HTTP/1.1  200", "HTTP/1.1200", "HTTP/1.1"]
    {
        bad_response(&format!("{line}\r\n\r\n"), Fault::StatusLine);
    }
    bad_response("SSH-2.0-OpenSSH\r\n", Fault::Version);
    let mut unasked = HeadScanner::responses(Limits::default());
    assert_eq!(unasked.scan(b"HTTP/1.1 200 OK\r\n").expect_err("unasked").fault, Fault::Unasked);
}

#[test]
fn a24_responses_that_are_sound() {
    let whole = |method: Method, text: &str| {
        let mut scanner = asked(method, false);
        assert_eq!(scanner.scan(text.as_bytes()), Ok(Progress::All), "{text:?}");
        assert_eq!(scanner.end(), Ok(()), "{text:?}");
        scanner
    };
    whole(Method::GET, "HTTP/1.1 200\r\n\r\nuntil the end");
    whole(Method::GET, "HTTP/1.1 200 \u{e9}t\u{e9}\r\nContent-Length: 2\r\n\r\nab");
    whole(Method::GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    whole(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n");
    whole(Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n");
    let mut kept = whole(
        Method::GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\n\r\n",
    );
    assert!(kept.between_messages());
    kept.asked(&Method::GET, false);
    assert_eq!(kept.scan(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(Progress::All));
}

#[test]
fn a25_the_connection_ends_inside_a_message() {
    for text in [
        "HTTP/1.1 200 OK\r\n",
        "HTT",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ] {
        let mut scanner = asked(Method::GET, false);
        assert_eq!(scanner.scan(text.as_bytes()), Ok(Progress::All), "{text:?}");
        assert_eq!(scanner.end(), Err(Fault::Truncated), "{text:?}");
    }
}

#[test]
fn b12_a_fragment_in_the_target() {
    refused("GET /a#b HTTP/1.1\r\n\r\n", 400, Fault::Target);
}

#[test]
fn g21_what_follows_an_upgrade_is_held() {
    let first = "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let text = format!("{first}GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut scanner = HeadScanner::requests(Limits::default());
    assert_eq!(scanner.scan(text.as_bytes()), Ok(Progress::Held(first.len())));
    assert_eq!(scanner.scan(b"more"), Ok(Progress::Held(0)));
    scanner.stay();
    assert_eq!(scanner.scan(&text.as_bytes()[first.len()..]), Ok(Progress::All));
    assert!(scanner.between_messages() && !scanner.is_tunnel());
}

#[test]
fn g21_a_tunnel_only_after_101() {
    let mut scanner = passes(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\na");
    scanner.tunnel();
    assert!(!scanner.is_tunnel());
    assert_eq!(scanner.scan(b"b\0\x01 anything"), Ok(Progress::All));
    assert!(scanner.is_tunnel());
    let mut upstream = asked(Method::GET, true);
    assert_eq!(upstream.scan(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\0\x01"), Ok(Progress::All));
    assert!(upstream.is_tunnel());
    let mut refused = asked(Method::GET, true);
    assert_eq!(refused.scan(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(Progress::All));
    assert!(!refused.is_tunnel());
}

#[test]
fn g21_connect_is_held_and_has_no_body() {
    let mut scanner = passes(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_eq!(scanner.scan(b"\x16\x03"), Ok(Progress::Held(0)));
    refused("CONNECT a:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 400, Fault::BodyForbidden);
    let mut upstream = asked(Method::CONNECT, false);
    assert_eq!(upstream.scan(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x16"), Ok(Progress::All));
    assert!(upstream.is_tunnel());
}

// === properties ===

/// Messages, mostly sound, put together from parts that matter to framing.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        8 => Just("GET /a?b HTTP/1.1\r\n"), 4 => Just("POST / HTTP/1.1\r\n"), 1 => Just("\r\n"), 1 => Just("a b\r\n"),
        1 => Just("CONNECT a:1 HTTP/1.1\r\n"), 1 => Just("GET / HTTP/1.0\r\n"), 1 => Just("HTTP/1.1 200 OK\r\n"),
        1 => Just("GET / HTTP/1"), 1 => Just("HTTP/1.1 100 Continue\r\n"), 1 => Just("GET /long/long/long/target/x HTTP/1.1\r\n"),
    ];
    let field = prop_oneof![
        8 => Just("Host: a\r\n"), 2 => Just("Content-Length: 5\r\n"), 2 => Just("Transfer-Encoding: chunked\r\n"),
        4 => Just("x-y:\t\u{e9} \r\n"), 1 => Just("Upgrade: x\r\n"), 1 => Just("a: b\n"), 1 => Just(" c\r\n"),
    ];
    let body = prop_oneof![
        6 => Just(""), 2 => Just("abcde"), 4 => Just("5\r\nabcde\r\n0\r\n\r\n"), 1 => Just("3;x\r\nabc\r\n0\r\na: b\r\n\r\n"),
        1 => Just("5 \r\n"), 1 => Just("1\r\na\n"),
    ];
    let message = (start, proptest::collection::vec(field, 0..6), body)
        .prop_map(|(start, fields, body)| format!("{start}{}\r\n{body}", fields.concat()).into_bytes());
    let bytes = proptest::collection::vec(message, 1..4).prop_map(|m| m.concat());
    (bytes, proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(mut bytes, m)| {
            if let Some((index, byte)) = m {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        },
    )
}

fn small() -> Limits {
    Limits { target: 16, section: 120, fields: 4, interim: 1 }
}

type Verdict = (Result<bool, (u16, Fault)>, Result<(), Fault>, bool);

fn verdict<'a>(mut scanner: HeadScanner, pieces: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let mut outcome = Ok(false);
    for piece in pieces {
        match scanner.scan(piece) {
            Ok(Progress::All) => {}
            Ok(Progress::Held(_)) => outcome = Ok(true),
            Err(refusal) => return (Err((refusal.status, refusal.fault)), Ok(()), false),
        }
    }
    (outcome, scanner.end(), scanner.in_head())
}

fn cut<'a>(bytes: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = at.iter().map(|i| i.index(bytes.len())).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_verdict_does_not_depend_on_the_cuts(
        bytes in stream(), at in proptest::collection::vec(any::<prop::sample::Index>(), 0..8), tight: bool
    ) {
        let limits = if tight { small() } else { Limits::default() };
        let response = || { let mut s = HeadScanner::responses(limits); s.asked(&Method::GET, true); s };
        for make in [&|| HeadScanner::requests(limits) as HeadScanner, &response as &dyn Fn() -> HeadScanner] {
            let whole = verdict(make(), [bytes.as_slice()].into_iter());
            prop_assert_eq!(whole, verdict(make(), cut(&bytes, &at).into_iter()));
            prop_assert_eq!(whole, verdict(make(), bytes.chunks(1)));
        }
    }

    #[test]
    fn what_passes_is_what_httparse_reads(bytes in stream()) {
        let mut scanner = HeadScanner::requests(Limits::default());
        let Some(end) = bytes.chunks(1).position(|b| scanner.scan(b).is_err() || head_is_over(&scanner)) else {
            return Ok(());
        };
        if !head_is_over(&scanner) { return Ok(()) }
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut parsed = httparse::Request::new(&mut headers);
        prop_assert_eq!(parsed.parse(&bytes), Ok(httparse::Status::Complete(end + 1)));
        let mut rest = &bytes[bytes.iter().position(|b| !b"\r\n".contains(b)).unwrap_or(0)..];
        let (line, used) = lex::request_line(rest).unwrap().unwrap();
        prop_assert_eq!((line.old, line.target), (parsed.version == Some(0), parsed.path.unwrap().len()));
        rest = &rest[used..];
        for header in parsed.headers {
            let (name, value, used) = lex::field(rest).unwrap().unwrap();
            prop_assert_eq!((name, value.trim_ascii()), (header.name.as_bytes(), header.value.trim_ascii()));
            rest = &rest[used..];
        }
        prop_assert!(rest.starts_with(b"\r\n"));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&bytes);
        let _ = asked(Method::GET, true).scan(&bytes);
    }
}

/// Whether the first head has just been read to its end.
fn head_is_over(scanner: &HeadScanner) -> bool {
    match scanner.state {
        State::Start { blank } => !blank && scanner.used > 0,
        State::Length(_) | State::ChunkSize | State::Held => true,
        _ => false,
    }
}

#[test]
fn a_head_that_is_not_whole_is_counted_from_its_first_byte() {
    let mut scanner = HeadScanner::requests(Limits::default());
    let first = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let second = "GET /2 HTTP/1.1\r\nHost: b\r\nX";
    assert_eq!(scanner.scan(format!("{first}{second}").as_bytes()), Ok(Progress::All));
    assert_eq!(scanner.head_so_far(), second.len());
    assert_eq!(scanner.scan(b": y\r\n\r\n"), Ok(Progress::All));
    assert_eq!(scanner.head_so_far(), 0);
}

#[test]
fn a6_a_fault_in_a_body_says_so() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(request(format!("{head}x\r\n").as_bytes()).expect_err("chunk").in_body);
    assert!(!request(b"GET / HTTP/1.1\nHost: a\r\n\r\n").expect_err("line").in_body);
}
