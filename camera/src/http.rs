//! A GET over a plain connection, for answers that never end: what a camera in the same house needs of HTTP.
//!
//! A client for everything would have no limit on how long one read may take, which is how a camera that went silent
//! is noticed. What this one does not do (TLS, digest authentication, proxies), `ffmpeg` does.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::error::CameraError;
use crate::source::NetworkUrl;
use crate::stop::{Patience, Stop, Waited};

/// Most bytes of an answer's head, and headers in it.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Longest line that says the size of a chunk.
const MAX_CHUNK_LINE: usize = 256;
/// Times that a server may send us on.
const MAX_REDIRECTS: usize = 3;
/// Addresses of a host that are tried, and how long each.
const MAX_ADDRESSES: usize = 3;
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// An answer whose body is being read.
#[derive(Debug)]
pub(crate) struct Answer {
    stream: TcpStream,
    what: String,
    /// As the server writes it, in lower case.
    pub content_type: String,
    framing: Framing,
    /// Read from the connection, and not yet of the body.
    pending: Vec<u8>,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// With the connection.
    Connection,
    /// After so many bytes.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Before the line with a size.
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// Before the end of the line after a chunk.
    After,
    /// The last one is read.
    Last,
}

struct Head {
    status: u16,
    reason: String,
    location: Option<String>,
    content_type: String,
    framing: Framing,
}

/// Asks for `url` and reads the head of the answer.
pub(crate) fn get(url: &NetworkUrl, stop: &Stop, patience: Patience) -> Result<Answer, CameraError> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let what = url.to_string();
        let answers = |answer: String| CameraError::Answer { what: what.clone(), answer };
        if url.scheme() != "http" {
            let advice = "with a redirection that is not to http://; put ffmpeg: before the URL";
            return Err(answers(advice.to_owned()));
        }
        let mut stream = connect(&url)?;
        let send = |error| CameraError::Read { what: what.clone(), error };
        stream.set_write_timeout(Some(CONNECT_PATIENCE)).map_err(send)?;
        stream.write_all(request(&url).as_bytes()).map_err(send)?;
        let (head, pending) = read_head(&mut stream, &what, stop, patience)?;
        match (head.status, head.location) {
            (200, _) => {
                return Ok(Answer { stream, what, content_type: head.content_type, framing: head.framing, pending });
            }
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                let unusable = || answers("with a redirection that cannot be followed".to_owned());
                url = url.redirected(&location).ok_or_else(unusable)?;
            }
            (401, _) => {
                let advice = "401; put user:password@ before the host, or ffmpeg: before the URL if it is there";
                return Err(answers(advice.to_owned()));
            }
            (status, _) => return Err(answers(format!("{status} {}; check the path of its URL", head.reason))),
        }
    }
    Err(CameraError::Answer { what: url.to_string(), answer: "with one redirection after another".to_owned() })
}

fn connect(url: &NetworkUrl) -> Result<TcpStream, CameraError> {
    let open = |error| CameraError::Open { what: url.to_string(), error };
    let no_host = || open(std::io::Error::other("it has no host and port"));
    let (host, port) = url.host_and_port(80).ok_or_else(no_host)?;
    let mut last = std::io::Error::other("its host has no address");
    for address in (host, port).to_socket_addrs().map_err(open)?.take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(open(last))
}

