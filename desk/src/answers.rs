//! How answers look, with the headers that keep a browser from doing more.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use host::curation::CurationError;
use host::deletion::DeletionError;
use host::{HomeError, PublishError};
use maud::{Markup, html};

use crate::views::document;

/// Only what is the page's own is loaded, shown and sent, and nothing is written into it.
const POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Sets what every answer says to browsers.
pub(crate) async fn with_policy(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With less, browsers would not say where a form comes from.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A page that says why something is not done.
pub(crate) fn refuse(status: StatusCode, words: &str) -> Response {
    let body = html! {
        h1 { (status.canonical_reason().unwrap_or("No")) }
        p { (terminal::printable(words)) }
        p { a href="/" { "The host" } }
    };
    (status, page("No", body)).into_response()
}

/// A page.
pub(crate) fn page(title: &str, body: Markup) -> Html<String> {
    Html(document(title, body).into_string())
}

/// Why the host does not do it.
pub(crate) struct Refusal {
    status: StatusCode,
    words: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, words: impl Into<String>) -> Refusal {
        Refusal { status, words: words.into() }
    }

    pub(crate) fn of(status: StatusCode, error: &(dyn std::error::Error + 'static)) -> Refusal {
        Refusal { status, words: terminal::explained(error) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refuse(self.status, &self.words)
    }
}

impl From<HomeError> for Refusal {
    fn from(error: HomeError) -> Refusal {
        let is_busy = matches!(error, HomeError::Busy { .. });
        let status = if is_busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
        Refusal::of(status, &error)
    }
}

impl From<CurationError> for Refusal {
    fn from(error: CurationError) -> Refusal {
        let status = match error {
            CurationError::Unknown { .. } => StatusCode::NOT_FOUND,
            CurationError::Name { .. } | CurationError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::of(status, &error)
    }
}

impl From<DeletionError> for Refusal {
    fn from(error: DeletionError) -> Refusal {
        match error {
            DeletionError::Curation(error) => error.into(),
            DeletionError::Home(error) => error.into(),
            error => Refusal::of(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Refusal {
        Refusal::of(StatusCode::INTERNAL_SERVER_ERROR, &error)
    }
}
