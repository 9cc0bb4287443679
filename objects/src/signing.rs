//! S3 requests signed for a moment that may not be the system's.
//!
//! Source: AWS, "Signature Version 4 for API requests"; the canonical URI is S3's, which is not encoded twice.

use exchange::{Credentials, Digest};
use hmac::{Hmac, KeyInit, Mac};
use hyper::Method;
use jiff::Timestamp;
use sha2::Sha256;

/// The region that is signed for where the server does not care.
pub(crate) const ANY_REGION: &str = "us-east-1";

/// What is signed.
pub(crate) struct Request<'r> {
    pub method: &'r Method,
    /// As it stands in the URL.
    pub host: &'r str,
    /// As it stands in the URL.
    pub path: &'r str,
    /// As it stands in the URL: parts with `&` between them, in any order.
    pub query: &'r str,
    /// SHA-256 of the body.
    pub body: Digest,
    /// When.
    pub at_s: i64,
}

/// Headers that a signed request has beside its own.
pub(crate) fn signed(request: &Request<'_>, credentials: &Credentials) -> Option<[(&'static str, String); 3]> {
    let at = Timestamp::from_second(request.at_s).ok()?;
    let moment = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = at.strftime("%Y%m%d").to_string();
    let region = credentials.region.as_deref().unwrap_or(ANY_REGION);
    let body = request.body.to_string();
    let mut query: Vec<String> = request.query.split('&').filter(|part| !part.is_empty()).map(with_value).collect();
    query.sort_unstable();
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{}\n{}\n{}\nhost:{}\nx-amz-content-sha256:{body}\nx-amz-date:{moment}\n\n{names}\n{body}",
        request.method,
        request.path,
        query.join("&"),
        request.host,
    );
    let scope = format!("{day}/{region}/s3/aws4_request");
    let words = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", Digest::of(canonical.as_bytes()));
    let secret = format!("AWS4{}", credentials.secret);
    let key = [day.as_str(), region, "s3", "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = Digest::from(hmac(&key, words.as_bytes()));
    let user = &credentials.user;
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={user}/{scope}, SignedHeaders={names}, Signature={signature}");
    Some([("x-amz-date", moment), ("x-amz-content-sha256", body), ("authorization", authorization)])
}

fn with_value(part: &str) -> String {
    if part.contains('=') { part.to_owned() } else { format!("{part}=") }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is one");
    hmac.update(message);
    hmac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_botocore_signs_it() {
        // botocore 1.44.8, auth.S3SigV4Auth over AWSRequest, with the clock at 2026-11-27 13:00:00 UTC.
        let credentials = Credentials { user: "garden".to_owned(), secret: "s3cret".to_owned(), region: None };
        let request = Request {
            method: &Method::PUT,
            host: "localhost:9000",
            path: "/fleet/devices/garden/shards/a.tar",
            query: "x-id=PutObject&uploads",
            body: Digest::of(b"hello"),
            at_s: 1_795_784_400,
        };
        let [date, body, authorization] = signed(&request, &credentials).unwrap();
        assert_eq!(date.1, "20261127T130000Z");
        assert_eq!(body.1, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(
            authorization.1,
            "AWS4-HMAC-SHA256 Credential=garden/20261127/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=03740aaa6f6fe1a232e9fef9e1ffde4d8538f791882f5566d5e2ec86ae361581"
        );
    }
}
