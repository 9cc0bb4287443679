//! The operations of S3 that boards and operators need, and no other.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use exchange::shard::MAX_SHARD_BYTES;
use futures_util::{StreamExt, stream};
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::StatusCode;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto::{
    CommonPrefix, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::sync::Notify;

use crate::access::{Access, Caller};
use crate::counters::Counters;
use crate::folder::{Arrived, Facts, Folder, read_piece};
use crate::key::{Key, Kind};
use crate::listing::Page;
use crate::shares::{AGAIN_S, Admission, Limits, Reservation, Shares};

/// The one bucket.
pub const BUCKET: &str = "home";
/// Largest object of the operator's, in bytes.
const MAX_OBJECT: u64 = 5 << 30;
/// Bytes that are given out at once.
const PIECE: usize = 256 << 10;
/// Names of a page of a list, as S3 has it.
const MAX_NAMES: usize = 1000;
/// Largest text of a request, in bytes: the names of those that are to be deleted at once.
const MAX_TEXT: usize = 1 << 20;
/// Largest form, in bytes. None is taken, but forms are read before it is known whose they are.
const MAX_FORM: usize = 4 << 10;

/// The place, as S3 asks it.
#[derive(Clone)]
pub struct Place {
    folder: Folder,
    limits: Limits,
    shares: Shares,
    counters: Counters,
    arrived: Arc<Notify>,
}

impl Place {
    /// A place over a folder; `arrived` is told of every shard.
    pub fn new(folder: Folder, limits: Limits, counters: Counters, arrived: Arc<Notify>) -> Place {
        Place { folder, limits, shares: Shares::default(), counters, arrived }
    }

    /// Answers requests, of those whom `access` knows.
    pub fn service(self, access: Access) -> S3Service {
        let mut builder = S3ServiceBuilder::new(self);
        builder.set_auth(access.clone());
        builder.set_access(access);
        let mut config = S3Config::default();
        config.xml_max_body_size = MAX_TEXT;
        // A form would be held in memory before anybody asks who sent it.
        config.post_object_max_file_size = 0;
        (config.form_max_field_size, config.form_max_fields_size, config.form_max_parts) = (MAX_FORM, MAX_FORM, 16);
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.build()
    }

    fn key(bucket: &str, key: &str) -> S3Result<Key> {
        if bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket, "the only bucket here is called home"));
        }
        Key::new(key).ok_or_else(|| s3_error!(InvalidArgument, "no object is called that"))
    }

    fn failed(error: &io::Error) -> S3Error {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return full(AGAIN_S);
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

    /// Room for so many bytes more.
    async fn admit(&self, caller: &Caller, bytes: u64) -> S3Result<Reservation> {
        let (shares, limits, caller) = (self.shares.clone(), self.limits, caller.clone());
        let asked = self.on_disk(move |folder| {
            let device = if let Caller::Board(device) = &caller { Some(device) } else { None };
            shares.reserve(folder, &limits, device, bytes, now_s())
        });
        match asked.await? {
            Admission::Room(reservation) => Ok(reservation),
            Admission::Full { after_s } => {
                self.counters.refused("disk-full");
                Err(full(after_s))
            }
            Admission::UsedUp { after_s } => {
                self.counters.refused("quota");
                Err(slow_down(after_s))
            }
        }
    }

    /// Takes a body in, and gives it its name.
    async fn take(&self, key: Key, length: u64, mut body: StreamingBlob) -> S3Result<Arrived> {
        let mut arriving = self.on_disk(Folder::begin).await?;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| {
                log::debug!(error:% = error; "a body ended early");
                self.counters.refused("incomplete");
                incomplete()
            })?;
            self.counters.took(piece.len() as u64);
            if arriving.bytes().saturating_add(piece.len() as u64) > length {
                self.counters.refused("too-large");
                return Err(s3_error!(EntityTooLarge, "the body is longer than the request says"));
            }
            // It goes to the page cache; waiting for the disk comes later, elsewhere.
            arriving.write(&piece).map_err(|error| Self::failed(&error))?;
        }
        if arriving.bytes() < length {
            self.counters.refused("incomplete");
            return Err(incomplete());
        }
        self.on_disk(move |folder| folder.keep(&key, arriving)).await
    }
}

