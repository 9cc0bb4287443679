//! Servers that do everything wrong, one answer after the other, over real connections.

#![allow(clippy::unwrap_used, reason = "what helps a test may fail as the test does")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exchange::Credentials;
use objects::{Objects, ObjectsError, Options, Remote, RemoteError};

/// What a server does with a request that it has read.
#[derive(Clone)]
enum Act {
    /// Writes these bytes and closes.
    Say(String),
    /// Closes, as a router does that loses its power.
    Hang,
}

/// A server that does one thing after the other, and keeps the heads of the requests.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

fn answer(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Say(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"))
}

impl Server {
    fn doing(acts: Vec<Act>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for act in acts {
                let (mut stream, _) = listener.accept().unwrap();
                kept.lock().unwrap().push(request(&mut stream));
                if let Act::Say(words) = act {
                    // The other side may have gone.
                    let _ = stream.write_all(words.as_bytes());
                }
            }
        });
        Server { port, heads }
    }

    fn s3(&self) -> Objects {
        let url = format!("s3://fleet/north?endpoint=http://127.0.0.1:{}", self.port);
        Objects::open(&url, &options()).unwrap()
    }

    fn webdav(&self) -> Objects {
        Objects::open(&format!("http://127.0.0.1:{}/north", self.port), &options()).unwrap()
    }

    fn head(&self, number: usize) -> String {
        self.heads.lock().unwrap()[number].clone()
    }
}

/// Reads a request with its body; gives its head. A connection that is no HTTP gives what came.
fn request(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return head;
        }
        let line = String::from_utf8_lossy(&line).to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        // A greeting of TLS has no lines.
        if head.is_empty() && !line.contains("http/1.1") {
            return head;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    head
}

fn options() -> Options {
    let credentials = Credentials { user: "garden".to_owned(), secret: "p@ss".to_owned(), region: None };
    Options { credentials: Some(credentials), ..Options::default() }
}

/// A date of S3's in a request's head.
fn signed_at(head: &str) -> &str {
    head.split_once("x-amz-date: ").unwrap().1.split_once('\r').unwrap().0
}

const SKEWED: &str = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large</Message></Error>";

#[test]
fn a_board_in_1970_learns_the_time_and_asks_again() {
    let date = "Date: Fri, 25 Nov 2039 08:00:00 GMT\r\n";
    let acts = vec![
        answer("403 Forbidden", date, SKEWED),
        answer("200 OK", date, "receipt"),
        answer("200 OK", date, "receipt"),
    ];
    let server = Server::doing(acts);
    let mut objects = server.s3();
    assert_eq!(objects.get("a", 100).unwrap().unwrap(), b"receipt");
    assert!(!signed_at(&server.head(0)).starts_with("2039"));
    assert!(signed_at(&server.head(1)).starts_with("20391125t0800"), "{}", server.head(1));
    assert!(objects.ahead_s().unwrap() > 12 * 365 * 24 * 3600);
    // From then on it is right at once.
    objects.get("a", 100).unwrap();
    assert!(signed_at(&server.head(2)).starts_with("20391125t0800"));
    assert!(server.head(2).starts_with("get /fleet/north/a http/1.1"), "{}", server.head(2));
}

#[test]
fn a_board_in_1970_learns_the_time_from_an_answer_without_words() {
    let date = "Date: Fri, 25 Nov 2039 08:00:00 GMT\r\n";
    let server = Server::doing(vec![answer("403 Forbidden", date, ""), answer("404 Not Found", date, "")]);
    let mut objects = server.s3();
    assert_eq!(objects.length("a"), Ok(None));
    assert!(server.head(1).starts_with("head /fleet/north/a http/1.1"), "{}", server.head(1));
    assert!(signed_at(&server.head(1)).starts_with("20391125t0800"), "{}", server.head(1));
    // Whose time is right is not let in, and asks once only.
    let locked = Server::doing(vec![answer("403 Forbidden", "", "")]);
    assert!(matches!(locked.s3().length("a"), Err(RemoteError::Locked(_))));
}

#[test]
fn a_host_that_refuses_the_time_and_tells_none_is_named() {
    let server = Server::doing(vec![answer("403 Forbidden", "", SKEWED)]);
    assert_eq!(server.s3().get("a", 100), Err(RemoteError::Clock));
}

