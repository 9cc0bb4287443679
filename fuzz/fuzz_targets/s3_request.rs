//! Any request to the host's own place: as a stranger it gets nothing; with the checks of access left out it reads nothing that
//! is not an object.

#![no_main]

use std::sync::{Arc, OnceLock};

use hyper::{Method, Request};
use libfuzzer_sys::fuzz_target;
use s3s::service::{S3Service, S3ServiceBuilder};
use server::{Access, Counters, Folder, Limits, Place};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

/// Stands in a file beside the objects, and in no object.
const SECRET: &[u8] = b"nobody may read this";

struct World {
    runtime: Runtime,
    guarded: S3Service,
    open: S3Service,
    _folder: tempfile::TempDir,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let host = folder.path();
        let counters = Counters::default();
        let access = Access::open(host, counters.clone()).expect("a host");
        let limits = Limits { waiting_bytes: 1 << 20, day_bytes: None, keep_free: 0 };
        let place = Place::new(Folder::open(host).expect("a place"), limits, counters, Arc::new(Notify::new()));
        std::fs::write(host.join("objects/here"), "an object").expect("an object");
        std::fs::write(host.join("secret"), SECRET).expect("a secret");
        std::os::unix::fs::symlink(host.join("secret"), host.join("objects/link")).expect("a link");
        let guarded = place.clone().service(access);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        World { runtime, guarded, open: S3ServiceBuilder::new(place).build(), _folder: folder }
    })
}

fn request(bytes: &[u8]) -> Option<Request<s3s::Body>> {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let method = [Method::GET, Method::PUT, Method::HEAD, Method::DELETE, Method::POST];
    let (choice, path) = parts.next()?.split_first()?;
    let mut builder = Request::builder().method(&method[usize::from(*choice) % method.len()]).uri(path);
    for header in parts.next().unwrap_or_default().split(|byte| *byte == b';').take(8) {
        let mut sides = header.splitn(2, |byte| *byte == b'=');
        builder = builder.header(sides.next()?, sides.next().unwrap_or_default());
    }
    let body = parts.next().unwrap_or_default().to_vec();
    builder.header("host", "localhost").body(s3s::Body::from(bytes::Bytes::from(body))).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let world = world();
    world.runtime.block_on(async {
        if let Some(asked) = request(bytes)
            && let Ok(answer) = world.guarded.call(asked).await
        {
            assert!(!answer.status().is_success(), "a stranger was let in");
        }
        if let Some(asked) = request(bytes)
            && let Ok(answer) = world.open.call(asked).await
        {
            let mut body = answer.into_body();
            if let Ok(read) = body.store_all_limited(1 << 20).await {
                assert!(!read.windows(SECRET.len()).any(|window| window == SECRET), "what is no object was read");
            }
        }
    });
});
