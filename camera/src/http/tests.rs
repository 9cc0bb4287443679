//! Against a server that says what a test wants it to.

use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;
use crate::stop::{Stopper, stopper};

fn patience() -> Patience {
    Patience::new(Duration::from_secs(20))
}

struct Server {
    url: NetworkUrl,
    requests: JoinHandle<Vec<String>>,
}

/// Answers each connection in turn, in small writes, and closes it.
fn server(answers: Vec<Vec<u8>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = NetworkUrl::new(&format!("http://127.0.0.1:{}/a?b", listener.local_addr().unwrap().port())).unwrap();
    let requests = std::thread::spawn(move || {
        let answer = |answer: Vec<u8>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            // The client may hang up before it has read all.
            let _ = answer.chunks(1000).try_for_each(|piece| stream.write_all(piece));
            String::from_utf8(request).unwrap()
        };
        answers.into_iter().map(answer).collect()
    });
    Server { url, requests }
}

fn stop() -> (Stopper, Stop) {
    stopper().unwrap()
}

fn fetch(answer: &[u8]) -> Result<Vec<u8>, CameraError> {
    let (_stopper, stop) = stop();
    let server = server(vec![answer.to_vec()]);
    let answer = get(&server.url, &stop, patience());
    let mut body = Vec::new();
    let read = answer.and_then(|mut answer| {
        while answer.read(&mut body, &stop, patience())? > 0 {}
        Ok(())
    });
    server.requests.join().unwrap();
    read.map(|()| body)
}

fn message(answer: &[u8]) -> String {
    fetch(answer).unwrap_err().to_string().split_once(" answers ").map_or_else(String::new, |(_, rest)| rest.to_owned())
}

#[test]
fn bodies_are_read_to_their_end_however_it_is_marked() {
    assert_eq!(fetch(b"HTTP/1.0 200 OK\r\n\r\nall of it").unwrap(), b"all of it");
    assert_eq!(fetch(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall of it").unwrap(), b"all");
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n5;x=y\r\nof it\r\n0\r\n\r\nmore";
    assert_eq!(fetch(chunked).unwrap(), b"all of it");
    let long = vec![b'x'; 100_000];
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", long.len());
    assert_eq!(fetch(&[head.as_bytes(), &long, b"\r\n0\r\n"].concat()).unwrap(), long);
}

#[test]
fn answers_that_are_none_say_what_is_wrong() {
    assert_eq!(message(b"HTTP/1.1 404 Not Found\r\n\r\n"), "404 Not Found; check the path of its URL");
    assert!(message(b"HTTP/1.1 401 No\r\n\r\n").starts_with("401; put user:password@ before the host"));
    assert!(message(b"RTSP/1.0 200 OK\r\n\r\n").starts_with("something that is not HTTP"));
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 60_000]].concat();
    assert_eq!(message(&endless), "with headers that do not end");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert!(message(many.as_bytes()).starts_with("something that is not HTTP"));
    for size in ["", "x", "-1", "fffffffffffffffff", &"1".repeat(1000)] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n");
        assert_eq!(message(answer.as_bytes()), "with a chunk of no size", "{size}");
    }
    let closed = |answer| matches!(fetch(answer), Err(CameraError::Closed { .. }));
    assert!(closed(b"HTTP/1.1 200"));
    assert!(closed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"));
    assert!(closed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nshort"));
}

#[test]
fn requests_carry_the_password_to_their_own_host_alone() {
    let (_stopper, stop) = stop();
    let other = server(vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()]);
    let away = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\n\r\n", other.url);
    let away = away.replace("?…", "?b");
    let first = server(vec![b"HTTP/1.1 302 Found\r\nLocation: /c\r\n\r\n".to_vec(), away.into_bytes()]);
    let url = first.url.secret().replace("http://", "http://me:sec%72et@");
    get(&NetworkUrl::new(&url).unwrap(), &stop, patience()).unwrap();
    let requests = first.requests.join().unwrap();
    assert!(requests[0].starts_with("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:"), "{requests:?}");
    assert!(requests[1].starts_with("GET /c HTTP/1.1\r\n"), "{requests:?}");
    // Source: base64 of "me:secret", by coreutils.
    assert!(requests.iter().all(|request| request.contains("\r\nAuthorization: Basic bWU6c2VjcmV0\r\n")));
    assert!(!other.requests.join().unwrap()[0].contains("Authorization"));
}

#[test]
fn redirections_end() {
    let (_stopper, stop) = stop();
    let round = server(vec![b"HTTP/1.1 301 Moved\r\nLocation: /again\r\n\r\n".to_vec(); 4]);
    let error = get(&round.url, &stop, patience()).unwrap_err().to_string();
    assert!(error.ends_with("answers with one redirection after another"), "{error}");
    round.requests.join().unwrap();
    let tls = message(b"HTTP/1.1 301 Moved\r\nLocation: https://camera/\r\n\r\n");
    assert!(tls.ends_with("put ffmpeg: before the URL"), "{tls}");
}

#[test]
fn silence_and_the_word_to_stop_end_a_read() {
    let (stopper, stop) = stop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = NetworkUrl::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let silent = get(&url, &stop, Patience::new(Duration::from_millis(20))).unwrap_err();
    assert!(matches!(silent, CameraError::Silent { .. }));
    drop(stopper);
    assert!(matches!(get(&url, &stop, patience()).unwrap_err(), CameraError::Stopped));
}

#[test]
fn base64_is_that_of_the_standard() {
    // Source: RFC 4648, section 10.
    let vectors =
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
    for (text, coded) in vectors {
        assert_eq!(base64(text.as_bytes()), coded);
    }
    assert_eq!(decoded("a%4"), b"a%4");
    assert_eq!(decoded("%zz%41"), b"%zzA");
}
