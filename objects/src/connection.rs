//! HTTP as the object stores use it: paced, with times that end, signed for the other side's clock, and with what was
//! answered kept for whoever asks why it failed.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use exchange::{Credentials, Digest};
use http_body_util::BodyExt;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as ConnectsHttp, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::pacing::Paced;
use crate::remote::RemoteError;
use crate::signing;

/// Until a server has taken the call.
const CONNECT: Duration = Duration::from_secs(20);
/// Until a server has answered after all was sent.
const ANSWER: Duration = Duration::from_secs(60);
/// What a slow network is given for each KiB of a body.
const FOR_A_KIB: Duration = Duration::from_millis(250);
/// Most bytes of an answer. A receipt has fewer.
const MAX_ANSWER: usize = 32 << 20;
/// A clock that differs by less is taken as right.
const SMALL_DIFFERENCE_S: u64 = 60;
/// What S3 says to a request of another time. Source: Amazon S3, "Error responses".
const SKEWED: &[u8] = b"RequestTimeTooSkewed";
/// How S3 calls requests that were cut or changed on their way.
///
/// Source: Amazon S3 API Reference, "Error responses".
const DAMAGED: [&[u8]; 4] = [b"BadDigest", b"XAmzContentSHA256Mismatch", b"IncompleteBody", b"RequestTimeout"];

/// How requests are let in.
pub(crate) enum Access {
    /// By S3's signature.
    Signed(Credentials),
    /// By user and password, in base64 as HTTP has it.
    Password(String),
    /// They need nothing.
    Open,
}

/// What the last request met with.
#[derive(Default)]
struct Seen {
    ahead_s: Option<i64>,
    fault: Option<RemoteError>,
}

/// What is known about the last answers, for those who asked through an object store.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

impl Witness {
    pub(crate) fn ahead_s(&self) -> Option<i64> {
        self.seen().ahead_s
    }

    pub(crate) fn forget_fault(&self) {
        self.seen().fault = None;
    }

