//! A URL of the network: what is needed to connect, and nothing of it that is secret in a message.

use std::fmt;

/// What `ffmpeg` reads of the network.
const SCHEMES: &[&str] = &["rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt", "http", "https", "mmsh"];

/// Longest URL.
const MAX_BYTES: usize = 2000;

/// A URL of the network. Its password is used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkUrl {
    whole: String,
    /// Where in it the host begins.
    host: usize,
    /// Where in it the path begins.
    path: usize,
}

pub(super) fn is_network(scheme: &str) -> bool {
    SCHEMES.contains(&scheme)
}

/// A setting as it may be shown.
pub(super) fn without_secret(setting: &str) -> String {
    NetworkUrl::new(setting).map_or_else(|| setting.to_owned(), |url| url.to_string())
}

impl NetworkUrl {
    /// Checks a URL: a scheme that is known, a host, and nothing that would break a line of a request.
    pub fn new(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic()) && url.len() <= MAX_BYTES;
        let start = scheme.len() + "://".len();
        let path = start + rest.find(['/', '?']).unwrap_or(rest.len());
        let host = start + url[start..path].rfind('@').map_or(0, |at| at + 1);
        (is_network(scheme) && is_plain && host < path).then(|| Self { whole: url.to_owned(), host, path })
    }

    /// All of it, with the password.
    pub(crate) fn secret(&self) -> &str {
        &self.whole
    }

    /// What of it must not be shown, with what is shown instead.
    pub(crate) fn secrets(&self) -> Vec<(String, String)> {
        let user = self.user().map(|user| (user.to_owned(), "…".to_owned()));
        [(self.whole.clone(), self.to_string())].into_iter().chain(user).collect()
    }

    /// `user:password` as the URL writes it.
    pub(crate) fn user(&self) -> Option<&str> {
        let start = self.scheme().len() + "://".len();
        (start < self.host).then(|| &self.whole[start..self.host - 1])
    }

    pub(crate) fn scheme(&self) -> &str {
        self.whole.split(':').next().unwrap_or_default()
    }

    /// The host, with its port if it has one.
    pub(crate) fn authority(&self) -> &str {
        &self.whole[self.host..self.path]
    }

    /// What a request asks the host for.
    pub(crate) fn target(&self) -> String {
        let target = &self.whole[self.path..];
        if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }
    }

    /// Host and port apart; a host of IPv6 without its brackets.
    pub(crate) fn host_and_port(&self, usual: u16) -> Option<(&str, u16)> {
        let authority = self.authority();
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(usual), |port| port.parse().ok())?;
        (!host.is_empty()).then_some((host, port))
    }

    /// The URL that a server sends us on to.
    pub(crate) fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Self::new(&format!("{}{location}", &self.whole[..self.path]));
        }
        // The password is for the host that it was given for.
        Self::new(location)
    }
}

impl fmt::Display for NetworkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.user().is_some() { "…@" } else { "" };
        // A query may hold a key, too.
        let (path, query) =
            self.whole[self.path..].split_once('?').map_or((&self.whole[self.path..], ""), |(path, _)| (path, "?…"));
        write!(f, "{}://{user}{}{path}{query}", self.scheme(), self.authority())
    }
}

impl fmt::Debug for NetworkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
