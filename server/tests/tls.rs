//! Boards that reach the place through TLS.

use std::fs;
use std::path::PathBuf;

use exchange::{Credentials, Digest};
use objects::{Objects, Options, Remote, RemoteError};
use server::{Patience, certificate};

use crate::world::{ROOMY, World, device};

/// A certificate for this machine and its key, as files.
struct Files {
    _folder: tempfile::TempDir,
    chain: PathBuf,
    key: PathBuf,
}

fn files() -> Files {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    fs::write(&chain, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Files { _folder: folder, chain, key }
}

fn reached(world: &World, scheme: &str, credentials: &Credentials, authority: Option<PathBuf>) -> Objects {
    let url = format!("s3://home?endpoint={scheme}://{}", world.address);
    Objects::open(&url, &Options { credentials: Some(credentials.clone()), authority, rate: None }).unwrap()
}

#[test]
fn a_board_that_knows_the_certificate_sends_and_any_other_does_not() {
    let files = files();
    let tls = certificate(&files.chain, &files.key).unwrap();
    let world = World::with_tls(ROOMY, Patience::default(), Some(tls));
    let garden = world.key_of("garden");
    let shard = vec![7; exchange::shard::SHARD_BYTES];
    let name = device("garden").shard(Digest::of(&shard));
    let mut known = reached(&world, "https", &garden, Some(files.chain.clone()));
    known.put(&name, &shard).unwrap();
    assert_eq!(known.length(&name).unwrap(), Some(shard.len() as u64));
    let other = self::files();
    let strange = reached(&world, "https", &garden, Some(other.chain.clone())).put(&name, &shard).unwrap_err();
    assert!(matches!(strange, RemoteError::Stranger(_)), "{strange:?}");
    reached(&world, "http", &garden, None).length(&name).unwrap_err();
    // Why it is refused is heard through TLS too.
    world.home().revoke(&device("garden")).unwrap();
    let locked = known.put(&name, &shard).unwrap_err();
    assert!(matches!(locked, RemoteError::Locked(_)), "{locked:?}");
}

#[test]
fn a_certificate_that_is_none_says_which_file_it_is() {
    let (files, other) = (files(), files());
    let empty = files.chain.with_file_name("empty.pem");
    fs::write(&empty, "").unwrap();
    for (chain, key, named) in [
        (&empty, &files.key, "empty.pem: it holds no certificate"),
        (&files.chain, &empty, "empty.pem: "),
        (&files.chain, &other.key, "key.pem: "),
        (&files.chain.with_file_name("nowhere"), &files.key, "nowhere: "),
    ] {
        let error = certificate(chain, key).unwrap_err().to_string();
        assert!(error.contains(named) && error.ends_with("give a certificate chain and its key in PEM"), "{error}");
    }
}
