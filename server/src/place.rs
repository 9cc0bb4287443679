//! The operations of S3 that boards and operators need, and no other.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use exchange::DeviceName;
use exchange::shard::MAX_SHARD_BYTES;
use futures_util::{StreamExt, stream};
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::StatusCode;
use s3s::dto::{
    CommonPrefix, DeleteObjectInput, DeleteObjectOutput, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::access::Caller;
use crate::counters::Counters;
use crate::folder::{Arrived, Facts, Folder, read_piece};
use crate::key::{Key, Kind};

/// The one bucket.
pub const BUCKET: &str = "home";
/// Largest object of the operator's, in bytes.
const MAX_OBJECT: u64 = 5 << 30;
/// How long a piece of a body may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that are given out at once.
const PIECE: usize = 256 << 10;
/// Names of a page of a list, as S3 has it.
const MAX_NAMES: usize = 1000;
/// For how long a board whose place is full is sent away, in seconds.
const AGAIN_S: u64 = 300;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// How much is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a board's that wait to be taken in.
    pub waiting_bytes: u64,
    /// Most bytes that a board may send in a day, UTC.
    pub day_bytes: Option<u64>,
    /// Bytes of the disk that stay free.
    pub keep_free: u64,
}

/// The place, as S3 asks it.
#[derive(Clone)]
pub struct Place {
    folder: Folder,
    limits: Limits,
    counters: Counters,
    arrived: Arc<Notify>,
    sent: Arc<Mutex<HashMap<DeviceName, Sent>>>,
}

/// What a board has sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Bytes that wait, at most: what was taken in meanwhile is counted out when they seem to be too many.
    waiting: u64,
    day: u64,
    day_bytes: u64,
}

impl Place {
    /// A place over a folder; `arrived` is told of every shard.
    pub fn new(folder: Folder, limits: Limits, counters: Counters, arrived: Arc<Notify>) -> Place {
        Place { folder, limits, counters, arrived, sent: Arc::default() }
    }

    fn key(bucket: &str, key: &str) -> S3Result<Key> {
        if bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket, "the only bucket here is called home"));
        }
        Key::new(key).ok_or_else(|| s3_error!(InvalidArgument, "no object is called that"))
    }

    fn failed(error: &io::Error) -> S3Error {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return full();
        }
        log::error!(error:% = error; "the host's disk does not do what it should");
        s3_error!(InternalError, "the host's disk does not do what it should")
    }

    /// Does something with the disk, off the threads that answer.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| Self::failed(&error))
    }

    /// Whether there is room for so many bytes more of a board's.
    async fn admit(&self, caller: &Caller, bytes: u64) -> S3Result<()> {
        let keep_free = self.limits.keep_free;
        let free = self.on_disk(Folder::free_bytes).await?;
        if free < keep_free.saturating_add(bytes) {
            self.counters.refused("disk-full");
            return Err(full());
        }
        let Caller::Board(device) = caller else { return Ok(()) };
        let is_over = |sent: &Sent| sent.waiting.saturating_add(bytes) > self.limits.waiting_bytes;
        if is_over(&self.sent_by(device)) {
            let counted = device.clone();
            let waiting = self.on_disk(move |folder| folder.waiting(&counted)).await?;
            self.change(device, |sent| sent.waiting = waiting);
        }
        let sent = self.sent_by(device);
        let is_over_day = self
            .limits
            .day_bytes
            .is_some_and(|most| sent.day == today() && sent.day_bytes.saturating_add(bytes) > most);
        if is_over(&sent) || is_over_day {
            self.counters.refused("quota");
            return Err(slow_down(if is_over_day { DAY_S - now_s() % DAY_S } else { AGAIN_S }));
        }
        Ok(())
    }

    fn sent_by(&self, device: &DeviceName) -> Sent {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(device).copied().unwrap_or_default()
    }

    fn change(&self, device: &DeviceName, change: impl FnOnce(&mut Sent)) {
        change(self.sent.lock().unwrap_or_else(PoisonError::into_inner).entry(device.clone()).or_default());
    }

    /// Takes a body in, and gives it its name.
    async fn take(&self, key: Key, most: u64, mut body: StreamingBlob) -> S3Result<(Arrived, u64)> {
        let mut arriving = self.on_disk(Folder::begin).await?;
        loop {
            let piece = match timeout(PATIENCE, body.next()).await {
                Err(_) => return Err(s3_error!(RequestTimeout, "the body does not come")),
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    log::debug!(error:% = error; "a body ended early");
                    return Err(s3_error!(IncompleteBody, "the body ended early, or is not what was signed"));
                }
                Ok(Some(Ok(piece))) => piece,
            };
            self.counters.took(piece.len() as u64);
            if arriving.bytes().saturating_add(piece.len() as u64) > most {
                self.counters.refused("too-large");
                return Err(s3_error!(EntityTooLarge, "no board needs so large an object"));
            }
            // It goes to the page cache; waiting for the disk comes later, elsewhere.
            arriving.write(&piece).map_err(|error| Self::failed(&error))?;
        }
        let bytes = arriving.bytes();
        let arrived = self.on_disk(move |folder| folder.keep(&key, arriving)).await?;
        Ok((arrived, bytes))
    }
}