    /// Why the last request failed.
    pub(crate) fn fault(&self) -> Option<RemoteError> {
        self.seen().fault.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives object stores their client.
pub(crate) struct Connection {
    service: Arc<Service>,
}

struct Service {
    client: Client<HttpsConnector<HttpConnector>, Paced>,
    access: Access,
    rate: Option<u64>,
    witness: Witness,
}

impl Connection {
    pub(crate) fn new(tls: ClientConfig, access: Access, rate: Option<u64>, witness: Witness) -> Connection {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = https.wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Connection { service: Arc::new(Service { client, access, rate, witness }) }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl ConnectsHttp for Connection {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Shared(Arc::clone(&self.service))))
    }
}

struct Shared(Arc<Service>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

#[async_trait::async_trait]
impl HttpService for Shared {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.0.call(request).await
    }
}

impl Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let signed_ahead = self.correction();
        let first = self.send(&parts, &body).await;
        let (status, headers, answer) = first.inspect_err(|error| self.note(offline(error)))?;
        let ahead = self.learn_time(&headers);
        let is_off = ahead.is_some_and(|ahead| ahead.abs_diff(signed_ahead) > SMALL_DIFFERENCE_S);
        // The answer to a HEAD says nothing but the time.
        let is_refused_for_it = is_skewed(&answer) || answer.is_empty() && is_off;
        let (status, headers, answer) = if status == StatusCode::FORBIDDEN && is_refused_for_it && ahead.is_some() {
            // Once more, now that the time is known.
            self.send(&parts, &body).await.inspect_err(|error| self.note(offline(error)))?
        } else {
            (status, headers, answer)
        };
        self.judge(status, &headers, &answer);
        let mut response = HttpResponse::new(HttpResponseBody::from(answer));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Sends once, and gives the whole answer.
    async fn send(&self, parts: &Parts, body: &Bytes) -> Result<(StatusCode, HeaderMap, Bytes), HttpError> {
        let mut request = Request::new(Paced::new(body.clone(), self.rate));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        self.let_in(parts, body, request.headers_mut())?;
        let paced = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(body.len() as u64 / rate.max(1)));
        let most = ANSWER + paced + FOR_A_KIB * u32::try_from(body.len() >> 10).unwrap_or(u32::MAX);
        let answer = async {
            let response = self.client.request(request).await.map_err(broken)?;
            let (parts, mut body) = response.into_parts();
            let mut answer = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
                if let Some(data) = frame.data_ref() {
                    if answer.len() + data.len() > MAX_ANSWER {
                        let flood = std::io::Error::other("the answer does not end");
                        return Err(HttpError::new(HttpErrorKind::Decode, flood));
                    }
                    answer.extend_from_slice(data);
                }
            }
            Ok((parts.status, parts.headers, Bytes::from(answer)))
        };
        let late = |_| HttpError::new(HttpErrorKind::Timeout, std::io::Error::other("no answer in time"));
        timeout(most, answer).await.map_err(late)?
    }

    fn let_in(&self, parts: &Parts, body: &Bytes, headers: &mut HeaderMap) -> Result<(), HttpError> {
        let none = |what: &'static str| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(what));
        let text =
            |text: &str| HeaderValue::from_str(text).map_err(|_| none("a password has characters that HTTP has not"));
        let uri = &parts.uri;
        match &self.access {
            Access::Open => {}
            Access::Password(word) => {
                headers.insert(header::AUTHORIZATION, text(&format!("Basic {word}"))?);
            }
            Access::Signed(credentials) => {
                let host = uri.authority().ok_or_else(|| none("the address names no host"))?.as_str();
                let request = signing::Request {
                    method: &parts.method,
                    host,
                    path: uri.path(),
                    query: uri.query().unwrap_or_default(),
                    body: Digest::of(body),
                    at_s: Timestamp::now().as_second().saturating_add(self.correction()),
                };
                let signed = signing::signed(&request, credentials);
                for (name, value) in signed.ok_or_else(|| none("the board's clock shows no time of this calendar"))? {
                    headers.insert(HeaderName::from_static(name), text(&value)?);
                }
            }
        }
        Ok(())
    }

    /// Seconds that requests are signed ahead of the system's clock.
    fn correction(&self) -> i64 {
        self.witness.ahead_s().filter(|ahead| ahead.unsigned_abs() > SMALL_DIFFERENCE_S).unwrap_or(0)
    }

    fn learn_time(&self, headers: &HeaderMap) -> Option<i64> {
        let date = headers.get(header::DATE)?.to_str().ok()?;
        // HTTP's dates end in GMT, which is RFC 2822's too.
        let theirs = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?.as_second();
        let ahead = theirs.saturating_sub(Timestamp::now().as_second());
        self.witness.seen().ahead_s = Some(ahead);
        Some(ahead)
    }

    fn judge(&self, status: StatusCode, headers: &HeaderMap, answer: &Bytes) {
        let words = || format!("{status}{}", first_words(answer));
        let fault = match status.as_u16() {
            200..=299 | 404 => None,
            401 | 403 if is_skewed(answer) => Some(RemoteError::Clock),
            401 | 403 => Some(RemoteError::Locked(words())),
            300..=399 | 511 => Some(RemoteError::Stranger(words())),
            408 | 425 | 429 | 500..=599 => {
                let after = headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                Some(RemoteError::Busy { reason: words(), after: after.map(Duration::from_secs) })
            }
            400 if is_damaged(answer) => Some(RemoteError::Busy { reason: words(), after: None }),
            _ => Some(RemoteError::Refused(words())),
        };
        self.witness.seen().fault = fault;
    }

    fn note(&self, fault: RemoteError) {
        self.witness.seen().fault = Some(fault);
    }
}

fn broken(error: hyper_util::client::legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}

/// A certificate that is not the host's is somebody else's, and no lack of a connection.
fn offline(error: &HttpError) -> RemoteError {
    let mut words = error.to_string();
    let mut cause = error.source();
    let mut is_stranger = false;
    while let Some(error) = cause {
        is_stranger |= is_of_tls(error);
        words = error.to_string();
        cause = error.source();
    }
    if is_stranger { RemoteError::Stranger(words) } else { RemoteError::Offline(words) }
}

/// Errors of the system wrap those of TLS without naming them as their source.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|inner| is_of_tls(inner))
}

/// What a server says of its refusal, on one line.
fn first_words(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let inside = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    let words = inside("Message").or_else(|| inside("title")).unwrap_or_default();
    let words: String = words.chars().filter(|c| !c.is_control()).take(160).collect();
    if words.is_empty() { words } else { format!(", {words}") }
}

/// Whether a request did not arrive as it was sent: a server that says nothing could not read it at all.
fn is_damaged(answer: &[u8]) -> bool {
    answer.is_empty() || DAMAGED.iter().any(|code| memchr::memmem::find(answer, code).is_some())
}

fn is_skewed(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, SKEWED).is_some()
}