fn request(url: &NetworkUrl) -> String {
    let user = url.user().map(|user| format!("Authorization: Basic {}\r\n", base64(&decoded(user))));
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: edgeblip\r\nAccept: */*\r\nConnection: close\r\n{}\r\n",
        url.target(),
        url.authority(),
        user.unwrap_or_default()
    )
}

/// `%41` as `A`.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Source: RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |index: usize| char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]);
        (0..4).map(|index| if index <= three.len() { digit(index) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn read_head(
    stream: &mut TcpStream,
    what: &str,
    stop: &Stop,
    patience: Patience,
) -> Result<(Head, Vec<u8>), CameraError> {
    let answers = |answer: &str| CameraError::Answer { what: what.to_owned(), answer: answer.to_owned() };
    let mut bytes = Vec::new();
    loop {
        if receive(stream, &mut bytes, what, stop, patience)? == 0 {
            return Err(CameraError::Closed { what: what.to_owned() });
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        let mut lenient = httparse::ParserConfig::default();
        lenient.allow_spaces_after_header_name_in_responses(true);
        lenient.ignore_invalid_headers_in_responses(true);
        match lenient.parse_response(&mut answer, &bytes) {
            Ok(httparse::Status::Complete(length)) => {
                let head = head(&answer);
                bytes.drain(..length);
                return Ok((head, bytes));
            }
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) => return Err(answers("with headers that do not end")),
            Err(error) => return Err(answers(&format!("something that is not HTTP ({error})"))),
        }
    }
}

fn head(answer: &httparse::Response) -> Head {
    let value = |name: &str| {
        let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let is_chunked = value("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
    let length = value("content-length").and_then(|length| length.parse().ok());
    let framing = match length {
        _ if is_chunked => Framing::Chunked(Chunk::Size),
        Some(length) => Framing::Length(length),
        None => Framing::Connection,
    };
    Head {
        status: answer.code.unwrap_or_default(),
        reason: answer.reason.unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(60).collect(),
        location: value("location"),
        content_type: value("content-type").unwrap_or_default().to_ascii_lowercase(),
        framing,
    }
}

/// Reads what there is, behind `bytes`; zero bytes are the end.
fn receive(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    what: &str,
    stop: &Stop,
    patience: Patience,
) -> Result<usize, CameraError> {
    let fault = |error| CameraError::Read { what: what.to_owned(), error };
    loop {
        match stop.readable(stream.as_fd(), patience).map_err(fault)? {
            Waited::Stopped => return Err(CameraError::Stopped),
            Waited::Late => return Err(patience.silent(String::new())),
            Waited::Readable | Waited::Ended => {}
        }
        let mut buffer = [0; 16 << 10];
        match stream.read(&mut buffer) {
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                return Ok(count);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(fault(error)),
        }
    }
}

impl Answer {
    /// Some of the body, behind `body`. No more bytes are its end.
    pub fn read(&mut self, body: &mut Vec<u8>, stop: &Stop, patience: Patience) -> Result<usize, CameraError> {
        let before = body.len();
        loop {
            if self.take_body(body)? {
                return Ok(body.len() - before);
            }
            if body.len() > before {
                return Ok(body.len() - before);
            }
            if receive(&mut self.stream, &mut self.pending, &self.what, stop, patience)? == 0 {
                return match self.framing {
                    Framing::Connection => Ok(0),
                    _ => Err(CameraError::Closed { what: self.what.clone() }),
                };
            }
        }
    }

    /// Moves what of the body is pending. True where the body is at its end.
    fn take_body(&mut self, body: &mut Vec<u8>) -> Result<bool, CameraError> {
        loop {
            match self.framing {
                Framing::Connection => {
                    body.append(&mut self.pending);
                    return Ok(false);
                }
                Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => {
                    let count = self.pending.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body.extend(self.pending.drain(..count));
                    let left = left - count as u64;
                    let is_chunked = matches!(self.framing, Framing::Chunked(_));
                    self.framing = match left {
                        0 if is_chunked => Framing::Chunked(Chunk::After),
                        _ if is_chunked => Framing::Chunked(Chunk::Data(left)),
                        _ => Framing::Length(left),
                    };
                    if !is_chunked || left > 0 {
                        return Ok(left == 0);
                    }
                }
                Framing::Chunked(Chunk::Last) => return Ok(true),
                Framing::Chunked(place) => {
                    let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
                        return if self.pending.len() <= MAX_CHUNK_LINE { Ok(false) } else { Err(self.bad_chunk()) };
                    };
                    let size = chunk_size(&self.pending[..end]);
                    self.pending.drain(..=end);
                    self.framing = Framing::Chunked(match (place, size) {
                        (Chunk::After, _) => Chunk::Size,
                        (_, Some(0)) => Chunk::Last,
                        (_, Some(size)) => Chunk::Data(size),
                        (_, None) => return Err(self.bad_chunk()),
                    });
                }
            }
        }
    }

    fn bad_chunk(&self) -> CameraError {
        CameraError::Answer { what: self.what.clone(), answer: "with a chunk of no size".to_owned() }
    }
}

/// Hexadecimal digits, and after a semicolon anything. Source: RFC 9112, section 7.1.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let is_number = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    is_number.then(|| u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())?
}

#[cfg(test)]
mod tests;