#[async_trait::async_trait]
impl S3 for Place {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let caller = request.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| s3_error!(AccessDenied, "nobody asks"))?;
        let input = request.input;
        let key = Self::key(&input.bucket, &input.key)?;
        let most = if caller == Caller::Operator { MAX_OBJECT } else { MAX_SHARD_BYTES as u64 };
        let length = input.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        if length > most {
            self.counters.refused("too-large");
            return Err(s3_error!(EntityTooLarge, "no board needs so large an object"));
        }
        self.admit(&caller, length).await?;
        let body = input.body.ok_or_else(|| s3_error!(IncompleteBody, "there is no body"))?;
        let is_shard = matches!(key.kind(), Kind::Shard(..));
        match self.take(key, most, body).await? {
            (Arrived::OtherBytes, _) => {
                self.counters.refused("digest");
                Err(s3_error!(BadDigest, "its bytes are not those that it is named after"))
            }
            (Arrived::There(digest), bytes) => {
                if let Caller::Board(device) = &caller {
                    let day = today();
                    self.change(device, |sent| {
                        sent.waiting = sent.waiting.saturating_add(bytes);
                        sent.day_bytes = if sent.day == day { sent.day_bytes.saturating_add(bytes) } else { bytes };
                        sent.day = day;
                    });
                }
                if is_shard {
                    self.arrived.notify_one();
                }
                let e_tag = Some(ETag::Strong(digest.to_string()));
                Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
            }
        }
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let key = Self::key(&request.input.bucket, &request.input.key)?;
        let (wanted, range) = (key.clone(), request.input.range);
        let facts = self.on_disk(move |folder| folder.facts(&wanted)).await?;
        let Facts { bytes, changed } = facts.ok_or_else(no_such_key)?;
        let part = match range {
            None => 0..bytes,
            Some(range) => range.check(bytes)?,
        };
        let content_range = (part != (0..bytes)).then(|| format!("bytes {}-{}/{bytes}", part.start, part.end - 1));
        let from = part.start;
        let file = self.on_disk(move |folder| folder.part(&key, from)).await?.ok_or_else(no_such_key)?;
        let length = part.end - part.start;
        self.counters.gave(length);
        let pieces = stream::try_unfold((file, length), |(mut file, left)| async move {
            if left == 0 {
                return Ok::<_, io::Error>(None);
            }
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let read = tokio::task::spawn_blocking(move || read_piece(&mut file, most).map(|piece| (file, piece)));
            let (file, piece) = read.await.map_err(io::Error::other)??;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let left = left - piece.len() as u64;
            Ok(Some((Bytes::from(piece), (file, left))))
        });
        let body = Some(StreamingBlob::wrap(pieces));
        let accept_ranges = Some("bytes".to_owned());
        Ok(S3Response::new(GetObjectOutput {
            body,
            accept_ranges,
            content_range,
            content_length: i64::try_from(length).ok(),
            last_modified: Some(Timestamp::from(changed)),
            e_tag: Some(e_tag(&Facts { bytes, changed })),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let key = Self::key(&request.input.bucket, &request.input.key)?;
        let facts = self.on_disk(move |folder| folder.facts(&key)).await?.ok_or_else(no_such_key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(facts.bytes).ok(),
            last_modified: Some(Timestamp::from(facts.changed)),
            e_tag: Some(e_tag(&facts)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        if request.input.bucket == BUCKET {
            Ok(S3Response::new(HeadBucketOutput::default()))
        } else {
            Err(s3_error!(NoSuchBucket, "the only bucket here is called home"))
        }
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let key = Self::key(&request.input.bucket, &request.input.key)?;
        self.on_disk(move |folder| folder.remove(&key)).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        if input.bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket, "the only bucket here is called home"));
        }
        let most = input.max_keys.and_then(|most| usize::try_from(most).ok()).unwrap_or(MAX_NAMES).min(MAX_NAMES);
        let prefix = input.prefix.clone().unwrap_or_default();
        // What follows a name is a name: the token hides nothing.
        let after = input.continuation_token.clone().or_else(|| input.start_after.clone()).unwrap_or_default();
        let page = Page { prefix, delimiter: input.delimiter.clone().unwrap_or_default(), after, most };
        let listed = self.on_disk(move |folder| page.read(folder)).await?;
        let is_truncated = listed.next.is_some();
        let objects: Vec<Object> = listed.objects.into_iter().map(|(name, facts)| object(name, &facts)).collect();
        let prefixes: Vec<CommonPrefix> =
            listed.folders.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: i32::try_from(most).ok(),
            key_count: i32::try_from(objects.len() + prefixes.len()).ok(),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            is_truncated: Some(is_truncated),
            next_continuation_token: listed.next,
            contents: Some(objects),
            common_prefixes: Some(prefixes),
            ..ListObjectsV2Output::default()
        }))
    }
}

