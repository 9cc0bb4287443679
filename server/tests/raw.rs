//! Requests byte for byte, signed where somebody wants it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exchange::{Credentials, Digest};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use server::BUCKET;
use sha1::Sha1;
use sha2::Sha256;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What S3 calls its refusal.
    pub(crate) fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.to_owned()).unwrap_or_default()
    }
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    /// An object's name as it stands in the URL; nothing for the bucket itself.
    pub(crate) name: &'a str,
    pub(crate) query: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) at_s: i64,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: &'a str, name: &'a str, body: &'a [u8]) -> Ask<'a> {
        Ask { method, name, query: "", body, at_s: Timestamp::now().as_second() }
    }

    /// The path of the URL.
    pub(crate) fn path(&self) -> String {
        if self.name.is_empty() { format!("/{BUCKET}") } else { format!("/{BUCKET}/{}", self.name) }
    }

    /// Headers that sign it.
    ///
    /// Source: AWS, "Signature Version 4 for API requests".
    pub(crate) fn signed(&self, host: SocketAddr, credentials: &Credentials) -> String {
        let at = Timestamp::from_second(self.at_s).unwrap();
        let (moment, day) = (at.strftime("%Y%m%dT%H%M%SZ").to_string(), at.strftime("%Y%m%d").to_string());
        let body = Digest::of(self.body);
        let names = "host;x-amz-content-sha256;x-amz-date";
        let (Ask { method, query, .. }, path) = (self, self.path());
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{body}\nx-amz-date:{moment}\n\n{names}\n{body}"
        );
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        let words = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", Digest::of(canonical.as_bytes()));
        let key = format!("AWS4{}", credentials.secret).into_bytes();
        let key = scope.split('/').fold(key, |key, part| hmac(&key, part.as_bytes()).to_vec());
        let (signature, user) = (Digest::from(hmac(&key, words.as_bytes())), &credentials.user);
        format!(
            "x-amz-date: {moment}\r\nx-amz-content-sha256: {body}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential={user}/{scope}, SignedHeaders={names}, Signature={signature}\r\n"
        )
    }

    /// Everything before the body.
    pub(crate) fn head(&self, host: SocketAddr, headers: &str) -> String {
        let (Ask { method, query, body, .. }, path) = (self, self.path());
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let length = body.len();
        format!(
            "{method} {path}{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
        )
    }

    /// Asks, signed.
    pub(crate) fn of(&self, host: SocketAddr, credentials: &Credentials) -> Answer {
        self.with(host, &self.signed(host, credentials))
    }

    /// Asks with these headers.
    pub(crate) fn with(&self, host: SocketAddr, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(self.head(host, headers).as_bytes()).unwrap();
        stream.write_all(self.body).unwrap();
        answer(stream)
    }
}

/// All of an answer.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let _ = stream.shutdown(Shutdown::Both);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// What version 2 of the signature would be.
pub(crate) fn hmac_of_version_2(secret: &str, words: &str) -> String {
    let mut hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    hmac.update(words.as_bytes());
    STANDARD.encode(hmac.finalize().into_bytes())
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    hmac.update(message);
    hmac.finalize().into_bytes().into()
}
