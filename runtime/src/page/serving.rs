//! Listens, and answers a bounded number of connections that do not dawdle.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Most connections; further ones wait until one ends.
const MAX_CONNECTIONS: usize = 64;
/// How long a request's head may take, and how long a connection may be quiet between two.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a whole connection may last: who sends a body byte by byte gets no further.
const LONGEST: Duration = Duration::from_secs(300);
/// Wait after a connection that could not be taken, as when there are no more descriptors.
const FAULT: Duration = Duration::from_secs(1);

/// A page that nobody can be shown.
#[derive(Debug, thiserror::Error)]
#[error("page.address {address}: {source}; name another port, or \"none\"")]
pub struct ServeError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

pub(super) async fn serve(address: SocketAddr, router: Router) -> Result<Infallible, ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError { address, source })?;
    let place = listener.local_addr().unwrap_or(address);
    log::info!(address:% = place; "the page is there");
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::debug!(error:% = error; "a connection to the page was lost");
                tokio::time::sleep(FAULT).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            let connection = builder
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_headers(64)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(LONGEST, connection).await {
                log::debug!(error:% = error; "a connection to the page ended");
            }
            drop(place);
        });
    }
}