/// What of a list is wanted.
struct Page {
    prefix: String,
    delimiter: String,
    after: String,
    most: usize,
}

/// A page of a list.
#[derive(Default)]
struct Listed {
    objects: Vec<(String, Facts)>,
    folders: Vec<String>,
    next: Option<String>,
}

impl Page {
    fn read(&self, folder: &Folder) -> io::Result<Listed> {
        let mut listed = Listed::default();
        let mut after = self.after.clone();
        if self.most == 0 {
            return Ok(listed);
        }
        loop {
            let wanted = self.most.saturating_add(1);
            let found = folder.list(&self.prefix, &after, wanted)?;
            let is_last = found.len() < wanted;
            for (name, facts) in found {
                if listed.folders.last().is_some_and(|folder| name.starts_with(folder.as_str())) {
                    after = name;
                    continue;
                }
                if listed.objects.len() + listed.folders.len() == self.most {
                    listed.next = Some(after);
                    return Ok(listed);
                }
                after.clone_from(&name);
                match self.folder_of(&name) {
                    Some(folder) => listed.folders.push(folder),
                    None => listed.objects.push((name, facts)),
                }
            }
            if is_last {
                return Ok(listed);
            }
        }
    }

    /// What stands for a name and those beside it.
    fn folder_of(&self, name: &str) -> Option<String> {
        let rest = name.get(self.prefix.len()..)?;
        let at = Some(&self.delimiter).filter(|delimiter| !delimiter.is_empty())?;
        let place = rest.find(at.as_str())?;
        name.get(..self.prefix.len() + place + at.len()).map(str::to_owned)
    }
}

fn object(name: String, facts: &Facts) -> Object {
    Object {
        key: Some(name),
        size: i64::try_from(facts.bytes).ok(),
        last_modified: Some(Timestamp::from(facts.changed)),
        e_tag: Some(e_tag(facts)),
        ..Object::default()
    }
}

/// It differs where the bytes may differ; hashing at every look would be too dear.
fn e_tag(facts: &Facts) -> ETag {
    let since = facts.changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    ETag::Weak(format!("{:x}-{:x}", since.as_nanos(), facts.bytes))
}

fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "there is no such object")
}

fn full() -> S3Error {
    let message = "the host's disk is full";
    let mut error = S3Error::with_message(S3ErrorCode::Custom("InsufficientStorage".into()), message);
    error.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
    error.set_headers(retry_after(AGAIN_S));
    error
}

fn slow_down(seconds: u64) -> S3Error {
    let mut error = s3_error!(SlowDown, "this board's share of the host is used up for now");
    error.set_headers(retry_after(seconds));
    error
}

fn retry_after(seconds: u64) -> HeaderMap {
    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))])
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn today() -> u64 {
    now_s() / DAY_S
}
