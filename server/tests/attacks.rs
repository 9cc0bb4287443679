//! What strangers, boards that were taken over, and old signatures get.

use std::fs;
use std::os::unix::fs::symlink;

use exchange::{Credentials, Digest};
use jiff::Timestamp;
use objects::{Remote, RemoteError};
use server::Limits;

use crate::raw::{Ask, hmac_of_version_2};
use crate::world::{ROOMY, World, device};

/// Seconds that a request's time may be off.
const SKEW_S: i64 = 15 * 60;

#[test]
fn every_key_may_do_what_the_table_says() {
    let mut world = World::open(ROOMY);
    let (garden, shed) = (world.key_of("garden"), world.key_of("shed"));
    let revoked = world.key_of("old");
    world.home().revoke(&device("old")).unwrap();
    let stranger = Credentials { user: "NOBODY".to_owned(), ..garden.clone() };
    let body = b"some bytes";
    let digest = Digest::of(body);
    let places = [
        format!("devices/garden/shards/{digest}.tar"),
        format!("devices/garden/health/{digest}.json"),
        format!("devices/garden/receipts/{digest}.json"),
        "releases/newest.json".to_owned(),
        "devices/garden/else".to_owned(),
        "anything".to_owned(),
    ];
    for place in &places {
        world.operator().put(place, body).unwrap();
    }
    // Of garden's own key: PUT, GET, HEAD, DELETE.
    let table = [
        [200, 403, 200, 403],
        [200, 403, 200, 403],
        [403, 200, 200, 403],
        [403, 200, 200, 403],
        [403, 403, 403, 403],
        [403, 403, 403, 403],
    ];
    for (place, own) in places.iter().zip(table) {
        let is_release = place.starts_with("releases/");
        for (method, own) in ["PUT", "GET", "HEAD", "DELETE"].into_iter().zip(own) {
            let ask = Ask::new(method, place, if method == "PUT" { body } else { b"" });
            let status = |key: &Credentials| ask.of(world.address, key).status;
            assert_eq!(status(&garden), own, "garden: {method} {place}");
            assert_eq!(status(&shed), if is_release { own } else { 403 }, "shed: {method} {place}");
            assert_eq!([status(&revoked), status(&stranger)], [403, 403], "{method} {place}");
            assert_eq!(ask.with(world.address, "").status, 403, "unsigned: {method} {place}");
        }
    }
    for (query, method) in [("list-type=2", "GET"), ("delete=", "POST"), ("", "HEAD"), ("acl=", "GET")] {
        let status = Ask { query, ..Ask::new(method, "", b"") }.of(world.address, &garden).status;
        assert_eq!(status, 403, "{method} ?{query}");
    }
    for place in &places {
        assert_eq!(Ask::new("DELETE", place, b"").of(world.address, &world.operator).status, 204, "{place}");
    }
    world.ask_to_stop();
}

#[test]
fn other_operations_are_not_done_for_the_operator_either() {
    let world = World::open(ROOMY);
    for (method, query) in [("GET", "acl="), ("PUT", "tagging="), ("POST", "uploads=")] {
        let answer = Ask { query, ..Ask::new(method, "some", b"") }.of(world.address, &world.operator);
        assert_eq!((answer.status, answer.code()), (501, "NotImplemented".to_owned()), "{method} ?{query}");
    }
}

#[test]
fn a_request_of_another_time_is_refused_with_the_host_s_own() {
    let world = World::open(ROOMY);
    let now = Timestamp::now().as_second();
    for (at_s, status) in
        [(0, 403), (now - SKEW_S - 60, 403), (now - SKEW_S + 60, 404), (now + SKEW_S + 60, 403), (4_102_444_800, 403)]
    {
        let answer = Ask { at_s, ..Ask::new("GET", "nothing", b"") }.of(world.address, &world.operator);
        assert_eq!(answer.status, status, "{at_s}");
        assert_eq!(answer.code(), if status == 403 { "RequestTimeTooSkewed" } else { "NoSuchKey" });
        assert!(answer.head.contains("\r\ndate: "), "{}", answer.head);
        // The answer to a HEAD says nothing but the time.
        let answer = Ask { at_s, ..Ask::new("HEAD", "nothing", b"") }.of(world.address, &world.operator);
        assert!(answer.status == status && answer.head.contains("\r\ndate: "), "{answer:?}");
    }
}

#[test]
fn signatures_that_hold_for_longer_are_none() {
    let world = World::open(ROOMY);
    world.operator().put("some", b"some").unwrap();
    let Credentials { user, secret, .. } = &world.operator;
    // Version 2 in the header, and in a query that holds until 2100.
    let date = "Thu, 01 Jan 1970 00:00:00 GMT";
    let ask = Ask::new("GET", "some", b"");
    let words = format!("GET\n\n\n{date}\n{}", ask.path());
    let header = format!("date: {date}\r\nauthorization: AWS {user}:{}\r\n", hmac_of_version_2(secret, &words));
    assert_eq!(ask.with(world.address, &header).status, 403);
    let words = format!("GET\n\n\n4102444800\n{}", ask.path());
    let signature = hmac_of_version_2(secret, &words).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for name in ["Signature", "%53ignature"] {
        let query = format!("AWSAccessKeyId={user}&Expires=4102444800&{name}={signature}");
        let ask = Ask { query: &query, ..ask };
        assert_eq!(ask.with(world.address, "").status, 403, "{name}");
        assert_eq!(ask.with(world.address, &ask.signed(world.address, &world.operator)).status, 403, "{name}");
    }
}