#[test]
fn every_refusal_says_what_to_do_about_it() {
    let message = "<Error><Code>X</Code><Message>why not</Message></Error>";
    for (status, headers, expected) in [
        ("401 Unauthorized", "", "does not let this board in: 401 Unauthorized, why not"),
        ("403 Forbidden", "", "does not let this board in"),
        ("429 Too Many Requests", "Retry-After: 17\r\n", "busy"),
        ("500 Internal Server Error", "", "busy"),
        ("503 Service Unavailable", "Retry-After: soon\r\n", "busy"),
        ("507 Insufficient Storage", "", "busy"),
        ("302 Found", "Location: http://login.example/\r\n", "not the host"),
        ("511 Network Authentication Required", "", "not the host"),
        ("400 Bad Request", "", "refuses"),
        ("413 Content Too Large", "", "refuses"),
    ] {
        for put in [true, false] {
            let server = Server::doing(vec![answer(status, headers, message)]);
            let mut objects = server.s3();
            let asked = if put { objects.put("a", b"bytes") } else { objects.get("a", 100).map(drop) };
            let error = asked.unwrap_err();
            assert!(error.to_string().contains(expected), "{status}: {error}");
            if let RemoteError::Busy { after, .. } = error {
                assert_eq!(after, status.starts_with("429").then_some(Duration::from_secs(17)));
            }
        }
    }
    let server = Server::doing(vec![answer("404 Not Found", "", message), answer("404 Not Found", "", "")]);
    assert_eq!(server.s3().get("a", 100), Ok(None));
    assert_eq!(server.s3().length("a"), Ok(None));
}

#[test]
fn connections_that_break_are_no_answer() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 400\r\nConnection: close\r\n\r\n";
    for act in [
        Act::Hang,
        Act::Say("HTTP/1.1 2".to_owned()),
        Act::Say(whole.to_owned()),
        Act::Say(format!("{whole}half of it")),
        Act::Say("SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
    ] {
        for put in [true, false] {
            let server = Server::doing(vec![act.clone()]);
            let mut objects = server.webdav();
            let asked = if put { objects.put("a", &[7; 100_000]) } else { objects.get("a", 1000).map(drop) };
            assert!(matches!(asked, Err(RemoteError::Offline(_))), "{asked:?}");
        }
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut nobody = Objects::open(&format!("http://127.0.0.1:{port}/north"), &options()).unwrap();
    assert!(matches!(nobody.length("a"), Err(RemoteError::Offline(_))));
}

#[test]
fn an_answer_that_is_too_long_or_without_a_certificate_is_a_strangers() {
    let server = Server::doing(vec![answer("200 OK", "", &"x".repeat(101))]);
    let flood = RemoteError::Stranger("a has more than 100 bytes".to_owned());
    assert_eq!(server.webdav().get("a", 100), Err(flood));
    let server = Server::doing(vec![answer("200 OK", "", "plain")]);
    let mut objects = Objects::open(&format!("https://127.0.0.1:{}/north", server.port), &options()).unwrap();
    let asked = objects.get("a", 100);
    assert!(matches!(asked, Err(RemoteError::Stranger(_))), "{asked:?}");
}

#[test]
fn webdav_gets_the_password() {
    let server = Server::doing(vec![answer("201 Created", "", "")]);
    server.webdav().put("a", b"bytes").unwrap();
    // printf garden:p@ss | base64
    assert!(server.head(0).contains("authorization: basic z2fyzgvuonbac3m=\r\n"), "{}", server.head(0));
    assert!(server.head(0).starts_with("put /north/a http/1.1"), "{}", server.head(0));
}

#[test]
fn places_that_are_none_are_named_without_a_password() {
    let stick = tempfile::tempdir().unwrap();
    let url = format!("file://{}", stick.path().display());
    let mut objects = Objects::open(&url, &Options::default()).unwrap();
    objects.put("devices/a", b"x").unwrap();
    assert_eq!(objects.length("devices/a"), Ok(Some(1)));
    assert_eq!(objects.list("devices").unwrap(), [("devices/a".to_owned(), 1)]);
    objects.remove("devices/a").unwrap();
    objects.remove("devices/a").unwrap();
    assert_eq!(objects.get("devices/a", 9), Ok(None));
    std::fs::remove_dir_all(stick.path()).unwrap();
    assert!(matches!(objects.length("devices/a"), Err(RemoteError::Offline(_))));
    assert!(matches!(Objects::open(&url, &Options::default()), Err(ObjectsError::NoFolder { .. })));
    assert!(matches!(Objects::open("s3://fleet", &Options::default()), Err(ObjectsError::NoCredentials { .. })));
    for url in ["", "fleet", "ftp://user:hidden@host/x", "s3://", "file://host/x", "https://"] {
        let error = Objects::open(url, &options()).err().unwrap().to_string();
        assert!(error.contains("s3://BUCKET") && !error.contains("hidden"), "{error}");
    }
}
