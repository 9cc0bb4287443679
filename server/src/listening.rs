//! Listens, and answers a bounded number of connections that do not dawdle, until it is asked to stop.

use std::fs::File;
use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use s3s::service::S3Service;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::access::Access;
use crate::counters::Counters;
use crate::patience::{Patience, Patient, Unstalled};
use crate::place::Place;

/// Most connections; further ones wait until one ends.
const MAX_CONNECTIONS: usize = 2048;
/// Wait after a connection that could not be taken, as when there are no more descriptors.
const FAULT: Duration = Duration::from_secs(1);

/// A host that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address.
    #[error("{address}: {source}; name another address")]
    Address {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate.
    #[error("{}: {reason}: give a certificate chain and its key in PEM", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Says when it is time to stop. Copies say it together.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A word, and who says it.
    pub fn new() -> (watch::Sender<bool>, Stop) {
        let (sender, receiver) = watch::channel(false);
        (sender, Stop(receiver))
    }

    /// Waits for it. Whoever is gone has said it.
    pub async fn wait(mut self) {
        let _ = self.0.wait_for(|is_said| *is_said).await;
    }
}

/// Somewhere to listen.
pub struct Listener {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stop: Stop,
    patience: Patience,
}

impl Listener {
    /// Listens, in the clear unless there is a certificate.
    ///
    /// # Errors
    /// An address that is taken.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        stop: Stop,
    ) -> Result<Listener, ListenError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError::Address { address, source })?;
        Ok(Listener { listener, tls: tls.map(TlsAcceptor::from), stop, patience: Patience::default() })
    }

    /// The same, with another patience.
    pub fn patient(self, patience: Patience) -> Listener {
        Listener { patience, ..self }
    }

    /// Where that is.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers as S3 until it is time to stop, and what is under way then for some seconds more.
    pub async fn serve_place(self, place: Place, access: Access, counters: Counters) {
        let service = place.service(access);
        let counting = counters.clone();
        let patience = self.patience;
        self.serve(counters, move || counted(service.clone(), counting.clone(), patience)).await;
    }

    /// Answers with pages until it is time to stop.
    pub async fn serve_page(self, router: Router) {
        self.serve(Counters::default(), move || TowerToHyperService::new(router.clone())).await;
    }

    async fn serve<S, B>(self, counters: Counters, service: impl Fn() -> S)
    where
        S: Answering<B>,
        B: Answer,
    {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut stop = std::pin::pin!(self.stop.clone().wait());
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                self.listener.accept().await.map(|(stream, _)| (stream, place))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => break,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::debug!(error:% = error; "a connection was lost");
                    tokio::time::sleep(FAULT).await;
                    continue;
                }
            };
            let (tls, service, counters) = (self.tls.clone(), service(), counters.clone());
            let (watcher, quiet) = (graceful.watcher(), self.patience.quiet);
            tokio::spawn(async move {
                counters.connected();
                connected(stream, tls, service, watcher, quiet).await;
                counters.disconnected();
                drop(place);
            });
        }
        drop(self.listener);
        if timeout(self.patience.last, graceful.shutdown()).await.is_err() {
            log::warn!("requests were under way when the host stopped: boards send them again");
        }
    }
}

/// What answers requests with such bodies.
trait Answering<B>:
    Service<Request<Incoming>, Response = Response<B>, Future: Send, Error: Into<AnyError>> + Send + 'static
{
}

impl<S, B> Answering<B> for S where
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send, Error: Into<AnyError>> + Send + 'static
{
}

/// A body that can be given out.
trait Answer: Body<Data: Send, Error: Into<AnyError>> + Send + 'static {}

impl<B: Body<Data: Send, Error: Into<AnyError>> + Send + 'static> Answer for B {}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn connected<S, B>(stream: TcpStream, tls: Option<TlsAcceptor>, service: S, watcher: Watcher, quiet: Duration)
where
    S: Answering<B>,
    B: Answer,
{
    // Answers are small, and waiting for more to send makes every request slower.
    let _ = stream.set_nodelay(true);
    match tls {
        None => answered(stream, service, watcher, quiet).await,
        Some(tls) => match timeout(quiet, tls.accept(stream)).await {
            Ok(Ok(stream)) => answered(stream, service, watcher, quiet).await,
            Ok(Err(error)) => log::debug!(error:% = error; "TLS was not agreed on"),
            Err(_) => log::debug!("TLS' greeting did not come"),
        },
    }
}

async fn answered<T, S, B>(stream: T, service: S, watcher: Watcher, quiet: Duration)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Answering<B>,
    B: Answer,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(quiet).max_headers(64);
    let stream = TokioIo::new(Unstalled::new(stream, quiet));
    if let Err(error) = watcher.watch(builder.serve_connection(stream, service)).await {
        log::debug!(error:% = error; "a connection ended");
    }
}

type Answered = Result<Response<s3s::Body>, s3s::HttpError>;

/// Counts what S3 answers.
fn counted(
    service: S3Service,
    counters: Counters,
    patience: Patience,
) -> impl Service<Request<Incoming>, Response = Response<s3s::Body>, Error = s3s::HttpError, Future: Send> {
    service_fn(move |mut request: Request<Incoming>| {
        let (service, in_flight) = (service.clone(), counters.asked());
        request.extensions_mut().insert(in_flight.operation().clone());
        async move {
            let request = request.map(|body| s3s::Body::http_body_unsync(Patient::new(body, patience)));
            let answer: Answered = service.call(request).await;
            in_flight.answered(answer.as_ref().map_or(500, |answer| answer.status().as_u16()));
            answer
        }
    })
}

/// TLS with a certificate chain and its key, in PEM.
///
/// # Errors
/// Files that are none, or do not belong to each other.
pub fn certificate(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, ListenError> {
    let fault = |path: &Path, reason: String| ListenError::Certificate { path: path.to_owned(), reason };
    let open = |path: &Path| File::open(path).map(BufReader::new).map_err(|error| fault(path, error.to_string()));
    let certificates: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_reader_iter(open(chain)?).collect();
    let certificates = certificates.map_err(|error| fault(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(fault(chain, "it holds no certificate".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| fault(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(chain, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(certificates, secret)
        .map_err(|error| fault(key, error.to_string()))?;
    Ok(Arc::new(config))
}