#[test]
fn a_form_is_not_read_into_memory() {
    let world = World::open(ROOMY);
    let part = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nx\r\n--b\r\n\
                Content-Disposition: form-data; name=\"file\"; filename=\"x\"\r\nContent-Type: image/jpeg\r\n\r\n";
    let body = [part.as_bytes(), &[b'x'; 1 << 20], b"\r\n--b--\r\n"].concat();
    let answer = Ask::new("POST", "", &body).with(world.address, "content-type: multipart/form-data; boundary=b\r\n");
    assert!(["EntityTooLarge", "MalformedPOSTRequest"].contains(&answer.code().as_str()), "{answer:?}");
}

#[test]
fn names_that_are_paths_lead_nowhere() {
    let world = World::open(ROOMY);
    let (garden, digest) = (world.key_of("garden"), Digest::of(b"x"));
    for name in [
        "../host.key",
        "..%2fhost.key",
        "%2e%2e/host.key",
        "devices/../../host.key",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        ".hidden",
        "a//b",
        "a/./b",
        "a%00b",
        "a%5c..%5cb",
        &format!("devices/garden/shards/../../shed/shards/{digest}.tar"),
        &format!("devices/garden/shards/..%2f..%2fshed/shards/{digest}.tar"),
    ] {
        for method in ["GET", "HEAD", "DELETE", "PUT"] {
            for key in [&garden, &world.operator] {
                let answer = Ask::new(method, name, b"").of(world.address, key);
                assert!((400..=404).contains(&answer.status), "{method} {name}: {answer:?}");
            }
        }
    }
    assert!(world.operator().list("").unwrap().is_empty());
    assert_eq!(fs::read_dir(world.host().join("objects")).unwrap().count(), 0);
}

#[test]
fn a_link_on_the_way_leads_nowhere() {
    let world = World::open(ROOMY);
    let (objects, mut operator) = (world.host().join("objects"), world.operator());
    symlink(world.host(), objects.join("out")).unwrap();
    assert_eq!(operator.get("out/host.key", 1000).unwrap(), None);
    assert_eq!(operator.length("out/host.key").unwrap(), None);
    assert!(matches!(operator.put("out/planted", b"x"), Err(RemoteError::Refused(_))));
    assert!(matches!(operator.put("out/made/planted", b"x"), Err(RemoteError::Refused(_))));
    operator.remove("out/host.key").unwrap();
    assert!(world.host().join("host.key").exists() && !world.host().join("planted").exists());
    assert!(operator.list("out").unwrap().is_empty());
    // A folder's name is no object's.
    operator.put("folder/some", b"x").unwrap();
    assert!(matches!(operator.put("folder", b"x"), Err(RemoteError::Refused(_))));
    assert!(matches!(operator.put("folder/some/more", b"x"), Err(RemoteError::Refused(_))));
    assert_eq!(operator.get("folder", 10).unwrap(), None);
    operator.remove("folder").unwrap();
    assert_eq!(operator.get("folder/some", 10).unwrap().unwrap(), b"x");
}

#[test]
fn a_body_that_is_not_what_was_signed_leaves_nothing() {
    let world = World::open(ROOMY);
    let ask = Ask::new("PUT", "some", b"some bytes");
    let headers = ask.signed(world.address, &world.operator);
    let changed = Ask { body: b"more bytes", ..ask }.with(world.address, &headers);
    assert_eq!((changed.status, changed.code()), (400, "IncompleteBody".to_owned()));
    assert_eq!(world.operator().length("some").unwrap(), None);
}

#[test]
fn whoever_is_still_sending_hears_why_it_is_refused() {
    let world = World::open(Limits { keep_free: u64::MAX, ..ROOMY });
    let mut garden = world.board("garden");
    let shard = vec![7; exchange::shard::SHARD_BYTES];
    let name = device("garden").shard(Digest::of(&shard));
    for _ in 0..5 {
        let full = garden.put(&name, &shard).unwrap_err();
        assert!(matches!(&full, RemoteError::Busy { after: Some(_), .. }), "{full:?}");
    }
    world.home().revoke(&device("garden")).unwrap();
    for _ in 0..5 {
        let locked = garden.put(&name, &shard).unwrap_err();
        assert!(matches!(&locked, RemoteError::Locked(_)), "{locked:?}");
    }
}

#[test]
fn ranges_are_those_of_http() {
    let world = World::open(ROOMY);
    world.operator().put("some", b"0123456789").unwrap();
    for (range, status, body) in [
        ("bytes=0-3", 206, "0123"),
        ("bytes=7-", 206, "789"),
        ("bytes=-2", 206, "89"),
        ("bytes=8-100", 206, "89"),
        ("bytes=10-", 416, ""),
    ] {
        let ask = Ask::new("GET", "some", b"");
        let headers = format!("range: {range}\r\n{}", ask.signed(world.address, &world.operator));
        let answer = ask.with(world.address, &headers);
        assert_eq!(answer.status, status, "{range}");
        assert!(status == 416 || answer.body == body.as_bytes(), "{range}: {answer:?}");
    }
}
