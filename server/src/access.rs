//! Who may do what: the operator all, a board little, everybody else nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dataset::disk::{Existing, WholeFile};
use exchange::{Credentials, DeviceName};
use host::devices::new_credentials;
use host::{Home, HomeError};
use hyper::header::AUTHORIZATION;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};

use crate::counters::{Counters, Operation};
use crate::key::{Key, Kind};

const OPERATOR: &str = "operator.key";
/// What anybody may ask for.
const OPERATIONS: [&str; 7] =
    ["PutObject", "GetObject", "HeadObject", "ListObjectsV2", "DeleteObject", "DeleteObjects", "HeadBucket"];
/// What stands for the rest of S3.
const OTHER: &str = "other";
/// How a signature of version 4 begins, which is the one that says when it was made.
///
/// Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header".
const SIGNED: &str = "AWS4-HMAC-SHA256 ";
/// What in a query would stand in for it.
const SIGNED_ELSEWHERE: [&str; 2] = ["Signature", "X-Amz-Signature"];

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
        let operation = OPERATIONS.into_iter().find(|name| *name == context.s3_op().name()).unwrap_or(OTHER);
        if let Some(asked) = context.extensions_mut().get::<Operation>() {
            asked.is(operation);
        }
        let credentials = context.credentials().filter(|_| is_signed_by_header(context));
        let user = credentials.ok_or_else(|| denied("unsigned"))?.access_key.clone();
        let (caller, _) = self.caller(&user)?.ok_or_else(|| denied("unknown-key"))?;
        let key = match context.s3_path() {
            S3Path::Object { key, .. } => Some(Key::new(key).ok_or_else(|| denied("no-name"))?),
            _ => None,
        };
        if !caller.may(operation, key.as_ref()) {
            return Err(denied("not-its-own"));
        }
        if operation == OTHER {
            self.counters.refused("other-operation");
            return Err(s3_error!(NotImplemented, "this host does not do that"));
        }
        context.extensions_mut().insert(caller);
        Ok(())
    }
}

/// Whether it is signed by its header, with version 4: other ways hold for longer, or for any time at all.
fn is_signed_by_header(context: &S3AccessContext<'_>) -> bool {
    let header = context.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let mut names =
        context.uri().query().unwrap_or_default().split('&').map(|part| part.split('=').next().unwrap_or(part));
    // No name of S3's is written with escapes.
    let is_elsewhere = names.any(|name| SIGNED_ELSEWHERE.contains(&name) || name.contains(['%', '+']));
    header.is_some_and(|header| header.starts_with(SIGNED)) && !is_elsewhere
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
