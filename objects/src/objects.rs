//! Any place that takes objects: S3, WebDAV, a folder.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use exchange::Credentials;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::connection::{Access, Connection, Witness};
use crate::remote::{Remote, RemoteError};
use crate::signing::ANY_REGION;
use crate::trust::{TrustError, trust};

/// Why a place cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// Its URL.
    #[error("{url}: {reason}: it is s3://BUCKET/FOLDER?endpoint=URL, https://HOST/FOLDER (WebDAV) or file:///FOLDER")]
    Url {
        /// The URL, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder is not there: a stick that is not plugged in.
    #[error("{}: there is no such folder: is the stick plugged in?", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A place that needs a password, and none is known.
    #[error("{url} needs credentials, and the host granted none: enrol anew")]
    NoCredentials {
        /// The URL.
        url: String,
    },
    /// Nobody vouches for it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The system gives no runtime.
    #[error("connections cannot be made: {0}")]
    System(std::io::Error),
    /// It cannot be made.
    #[error("{0}")]
    Store(#[from] object_store::Error),
}

/// How a place is used.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What opens it.
    pub credentials: Option<Credentials>,
    /// Who vouches for it, as a file of certificates in PEM; whom the system trusts if none is named.
    pub authority: Option<PathBuf>,
    /// Most bytes a second that go out.
    pub rate: Option<u64>,
}

/// A place that takes objects, one request at a time.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// The folder on a stick, which may be pulled.
    folder: Option<PathBuf>,
    /// What stands before every name there.
    prefix: String,
    /// What stands before names that are listed: WebDAV's are those of the whole server.
    listed_under: String,
    witness: Witness,
    runtime: Runtime,
}

impl Objects {
    /// The place behind a URL. No request is made yet.
    ///
    /// # Errors
    /// See [`ObjectsError`].
    pub fn open(url: &str, options: &Options) -> Result<Objects, ObjectsError> {
        let fault = |reason: &str| ObjectsError::Url { url: without_password(url), reason: reason.to_owned() };
        let parsed = Url::parse(url).map_err(|error| fault(&error.to_string()))?;
        let witness = Witness::default();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ObjectsError::System)?;
        let mut folder = None;
        let mut prefix = String::new();
        let mut listed_under = String::new();
        let store: Arc<dyn ObjectStore> = match parsed.scheme() {
            "file" => {
                let path = parsed.to_file_path().map_err(|()| fault("it names no folder of this machine"))?;
                if !path.is_dir() {
                    return Err(ObjectsError::NoFolder { path });
                }
                let store = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
                folder = Some(path);
                Arc::new(store)
            }
            "s3" => {
                let bucket =
                    parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| fault("it names no bucket"))?;
                parsed.path().trim_matches('/').clone_into(&mut prefix);
                listed_under.clone_from(&prefix);
                let credentials = options.credentials.clone();
                let credentials =
                    credentials.ok_or_else(|| ObjectsError::NoCredentials { url: without_password(url) })?;
                let endpoint =
                    parsed.query_pairs().find(|(name, _)| name == "endpoint").map(|(_, value)| value.into_owned());
                let region = credentials.region.clone().unwrap_or_else(|| ANY_REGION.to_owned());
                let connection = Connection::new(
                    trust_for(endpoint.as_deref().unwrap_or("https:"), options)?,
                    Access::Signed(credentials),
                    options.rate,
                    witness.clone(),
                );
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_skip_signature(true)
                    .with_retry(once())
                    .with_http_connector(connection);
                if let Some(endpoint) = endpoint {
                    builder =
                        builder.with_endpoint(endpoint).with_client_options(ClientOptions::new().with_allow_http(true));
                }
                Arc::new(builder.build()?)
            }
            "http" | "https" => {
                if parsed.host_str().is_none_or(str::is_empty) {
                    return Err(fault("it names no host"));
                }
                let place = Path::from_url_path(parsed.path()).map_err(|error| fault(&error.to_string()))?;
                place.as_ref().clone_into(&mut listed_under);
                let access = options.credentials.as_ref().map_or(Access::Open, |credentials| {
                    Access::Password(STANDARD.encode(format!("{}:{}", credentials.user, credentials.secret)))
                });
                let connection = Connection::new(trust_for(url, options)?, access, options.rate, witness.clone());
                let builder = HttpBuilder::new()
                    .with_url(url.trim_end_matches('/'))
                    .with_retry(once())
                    .with_client_options(ClientOptions::new().with_allow_http(true))
                    .with_http_connector(connection);
                Arc::new(builder.build()?)
            }
            _ => return Err(fault("this kind of place is not known")),
        };
        Ok(Objects { store, folder, prefix, listed_under, witness, runtime })
    }

    /// The folder, where the place is one of this machine.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// The names under a folder, with their lengths, in order.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError> {
        let place = self.place(folder);
        let listed = self.ask(self.store.list(Some(&place)).try_collect::<Vec<_>>())?.unwrap_or_default();
        let skip = if self.listed_under.is_empty() { 0 } else { self.listed_under.len() + 1 };
        let name = |location: &Path| location.as_ref().get(skip..).unwrap_or_default().to_owned();
        let mut names: Vec<(String, u64)> = listed.iter().map(|object| (name(&object.location), object.size)).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The folders right under a folder, by their last names, in order.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn folders(&self, folder: &str) -> Result<Vec<String>, RemoteError> {
        let place = self.place(folder);
        let listed = self.ask(self.store.list_with_delimiter(Some(&place)))?;
        let folders = listed.map(|listed| listed.common_prefixes).unwrap_or_default();
        let mut names: Vec<String> =
            folders.iter().filter_map(|place| Some(place.parts().next_back()?.as_ref().to_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes an object; one that is not there is none.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn remove(&self, name: &str) -> Result<(), RemoteError> {
        let place = self.place(name);
        self.ask(self.store.delete(&place)).map(drop)
    }

    fn place(&self, name: &str) -> Path {
        if self.prefix.is_empty() { Path::from(name) } else { Path::from(format!("{}/{name}", self.prefix)) }
    }

    /// Does something, and says why it failed better than the object store knows.
    fn ask<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<Option<T>, RemoteError> {
        if let Some(folder) = self.folder.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(RemoteError::Offline(format!("{} is gone", folder.display())));
        }
        self.witness.forget_fault();
        let done = self.runtime.block_on(work);
        match (done, self.witness.fault()) {
            (Ok(value), None) => Ok(Some(value)),
            (_, Some(fault)) => Err(fault),
            (Err(object_store::Error::NotFound { .. }), None) => Ok(None),
            (Err(error), None) => Err(self.unexplained(&error)),
        }
    }

    fn unexplained(&self, error: &object_store::Error) -> RemoteError {
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            words = error.to_string();
            cause = error.source();
        }
        if self.folder.is_some() {
            // A full stick, a pulled one: the next one may do.
            RemoteError::Busy { reason: words, after: None }
        } else {
            RemoteError::Stranger(words)
        }
    }
}

