//! Who may do what: the operator all, a board little, everybody else nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dataset::disk::{Existing, WholeFile};
use exchange::{Credentials, DeviceName};
use host::devices::new_credentials;
use host::{Home, HomeError};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};

use crate::counters::Counters;
use crate::key::{Key, Kind};

const OPERATOR: &str = "operator.key";

/// The operator's key cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The host's folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file.
    #[error("{}: {source}: it holds the operator's access key and secret, a line each; remove it, and new ones are made", path.display())]
    Operator {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who may do what.
#[derive(Clone)]
pub struct Access {
    home: Arc<Mutex<Home>>,
    operator: Arc<Credentials>,
    counters: Counters,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Operator,
    Board(DeviceName),
}

impl Access {
    /// The access of a host's folder. The operator's key is made if there is none.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn open(folder: &Path, counters: Counters) -> Result<Access, AccessError> {
        let home = Home::open(folder)?;
        let operator = operator(&folder.join(OPERATOR))?;
        Ok(Access { home: Arc::new(Mutex::new(home)), operator: Arc::new(operator), counters })
    }

    /// The operator's key, which opens everything.
    pub fn operator(&self) -> &Credentials {
        &self.operator
    }

    /// Whose an access key is, with its secret. Boards that are let in no more are nobody, from the next request on.
    fn caller(&self, user: &str) -> S3Result<Option<(Caller, String)>> {
        if user == self.operator.user {
            return Ok(Some((Caller::Operator, self.operator.secret.clone())));
        }
        let found = self.home.lock().unwrap_or_else(PoisonError::into_inner).opened_by(user);
        let found = found.map_err(|error| {
            log::error!(error:% = error; "the host's book cannot be read");
            s3_error!(ServiceUnavailable, "the host cannot read its book")
        })?;
        Ok(found.map(|(device, secret)| (Caller::Board(device), secret)))
    }
}

impl Caller {
    /// Whether it may do this there.
    fn may(&self, operation: &str, key: Option<&Key>) -> bool {
        let Caller::Board(device) = self else { return true };
        let Some(key) = key else { return false };
        match key.kind() {
            Kind::Shard(of, _) | Kind::Health(of, _) => of == device && matches!(operation, "PutObject" | "HeadObject"),
            Kind::Receipt(of) => of == device && matches!(operation, "GetObject" | "HeadObject"),
            Kind::Release => matches!(operation, "GetObject" | "HeadObject"),
            Kind::Other => false,
        }
    }
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, user: &str) -> S3Result<SecretKey> {
        match self.caller(user)? {
            Some((_, secret)) => Ok(secret.into()),
            None => {
                self.counters.refused("unknown-key");
                Err(s3_error!(InvalidAccessKeyId, "this host knows no such key"))
            }
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let denied = |reason| {
            self.counters.refused(reason);
            s3_error!(AccessDenied, "this key may not do that")
        };
        let user = context.credentials().ok_or_else(|| denied("unsigned"))?.access_key.clone();
        let (caller, _) = self.caller(&user)?.ok_or_else(|| denied("unknown-key"))?;
        let key = match context.s3_path() {
            S3Path::Object { key, .. } => Some(Key::new(key).ok_or_else(|| denied("no-name"))?),
            _ => None,
        };
        if !caller.may(context.s3_op().name(), key.as_ref()) {
            return Err(denied("not-its-own"));
        }
        context.extensions_mut().insert(caller);
        Ok(())
    }
}

fn operator(path: &Path) -> Result<Credentials, AccessError> {
    let fault = |source| AccessError::Operator { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let [user, secret] = lines[..] else { return Err(fault(io::ErrorKind::InvalidData.into())) };
            Ok(Credentials { user: user.to_owned(), secret: secret.to_owned(), region: None })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let credentials = new_credentials()?;
            let text = format!("{}\n{}\n", credentials.user, credentials.secret);
            let mut file = WholeFile::secret_beside(path).map_err(fault)?;
            file.write_all(text.as_bytes()).map_err(fault)?;
            file.keep(Existing::Refuse).map_err(fault)?;
            Ok(credentials)
        }
        Err(source) => Err(fault(source)),
    }
}
