//! Who vouches for a server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Why no server can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The certificates cannot be read.
    #[error("{}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nobody whom the system trusts.
    #[error(
        "the system has no certificates to check a server's against: install ca-certificates, or name a file of certificates"
    )]
    Nobody,
    /// This build's cryptography does not work.
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS towards servers for whom a file of certificates in PEM vouches; without one, whom the system trusts.
///
/// # Errors
/// A file without certificates, a system without any.
pub fn trust(authority: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(path) => {
            roots.add_parsable_certificates(rustls_native_certs::load_certs_from_paths(Some(path), None).certs);
            if roots.is_empty() {
                let none = "it has no certificates in PEM that can be used";
                let source = std::fs::File::open(path).err().unwrap_or_else(|| io::Error::other(none));
                return Err(TrustError::Authority { path: path.to_owned(), source });
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TrustError::Nobody);
            }
        }
    }
    config(roots)
}

/// TLS that trusts nobody, for places that are spoken to in the clear.
pub(crate) fn nobody() -> Result<ClientConfig, TrustError> {
    config(RootCertStore::empty())
}

fn config(roots: RootCertStore) -> Result<ClientConfig, TrustError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