#[async_trait::async_trait]
impl S3 for Place {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let caller = request.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| s3_error!(AccessDenied, "nobody asks"))?;
        let input = request.input;
        let key = Self::key(&input.bucket, &input.key)?;
        if input.if_match.is_some() || input.if_none_match.is_some() {
            return Err(s3_error!(NotImplemented, "objects are put here without conditions"));
        }
        let most = if caller == Caller::Operator { MAX_OBJECT } else { MAX_SHARD_BYTES as u64 };
        let length = input.content_length.and_then(|length| u64::try_from(length).ok());
        let length = length.ok_or_else(|| s3_error!(MissingContentLength, "a body without a length is not taken"))?;
        if length > most {
            self.counters.refused("too-large");
            return Err(s3_error!(EntityTooLarge, "no board needs so large an object"));
        }
        let room = self.admit(&caller, length).await?;
        let body = input.body.ok_or_else(incomplete)?;
        let is_shard = matches!(key.kind(), Kind::Shard(..));
        let facts = match self.take(key, length, body).await? {
            Arrived::There(facts) => facts,
            Arrived::OtherBytes => {
                self.counters.refused("digest");
                return Err(s3_error!(BadDigest, "its bytes are not those that it is named after"));
            }
            Arrived::InTheWay => return Err(s3_error!(InvalidArgument, "a folder, a file or a link is in its way")),
        };
        room.arrived();
        if is_shard {
            self.arrived.notify_one();
        }
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(e_tag(&facts)), ..PutObjectOutput::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let key = Self::key(&request.input.bucket, &request.input.key)?;
        let found = self.on_disk(move |folder| folder.find(&key)).await?;
        let (file, facts) = found.ok_or_else(no_such_key)?;
        let Facts { bytes, changed } = facts;
        let part = match request.input.range {
            None => 0..bytes,
            Some(range) => range.check(bytes)?,
        };
        let content_range = (part != (0..bytes)).then(|| format!("bytes {}-{}/{bytes}", part.start, part.end - 1));
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(part.end - part.start).ok(),
            body: Some(pieces(file, part, self.counters.clone())),
            accept_ranges: Some("bytes".to_owned()),
            content_range,
            last_modified: Some(Timestamp::from(changed)),
            e_tag: Some(e_tag(&facts)),
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

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let keys = request.input.delete.objects.into_iter().take(MAX_NAMES).map(|object| object.key);
        let mut deleted = Vec::new();
        for name in keys {
            let key = Self::key(&request.input.bucket, &name)?;
            self.on_disk(move |folder| folder.remove(&key)).await?;
            deleted.push(DeletedObject { key: Some(name), ..DeletedObject::default() });
        }
        let deleted = Some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
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

/// A part of a file, read as it is asked for.
fn pieces(file: File, part: Range<u64>, counters: Counters) -> StreamingBlob {
    let file = Arc::new(file);
    StreamingBlob::wrap(stream::try_unfold(part, move |part| {
        let (file, counters) = (Arc::clone(&file), counters.clone());
        async move {
            if part.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let most = usize::try_from(part.end - part.start).unwrap_or(PIECE).min(PIECE);
            let read = tokio::task::spawn_blocking(move || read_piece(&file, part.start, most));
            let piece = read.await.map_err(io::Error::other)??;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            counters.gave(piece.len() as u64);
            let from = part.start + piece.len() as u64;
            Ok(Some((Bytes::from(piece), from..part.end)))
        }
    }))
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

fn incomplete() -> S3Error {
    s3_error!(IncompleteBody, "the body ended early, or is not what was signed")
}

fn full(after_s: u64) -> S3Error {
    let message = "the host's disk is full";
    let mut error = S3Error::with_message(S3ErrorCode::Custom("InsufficientStorage".into()), message);
    error.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
    error.set_headers(retry_after(after_s));
    error
}

fn slow_down(after_s: u64) -> S3Error {
    let mut error = s3_error!(SlowDown, "this board's share of the host is used up for now");
    error.set_headers(retry_after(after_s));
    error
}

fn retry_after(seconds: u64) -> HeaderMap {
    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from(seconds))])
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
