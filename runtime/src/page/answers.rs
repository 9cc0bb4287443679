//! How answers look: for people a page, for programs JSON, with the headers that keep a browser from doing more.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use maud::html;
use serde_json::json;

use super::views::document;
use crate::face::Refusal;

/// Only what is the page's own is loaded, shown and sent, and nothing is written into it.
const POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Sets what every answer says to browsers.
pub(super) async fn with_policy(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With less, browsers would not say where a form comes from.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a person reads the answer.
pub(super) fn is_for_people(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|kinds| kinds.contains("text/html"))
}

/// Why something is not done.
pub(super) fn refuse(headers: &HeaderMap, status: StatusCode, words: &str) -> Response {
    let mut response = if is_for_people(headers) {
        let body = html! {
            h1 { (status.canonical_reason().unwrap_or("No")) }
            p { (words) }
            p { a href="/" { "The board" } }
        };
        (status, Html(document("No", body).into_string())).into_response()
    } else {
        (status, Json(json!({ "error": words }))).into_response()
    };
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

/// Why the board does not do it.
pub(super) fn refused(headers: &HeaderMap, refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Busy | Refusal::Away => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::NotThere(_) => StatusCode::NOT_FOUND,
        Refusal::Unusable(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(headers, status, &refusal.to_string())
}