impl Remote for Objects {
    fn length(&mut self, name: &str) -> Result<Option<u64>, RemoteError> {
        let place = self.place(name);
        Ok(self.ask(self.store.head(&place))?.map(|object| object.size))
    }

    fn get(&mut self, name: &str, most: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        let place = self.place(name);
        let read = async {
            let found = self.store.get(&place).await?;
            if found.meta.size > most as u64 {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        };
        match self.ask(read)? {
            None => Ok(None),
            Some(Some(bytes)) if bytes.len() <= most => Ok(Some(bytes.to_vec())),
            Some(_) => Err(RemoteError::Stranger(format!("{name} has more than {most} bytes"))),
        }
    }

    fn piece(&mut self, name: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        let place = self.place(name);
        let bytes = self.ask(self.store.get_range(&place, from..from.saturating_add(most as u64)))?;
        match bytes {
            Some(bytes) if bytes.len() <= most => Ok(Some(bytes.to_vec())),
            Some(_) => Err(RemoteError::Stranger(format!("of {name} more came than was asked for"))),
            None => Ok(None),
        }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let place = self.place(name);
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(bytes));
        let put = async { self.store.put(&place, payload).await.map(drop) };
        match self.ask(put)? {
            Some(()) => Ok(()),
            None => Err(RemoteError::Refused("the place is not there".to_owned())),
        }
    }

    fn ahead_s(&self) -> Option<i64> {
        self.witness.ahead_s()
    }
}

/// Whoever is spoken to in the clear needs no certificate, and a board may have none.
fn trust_for(url: &str, options: &Options) -> Result<rustls::ClientConfig, TrustError> {
    match trust(options.authority.as_deref()) {
        Err(TrustError::Nobody) if url.starts_with("http:") => crate::trust::nobody(),
        trusted => trusted,
    }
}

/// Trying again is the round's business, which knows how long.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn without_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            let _ = parsed.set_password(None);
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}
