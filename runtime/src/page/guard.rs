//! Who is let in: the name by which the board is called, the page that a request comes from, and tokens.
//!
//! A browser on the board's network can be made to send requests by any site that it visits. What such a site cannot do is
//! choose the names in them: `Host` is the name in the address, `Origin` the site's own.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::App;
use super::answers::refuse;
use super::keys::{Kind, now_s};

/// The cookie of a session.
const COOKIE: &str = "edgeblip";

/// How a board may be called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The host's own name.
    pub(super) host: String,
    /// What the configuration adds.
    pub(super) further: Option<String>,
}

/// Who may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Everybody who gets here: those on the board itself.
    All,
    /// Those with a token.
    Known,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Reading,
    Changing,
}

impl Needs {
    fn of(method: &Method, path: &str) -> Needs {
        match (method, path) {
            (_, "/enter" | "/page.css" | "/page.js" | "/icon.svg") => Needs::Nothing,
            // It computes, and changes nothing.
            (&Method::POST, "/caption") | (&Method::GET | &Method::HEAD, _) => Needs::Reading,
            _ => Needs::Changing,
        }
    }
}

/// Lets a request through, or says why not.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !app.names.include(host) {
        let words = "the board is not called that: use its number, its own name, or set page.name";
        return refuse(headers, StatusCode::MISDIRECTED_REQUEST, words);
    }
    if is_foreign(headers, host, request.method()) {
        return refuse(headers, StatusCode::FORBIDDEN, "the request comes from the page of another site");
    }
    let needs = Needs::of(request.method(), request.uri().path());
    let needs_token = match needs {
        Needs::Nothing => false,
        Needs::Reading => app.readers == Readers::Known,
        Needs::Changing => true,
    };
    if needs_token && !is_known(&app, headers, needs) {
        let words = "open the link that \"edgeblip page link\" prints on the board; programs send \
                     \"Authorization: Bearer TOKEN\" with what \"edgeblip page token\" prints";
        return refuse(headers, StatusCode::UNAUTHORIZED, words);
    }
    next.run(request).await
}

impl Names {
    /// Whether a request may call the board so. A number is no name that anybody could have pointed here.
    fn include(&self, host: &str) -> bool {
        let name = without_port(host);
        if name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let own = self.host.to_ascii_lowercase();
        let is_own = !own.is_empty() && (name == own || name == format!("{own}.local"));
        name == "localhost" || is_own || self.further.as_ref().is_some_and(|further| name.eq_ignore_ascii_case(further))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whether a browser sends this for the page of another site.
fn is_foreign(headers: &HeaderMap, host: &str, method: &Method) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    if let Some(origin) = text("origin") {
        let of_us = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        return !of_us;
    }
    let site = text("sec-fetch-site");
    if method == Method::GET || method == Method::HEAD {
        // Somebody may follow a link to the board; another page may not show what is on it.
        return matches!(site, Some("cross-site" | "same-site")) && text("sec-fetch-mode") != Some("navigate");
    }
    // Browsers name the origin of whatever changes something.
    matches!(site, Some(site) if site != "same-origin") || (site.is_none() && session(headers).is_some())
}

fn is_known(app: &App, headers: &HeaderMap, needs: Needs) -> bool {
    let now_s = now_s();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let is_program = bearer.is_some_and(|token| app.keys.is_good(Kind::Program, token.trim(), now_s));
    let is_session = || session(headers).is_some_and(|token| app.keys.is_good(Kind::Session, token, now_s));
    // What the next line lets in has proved where it comes from: see `is_foreign`.
    is_program || is_session() && (needs != Needs::Changing || headers.contains_key(header::ORIGIN))
}

/// Whether a browser that is let in sends a request; for showing it what it may do.
pub(super) fn has_session(app: &App, headers: &HeaderMap) -> bool {
    session(headers).is_some_and(|token| app.keys.is_good(Kind::Session, token, now_s()))
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// The cookie that keeps a browser in.
pub(super) fn cookie(token: &str, seconds: u64) -> String {
    format!("{COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_called_by_numbers_and_its_own_names() {
        let names = Names { host: "Owl".to_owned(), further: Some("bird.example.org".to_owned()) };
        for host in [
            "127.0.0.1:8020",
            "[::1]:8020",
            "[fe80::1]",
            "192.168.1.7",
            "localhost:9000",
            "owl",
            "OWL.local:8020",
            "owl.local.",
            "bird.example.org:80",
        ] {
            assert!(names.include(host), "{host}");
        }
        for host in
            ["", ":8020", "evil.example", "owl.evil.example", "127.0.0.1.evil.example", "localhost.evil", "local"]
        {
            assert!(!names.include(host), "{host}");
        }
        assert!(!Names { host: String::new(), further: None }.include(".local"));
    }

    #[test]
    fn requests_of_other_sites_are_told_from_our_own() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let host = "owl.local:8020";
        let is = |method: Method, pairs: &[(&'static str, &str)]| is_foreign(&headers(pairs), host, &method);
        assert!(!is(Method::POST, &[("origin", "http://owl.local:8020")]));
        assert!(!is(Method::POST, &[]));
        for origin in ["null", "http://owl.local", "http://evil.example", "http://owl.local:8020.evil.example"] {
            assert!(is(Method::POST, &[("origin", origin)]), "{origin}");
            assert!(is(Method::GET, &[("origin", origin)]), "{origin}");
        }
        assert!(is(Method::GET, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(!is(Method::GET, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(!is(Method::GET, &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]));
        assert!(is(Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(is(Method::POST, &[("cookie", "a=b; edgeblip=x")]));
    }
}
