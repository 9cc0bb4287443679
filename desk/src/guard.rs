//! Who is let in: requests that name the host by a number or as "localhost", and that no other site's page sends.
//!
//! A browser on the host can be made to send requests by any site that it visits. What such a site cannot do is choose the
//! names in them: `Host` is the name in the address, `Origin` the site's own.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::answers::refuse;

/// Lets a request through, or says why not.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = text(headers, "host").unwrap_or_default();
    if !is_here(host) {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "this page is called localhost, or by its number");
    }
    if is_foreign(headers, host, request.method()) {
        return refuse(StatusCode::FORBIDDEN, "the request comes from the page of another site");
    }
    next.run(request).await
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"))
}

/// A number is no name that anybody could have pointed here.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let number = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || number.parse::<IpAddr>().is_ok()
}

/// Whether a browser sends this for the page of another site.
fn is_foreign(headers: &HeaderMap, host: &str, method: &Method) -> bool {
    if let Some(origin) = text(headers, header::ORIGIN.as_str()) {
        return origin.split_once("://").is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host));
    }
    let is_reading = matches!(*method, Method::GET | Method::HEAD);
    let site = text(headers, "sec-fetch-site");
    !is_reading && site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
}
