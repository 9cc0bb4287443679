//! The page of a program that runs, asked as browsers and programs ask, and as nobody should.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::program::{Running, json, pictures, repository};

/// A board that has looked at six pictures, and its page.
struct Board {
    running: Running,
    _folders: [tempfile::TempDir; 2],
    store: String,
    address: String,
}

/// An answer.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

impl Board {
    fn start(arguments: &[&str]) -> Board {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        pictures(folders[0].path());
        std::fs::write(folders[0].path().join("10.txt"), "an owl <script>alert(1)</script> on sand\n").unwrap();
        std::fs::write(folders[0].path().join("11.txt"), "an elephant\u{1b}[31m on grass\n").unwrap();
        let source = format!("folder:{}", folders[0].path().display());
        let store = folders[1].path().display().to_string();
        let mut running =
            Running::start_with(&[&["run", "--camera", &source, "--store", &store], arguments].concat(), &[]);
        running.until("the page is there", 1);
        let port = running.told().split("address=").nth(1).unwrap().split(':').nth(1).unwrap();
        let port = port.split_whitespace().next().unwrap();
        let address = format!("127.0.0.1:{port}");
        running.until(" frame=", 6);
        Board { running, _folders: folders, store, address }
    }

    /// Sends a request as it is written, but for its host.
    fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // It may have answered and gone before all is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request += &format!("Host: {}\r\n", self.address);
        }
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        let answer = self.raw(&[request.as_bytes(), b"\r\n", body].concat());
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{line}: no answer"));
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: answer[end + 4..].to_vec() }
    }

    fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[], b"")
    }

    fn made(&self, what: &[&str], key: &str) -> String {
        let made = json(&[&["page"], what, &["--store", &self.store, "--json"]].concat());
        made[0][key].as_str().or_else(|| made[0][key][0].as_str()).unwrap().to_owned()
    }

    /// The cookie of a browser that has opened a link.
    fn session(&self) -> String {
        let link = self.made(&["link"], "links");
        let path = format!("/enter?{}", link.split_once('?').unwrap().1);
        let entered = self.get(&path);
        assert_eq!((entered.status, entered.header("location")), (303, Some("/")), "{}", entered.head);
        assert_eq!(self.get(&path).status, 401, "a link works once");
        let cookie = entered.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    /// The pairs, the newest first, once so many are safe.
    fn pairs(&self, least: usize) -> Vec<Value> {
        for _ in 0..100 {
            let pairs = self.get("/pairs").json()["pairs"].as_array().unwrap().clone();
            if pairs.len() >= least {
                return pairs;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the pairs were not kept within ten seconds");
    }
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const PERSON: (&str, &str) = ("Accept", "text/html");

#[test]
fn on_the_board_everybody_reads_and_what_is_shown_is_escaped() {
    let board = Board::start(&["--page", "127.0.0.1:0"]);
    let pairs = board.pairs(6);
    let home = board.ask("GET /", &[PERSON], b"");
    assert_eq!(home.status, 200);
    let policy = home.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let owl = pairs.iter().find(|pair| pair["all_texts"].to_string().contains("<script>")).unwrap();
    let shown = board.ask(&format!("GET /pairs/{}", owl["pair"].as_str().unwrap()), &[PERSON], b"");
    assert!(shown.text().contains("an owl &lt;script&gt;alert(1)&lt;/script&gt; on sand"), "{}", shown.text());
    for page in [home.text(), shown.text()] {
        assert!(!page.contains("<script>") && !page.contains('\u{1b}'), "{page}");
        // Nothing is loaded from elsewhere.
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("style="), "{page}");
    }
    let query = board.ask("GET /search?q=%3Cscript%3Ealert(1)%1b%5B31m%3C/script%3E", &[PERSON], b"");
    assert!(query.text().contains("&lt;script&gt;") && !query.text().contains("<script>"), "{}", query.text());
    assert!(!query.text().contains('\u{1b}'));

    let id = owl["pair"].as_str().unwrap();
    let picture = board.get(&format!("/pairs/{id}.jpg"));
    assert!(picture.status == 200 && picture.body.starts_with(b"\xff\xd8\xff"));
    assert!(board.get(&format!("/pairs/{id}.jpg?small")).body.starts_with(b"\xff\xd8\xff"));
    assert!(board.get("/look.jpg").body.starts_with(b"\xff\xd8\xff"));
    assert!(board.get("/live.jpg").body.starts_with(b"\xff\xd8\xff"));
    let state = board.get("/state").json();
    assert_eq!(
        (&state["look"]["caption"], &state["sync"]["state"]),
        (&"an elephant on grass".into(), &"not-enrolled".into())
    );
    let metrics = board.get("/metrics");
    assert!(metrics.text().contains("\nedgeblip_up 1\n"), "{}", metrics.text());
    for (path, status) in [("/nothing", 404), ("/pairs/9-9", 404), ("/pairs/x", 404), ("/pairs?behind=x", 400)] {
        assert_eq!(board.get(path).status, status, "{path}");
    }
}

#[test]
fn pairs_are_found_by_what_their_pictures_show() {
    let board = Board::start(&["--page", "127.0.0.1:0"]);
    board.pairs(6);
    for (words, caption) in [("three+tigers+on+water", "three tigers on water"), ("two+bears", "two bears on sand")] {
        let found = board.get(&format!("/search?q={words}")).json();
        let first = &found["pairs"][0]["all_texts"][0]["text"];
        // A rejected picture is not kept, and so not found.
        let is_kept =
            board.pairs(6).iter().any(|pair| pair["picture"].is_string() && pair["all_texts"][0]["text"] == caption);
        assert!(!is_kept || first == caption, "{words}: {found}");
        assert!(found["compared"].as_u64().unwrap() >= 3, "{found}");
    }
}

#[test]
fn nothing_changes_without_a_token_and_what_people_say_is_kept() {
    let board = Board::start(&["--page", "127.0.0.1:0"]);
    let pairs = board.pairs(6);
    let with_picture: Vec<&str> =
        pairs.iter().filter(|pair| pair["picture"].is_string()).map(|pair| pair["pair"].as_str().unwrap()).collect();
    let label = format!("POST /pairs/{}/label", with_picture[0]);
    let rewrite = b"action=rewrite&text=my+own+words&back=%2Fpairs";
    let state = |id: &str| board.get(&format!("/pairs/{id}")).json();
    let origin = format!("http://{}", board.address);

    assert_eq!(board.ask(&label, &[FORM], rewrite).status, 401);
    assert_eq!(board.ask(&label, &[FORM, ("Authorization", "Bearer p.1.2.3")], rewrite).status, 401);
    assert_eq!(board.ask("POST /take", &[], b"").status, 401);
    let cookie = board.session();
    let session = ("Cookie", cookie.as_str());
    // A browser that is in, on the page of another site, or on none.
    for headers in [
        vec![FORM, session],
        vec![FORM, session, ("Origin", "http://evil.example")],
        vec![FORM, session, ("Origin", "null")],
        vec![FORM, session, ("Sec-Fetch-Site", "cross-site")],
    ] {
        assert_eq!(board.ask(&label, &headers, rewrite).status, 403, "{headers:?}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        assert_eq!(board.ask("GET /", &[("Host", host)], b"").status, 421, "{host}");
    }
    let foreign = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    assert_eq!(board.ask("GET /look.jpg", &foreign, b"").status, 403);
    assert_eq!(state(with_picture[0])["labels"].as_array().unwrap().len(), 0, "nothing has changed");

    let person = [FORM, session, PERSON, ("Origin", &origin)];
    let done = board.ask(&label, &person, rewrite);
    assert_eq!((done.status, done.header("location")), (303, Some("/pairs")), "{}", done.head);
    let labelled = state(with_picture[0]);
    assert_eq!(
        (&labelled["texts"][0]["text"], &labelled["texts"][0]["origin"]),
        (&"my own words".into(), &"human".into())
    );
    let elsewhere = board.ask(&label, &person, b"action=accept&back=%2F%2Fevil.example");
    assert_eq!(elsewhere.header("location"), Some("/"), "{}", elsewhere.head);
    for (body, status) in [
        (&b"action=rewrite&text="[..], 422),
        (b"action=rewrite&text=a%1b%5B31m", 422),
        (b"action=forget", 422),
        (b"", 422),
    ] {
        assert_eq!(board.ask(&label, &person, body).status, status, "{}", String::from_utf8_lossy(body));
    }
    let token = format!("Bearer {}", board.made(&["token"], "token"));
    let program = [FORM, ("Authorization", token.as_str())];
    assert_eq!(board.ask(&format!("POST /pairs/{}/label", with_picture[1]), &program, b"action=reject").status, 200);
    assert_eq!(state(with_picture[1])["state"], "rejected");
    assert_eq!(board.ask("POST /pairs/9-9/label", &program, b"action=reject").status, 404);
    // A folder has no frame to take now, but the command is accepted.
    assert_eq!(board.ask("POST /take", &program[1..], "a note".as_bytes()).status, 200);
    json(&["page", "revoke", "--store", &board.store, "--json"]);
    assert_eq!(board.ask(&label, &program, b"action=accept").status, 401);
    assert_eq!(board.ask(&label, &person, b"action=accept").status, 401);

    let Board { running, store, _folders, .. } = board;
    running.stop();
    let pair = json(&["pairs", "show", with_picture[0], "--store", &store, "--json"]);
    assert!(pair[0]["labels"].to_string().contains("my own words"), "{pair:?}");
}

#[test]
fn in_the_network_nobody_reads_without_a_token() {
    let board = Board::start(&["--page", "0.0.0.0:0"]);
    for path in ["/", "/pairs", "/state", "/metrics", "/look.jpg", "/live.jpg", "/search?q=owl"] {
        assert_eq!(board.get(path).status, 401, "{path}");
    }
    assert_eq!(board.ask("POST /caption", &[], b"x").status, 401);
    assert_eq!(board.get("/page.css").status, 200);
    let refused = board.ask("GET /", &[PERSON], b"");
    assert!(refused.text().contains("edgeblip page link"), "{}", refused.text());
    let cookie = board.session();
    assert_eq!(board.ask("GET /", &[("Cookie", &cookie)], b"").status, 200);
    let token = format!("Bearer {}", board.made(&["token"], "token"));
    assert_eq!(board.ask("GET /metrics", &[("Authorization", &token)], b"").status, 200);
}

#[test]
fn a_picture_of_anybody_is_captioned_and_what_is_none_is_refused() {
    let board = Board::start(&["--page", "127.0.0.1:0"]);
    let picture = std::fs::read(repository().join("examples/images/05.png")).unwrap();
    let captioned = board.ask("POST /caption", &[], &picture);
    assert_eq!(captioned.json()["caption"], "three tigers on water");
    assert!(captioned.json()["match"].as_f64().unwrap() > 0.3);
    assert_eq!(board.ask("POST /caption", &[], b"").status, 422);
    assert_eq!(board.ask("POST /caption", &[], &picture[..2000]).status, 422);
    assert_eq!(board.ask("POST /caption", &[("Origin", "http://evil.example")], &picture).status, 403);
    assert_eq!(board.ask("POST /caption", &[], &vec![b'x'; 17 << 20]).status, 413);
}

#[test]
fn nothing_that_is_sent_stops_the_board() {
    let board = Board::start(&["--page", "127.0.0.1:0"]);
    let long = vec![b'a'; 1 << 20];
    let requests: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        [b"GET /", &long[..], b" HTTP/1.1\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", &long[..], b"\r\n\r\n"].concat(),
        [&b"GET / HTTP/1.1\r\n"[..], &b"X: y\r\n".repeat(5000), b"\r\n"].concat(),
        b"GET /pairs/%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /search?q=%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
        b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /caption HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nCookie: edgeblip=\xff\r\nConnection: close\r\n\r\n".to_vec(),
    ];
    for request in &requests {
        let answer = board.raw(request);
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
    }
    // As many connections as are taken, none of which says anything.
    let quiet: Vec<TcpStream> = (0..63).map(|_| TcpStream::connect(&board.address).unwrap()).collect();
    assert_eq!(board.get("/state").status, 200);
    drop(quiet);
    board.running.signal(Signal::HUP);
    assert_eq!(board.get("/state").status, 200);
    let log = board.running.stop();
    assert!(!log.contains("panicked"), "{log}");
}
