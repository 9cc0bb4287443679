//! The place as boards and operators ask it.

use std::fs;

use exchange::{Credentials, Digest};
use objects::{Remote, RemoteError};
use server::{Folder, Limits};

use crate::world::{ROOMY, World, device, is_locked};

#[test]
fn a_board_may_do_what_it_needs_and_nothing_else() {
    let world = World::open(ROOMY);
    let (mut garden, mut operator) = (world.board("garden"), world.operator());
    let (own, other) = (device("garden"), device("shed"));
    let shard = Digest::of(b"shard");
    let release = "releases/newest.json";
    operator.put(release, b"newest").unwrap();
    operator.put(&own.receipt(shard), b"receipt").unwrap();
    operator.put(&other.receipt(shard), b"receipt").unwrap();

    garden.put(&own.shard(shard), b"shard").unwrap();
    assert_eq!(garden.length(&own.shard(shard)).unwrap(), Some(5));
    garden.put(&format!("devices/garden/health/{}.json", Digest::of(b"well")), b"well").unwrap();
    assert_eq!(garden.get(&own.receipt(shard), 100).unwrap().unwrap(), b"receipt");
    assert_eq!(garden.get(release, 100).unwrap().unwrap(), b"newest");
    assert_eq!(garden.piece(release, 2, 3).unwrap().unwrap(), b"wes");
    assert_eq!(garden.length(&own.receipt(Digest::of(b"none"))).unwrap(), None);

    assert!(is_locked(garden.get(&own.shard(shard), 100)), "what it sent is not given back");
    assert!(is_locked(garden.put(&other.shard(shard), b"shard")));
    assert!(is_locked(garden.length(&other.shard(shard))));
    assert!(is_locked(garden.get(&other.receipt(shard), 100)));
    assert!(is_locked(garden.put(&own.receipt(shard), b"forged")));
    assert!(is_locked(garden.put(release, b"forged")));
    assert!(is_locked(garden.put("devices/garden/shards/readme.txt", b"hello")));
    assert!(is_locked(garden.put("anything", b"hello")));
    assert!(is_locked(garden.remove(&own.shard(shard))));
    assert!(is_locked(garden.list("devices")));

    assert_eq!(operator.get(&own.shard(shard), 100).unwrap().unwrap(), b"shard");
    operator.remove(&own.shard(shard)).unwrap();
    operator.remove(&own.shard(shard)).unwrap();
    assert_eq!(operator.length(&own.shard(shard)).unwrap(), None);

    world.home().revoke(&own).unwrap();
    assert!(is_locked(garden.length(&own.shard(shard))), "from the next request on");
    let stranger = Credentials { user: "NOBODY".to_owned(), secret: "nothing".to_owned(), region: None };
    assert!(is_locked(world.with(stranger).get(release, 100)));
    let guessed = Credentials { secret: "wrong".to_owned(), ..world.operator.clone() };
    assert!(is_locked(world.with(guessed).get(release, 100)));
}

#[test]
fn an_object_is_what_its_name_says_or_is_not_there() {
    let world = World::open(ROOMY);
    let mut garden = world.board("garden");
    let name = device("garden").shard(Digest::of(b"shard"));
    assert!(matches!(garden.put(&name, b"sharp"), Err(RemoteError::Busy { .. })), "it is sent again");
    assert_eq!(garden.length(&name).unwrap(), None);
    garden.put(&name, b"shard").unwrap();
    garden.put(&name, b"shard").unwrap();
    assert!(matches!(garden.put(&name, b"other"), Err(RemoteError::Busy { .. })));
    assert_eq!(garden.length(&name).unwrap(), Some(5), "what was right stays");
    let huge = vec![7; exchange::shard::MAX_SHARD_BYTES + 1];
    let huge = garden.put(&device("garden").shard(Digest::of(&huge)), &huge);
    assert!(matches!(huge, Err(RemoteError::Refused(_))), "{huge:?}");
}

#[test]
fn links_lead_nowhere() {
    let world = World::open(ROOMY);
    let mut operator = world.operator();
    let secret = world.host().join("host.key");
    assert!(secret.is_file());
    std::os::unix::fs::symlink(&secret, world.host().join("objects/link")).unwrap();
    std::os::unix::fs::symlink(world.host(), world.host().join("objects/folder")).unwrap();
    assert_eq!(operator.get("link", 1000).unwrap(), None);
    assert!(operator.list("").unwrap().is_empty());
    operator.put("link", b"over it").unwrap();
    assert!(!fs::read_to_string(&secret).unwrap().contains("over it"));
}

#[test]
fn lists_come_in_pages_and_by_folders() {
    let world = World::open(ROOMY);
    let operator = world.operator();
    let folder = world.host().join("objects/devices/garden/receipts");
    fs::create_dir_all(&folder).unwrap();
    let mut names: Vec<String> =
        (0..2500_u32).map(|number| format!("{}.json", Digest::of(&number.to_le_bytes()))).collect();
    names.iter().for_each(|name| fs::write(folder.join(name), "x").unwrap());
    fs::create_dir_all(world.host().join("objects/devices/shed/shards")).unwrap();
    fs::write(world.host().join("objects/devices/shed/shards/x"), "x").unwrap();
    names.sort_unstable();
    let listed = operator.list("devices/garden").unwrap();
    let found: Vec<&str> = listed.iter().map(|(name, _)| name.rsplit_once('/').unwrap().1).collect();
    assert_eq!(found, names);
    assert_eq!(operator.folders("devices").unwrap(), ["garden", "shed"]);
}

#[test]
fn whoever_sends_too_much_and_everybody_at_a_full_disk_is_told_to_wait() {
    let waits = |limits: Limits, sent: usize| {
        let world = World::open(limits);
        let mut garden = world.board("garden");
        let mut put = |bytes: &[u8]| garden.put(&device("garden").shard(Digest::of(bytes)), bytes);
        (0..sent).for_each(|number| put(&[number as u8; 1000]).unwrap());
        let error = put(&[77; 1000]).unwrap_err();
        assert!(matches!(error, RemoteError::Busy { after: Some(_), .. }), "{error:?}");
        // What the inbox has taken away does not count.
        fs::remove_dir_all(world.host().join("objects/devices")).ok();
        put(&[78; 1000]).is_ok()
    };
    assert!(waits(Limits { waiting_bytes: 2500, ..ROOMY }, 2));
    assert!(!waits(Limits { day_bytes: Some(2500), ..ROOMY }, 2));
    assert!(!waits(Limits { keep_free: u64::MAX, ..ROOMY }, 0));
}

#[test]
fn a_host_that_starts_again_removes_what_was_half_written() {
    let place = tempfile::tempdir().unwrap();
    drop(Folder::open(place.path()).unwrap());
    let half = place.path().join("arriving/half");
    fs::write(&half, "half").unwrap();
    Folder::open(place.path()).unwrap();
    assert!(!half.exists());
}
