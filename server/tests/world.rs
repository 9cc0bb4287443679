//! A place that is open, and boards that are let in.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use blip::caption::Caption;
use exchange::{Credentials, DeviceName, EnrolmentRequest, SecretKey, signed};
use host::Home;
use host::devices::{Approval, new_credentials};
use objects::{Objects, Options, RemoteError};
use rustls::ServerConfig;
use server::{Access, Counters, Folder, Limits, Listener, Patience, Place, Stop};
use tokio::sync::{Notify, watch};

/// Room for everything.
pub(crate) const ROOMY: Limits = Limits { waiting_bytes: 1 << 30, day_bytes: None, keep_free: 0 };

/// A place that is open until this is dropped.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) operator: Credentials,
    pub(crate) counters: Counters,
    sayer: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    pub(crate) fn open(limits: Limits) -> World {
        World::with_tls(limits, Patience::default(), None)
    }

    /// One that waits for others as long as it is told.
    pub(crate) fn patient(limits: Limits, patience: Patience) -> World {
        World::with_tls(limits, patience, None)
    }

    /// One that others reach through TLS.
    pub(crate) fn with_tls(limits: Limits, patience: Patience, tls: Option<Arc<ServerConfig>>) -> World {
        let folder = tempfile::tempdir().unwrap();
        let (sayer, stop) = Stop::new();
        let (told, hear) = channel();
        let host = folder.path().join("host");
        let counters = Counters::default();
        let counted = counters.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let access = Access::open(&host, counted.clone()).unwrap();
                let place = Place::new(Folder::open(&host).unwrap(), limits, counted.clone(), Arc::new(Notify::new()));
                let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), tls, stop).await.unwrap();
                told.send((listener.address().unwrap(), access.operator().clone())).unwrap();
                listener.patient(patience).serve_place(place, access, counted).await;
            });
        });
        let (address, operator) = hear.recv().unwrap();
        World { folder, address, operator, counters, sayer: Some(sayer), thread: Some(thread) }
    }

    pub(crate) fn home(&self) -> Home {
        Home::open(&self.host()).unwrap()
    }

    pub(crate) fn host(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    /// Lets a board in; what it reaches the place with.
    pub(crate) fn board(&self, name: &str) -> Objects {
        self.with(self.key_of(name))
    }

    /// Lets a board in; its key.
    pub(crate) fn key_of(&self, name: &str) -> Credentials {
        let key = SecretKey::generate().unwrap();
        let caption = |text: &str| Caption::new(text).unwrap();
        let (board, version) = (caption("a board"), caption("0.1.0"));
        let request = EnrolmentRequest { key: key.public(), name: name.parse().unwrap(), board, version };
        let credentials = new_credentials().unwrap();
        let approval = Approval { credentials: Some(credentials.clone()), ..Approval::default() };
        self.home().approve(&signed::sign(&request, &[&key]), approval).unwrap();
        credentials
    }

    pub(crate) fn operator(&self) -> Objects {
        self.with(self.operator.clone())
    }

    pub(crate) fn with(&self, credentials: Credentials) -> Objects {
        let url = format!("s3://home?endpoint=http://{}", self.address);
        Objects::open(&url, &Options { credentials: Some(credentials), ..Options::default() }).unwrap()
    }
}

impl World {
    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(sayer) = self.sayer.take() {
            sayer.send(true).unwrap();
        }
    }

    /// Waits until it has.
    pub(crate) fn wait(&mut self) {
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.ask_to_stop();
        self.wait();
        assert_eq!(fs::read_dir(self.host().join("arriving")).unwrap().count(), 0, "nothing half written is left");
    }
}

/// A board's name.
pub(crate) fn device(name: &str) -> DeviceName {
    name.parse().unwrap()
}

/// Whether it was said that this key may not do that.
pub(crate) fn is_locked<T: std::fmt::Debug>(done: Result<T, RemoteError>) -> bool {
    matches!(done, Err(RemoteError::Locked(_)))
}
