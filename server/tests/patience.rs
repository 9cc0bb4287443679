//! Who dawdles, hangs up, or is in the middle of something when the host stops.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use exchange::Digest;
use objects::Remote;
use server::{Folder, Patience, router};

use crate::raw::{Ask, answer};
use crate::world::{ROOMY, World, device};

const SHORT: Patience =
    Patience { quiet: Duration::from_millis(300), for_a_kib: Duration::ZERO, last: Duration::from_secs(10) };

/// Waits until something is so.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

fn arriving(world: &World) -> usize {
    fs::read_dir(world.host().join("arriving")).unwrap().count()
}

/// The head of a request and half of its body.
fn half<'a>(world: &World, ask: &Ask<'a>) -> (TcpStream, &'a [u8]) {
    let head = ask.head(world.address, &ask.signed(world.address, &world.operator));
    let mut stream = TcpStream::connect(world.address).unwrap();
    let (first, second) = ask.body.split_at(ask.body.len() / 2);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(first).unwrap();
    until(|| arriving(world) == 1);
    (stream, second)
}

#[test]
fn an_upload_that_is_cut_leaves_nothing() {
    let world = World::open(ROOMY);
    let shard = vec![7; 1 << 20];
    let name = device("garden").shard(Digest::of(&shard));
    for how in [Shutdown::Write, Shutdown::Both] {
        let (stream, _) = half(&world, &Ask::new("PUT", &name, &shard));
        stream.shutdown(how).unwrap();
        until(|| arriving(&world) == 0);
    }
    assert!(world.operator().list("").unwrap().is_empty());
}

#[test]
fn whoever_sends_nothing_is_sent_away() {
    let world = World::patient(ROOMY, SHORT);
    let (stream, _) = half(&world, &Ask::new("PUT", "some", &[7; 1 << 20]));
    assert_eq!(answer(stream).code(), "IncompleteBody");
    until(|| arriving(&world) == 0);
    // A form is read before anybody asks whose it is.
    let form = Ask::new("POST", "", &[7; 100]);
    let mut stream = TcpStream::connect(world.address).unwrap();
    stream.write_all(form.head(world.address, "content-type: multipart/form-data; boundary=b\r\n").as_bytes()).unwrap();
    assert_eq!(answer(stream).status, 400);
    // Not even a head, half a head, and nothing after an answer.
    let ask = Ask::new("GET", "some", b"");
    let whole =
        ask.head(world.address, &ask.signed(world.address, &world.operator)).replace("connection: close\r\n", "");
    for head in ["", "GET / HT", &whole] {
        let mut stream = TcpStream::connect(world.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut heard = Vec::new();
        // The end, or a reset.
        let _ = stream.read_to_end(&mut heard);
    }
}

#[test]
fn whoever_sends_byte_by_byte_gets_no_further() {
    let world = World::patient(ROOMY, SHORT);
    let (mut stream, rest) = half(&world, &Ask::new("PUT", "some", &[7; 1 << 20]));
    let mut bytes = rest.chunks(1);
    let broken = loop {
        if let Err(error) = stream.write_all(bytes.next().unwrap()) {
            break error;
        }
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(_) => return,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(broken.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{broken}");
}

#[test]
fn whoever_takes_nothing_is_sent_away() {
    let world = World::patient(ROOMY, SHORT);
    fs::write(world.host().join("objects/large"), vec![7; 32 << 20]).unwrap();
    let ask = Ask::new("GET", "large", b"");
    let head = ask.head(world.address, &ask.signed(world.address, &world.operator));
    let mut stream = TcpStream::connect(world.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    until(|| world.counters.text(0).contains("edgeblip_host_connections 0\n"));
}

#[test]
fn a_host_that_stops_ends_what_it_has_begun() {
    let mut world = World::open(ROOMY);
    let (mut stream, rest) = half(&world, &Ask::new("PUT", "some", &[7; 1 << 20]));
    world.ask_to_stop();
    until(|| TcpStream::connect(world.address).is_err());
    stream.write_all(rest).unwrap();
    assert_eq!(answer(stream).status, 200);
    world.wait();
    assert_eq!(fs::metadata(world.host().join("objects/some")).unwrap().len(), 1 << 20);
}

#[test]
fn a_host_that_stops_waits_for_nobody_for_long() {
    let mut world = World::patient(ROOMY, Patience { last: Duration::from_millis(100), ..Patience::default() });
    let (_stream, _) = half(&world, &Ask::new("PUT", "some", &[7; 1 << 20]));
    world.ask_to_stop();
    world.wait();
}

#[test]
fn a_folder_is_served_once() {
    let world = World::open(ROOMY);
    let error = Folder::open(&world.host()).unwrap_err();
    assert!(error.to_string().contains("another program serves this folder"), "{error}");
}

#[test]
fn the_counters_say_what_was_asked_and_what_was_refused() {
    let world = World::open(ROOMY);
    let (mut garden, mut operator) = (world.board("garden"), world.operator());
    operator.put("some", b"0123456789").unwrap();
    operator.get("some", 10).unwrap().unwrap();
    garden.get("some", 10).unwrap_err();
    let text = world.counters.text(7);
    for line in [
        "requests_total{operation=\"PutObject\",status=\"200\"} 1",
        "requests_total{operation=\"GetObject\",status=\"200\"} 1",
        "requests_total{operation=\"GetObject\",status=\"403\"} 1",
        "refused_total{reason=\"not-its-own\"} 1",
        "request_seconds_bucket{le=\"+Inf\"} 3",
        "request_seconds_count 3",
        "received_bytes_total 10",
        "sent_bytes_total 10",
        "requests_in_flight 0",
        "free_bytes 7",
    ] {
        assert!(text.contains(&format!("edgeblip_host_{line}\n")), "{line} is not in\n{text}");
    }
    // Other pages stand beside it.
    let place = tempfile::tempdir().unwrap();
    let other = axum::Router::new().route("/other", axum::routing::get(|| async { "other" }));
    let _: axum::Router = router(world.counters.clone(), Folder::open(place.path()).unwrap()).merge(other);
}
