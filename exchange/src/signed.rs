//! Statements that somebody signed.
//!
//! The envelope is DSSE 1.0: JSON with the statement's exact bytes in base64, their media type, and signatures over both, so that
//! no statement of one kind passes for another, and nothing is parsed before its signature is right.
//! Source: <https://github.com/secure-systems-lab/dsse>, `protocol.md` and `envelope.md`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key::{PublicKey, SecretKey};

/// Most signatures that are looked at.
const MAX_SIGNATURES: usize = 16;

/// What can be signed. Its bytes are JSON.
pub trait Statement: Serialize + DeserializeOwned {
    /// Its kind, which is signed with it.
    const MEDIA_TYPE: &'static str;
    /// The kind, for people.
    const NAME: &'static str;
    /// Most bytes of an envelope with one.
    const MAX_BYTES: usize;
}

/// An envelope that says nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignedError {
    /// Too many bytes.
    #[error("it has {bytes} bytes, and a {name} has {most} at most")]
    TooLong {
        /// What it should be.
        name: &'static str,
        /// Its length.
        bytes: usize,
        /// What is read.
        most: usize,
    },
    /// It is something else: a page of a network's gate, half a file.
    #[error("it is no signed {name}: {reason}")]
    NoEnvelope {
        /// What it should be.
        name: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// A signature that is wrong, or by somebody else.
    #[error("it is not signed by {expected}")]
    Signature {
        /// The keys whose signatures are wanted, as people compare them.
        expected: String,
    },
    /// It is signed, and says what this program cannot read.
    #[error("it is signed, and no {name} that this version reads: {reason}")]
    Statement {
        /// What it should be.
        name: &'static str,
        /// Why it is not.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// Signs a statement with each of the keys: the bytes of an envelope.
///
/// # Panics
/// A statement that JSON cannot hold, which none of ours is.
pub fn sign<S: Statement>(statement: &S, keys: &[&SecretKey]) -> Vec<u8> {
    let payload = serde_json::to_vec(statement).expect("statements are plain values");
    let message = message(S::MEDIA_TYPE, &payload);
    let sign =
        |key: &&SecretKey| Signature { keyid: key.public().id().to_string(), sig: STANDARD.encode(key.sign(&message)) };
    let envelope = Envelope {
        payload_type: S::MEDIA_TYPE.to_owned(),
        payload: STANDARD.encode(&payload),
        signatures: keys.iter().map(sign).collect(),
    };
    let mut bytes = serde_json::to_vec(&envelope).expect("an envelope is plain values");
    bytes.push(b'\n');
    bytes
}

/// The statement of an envelope that has the signature of at least one of the keys.
///
/// # Errors
/// Bytes that are no such envelope, a signature that is missing or wrong, a statement that cannot be read.
pub fn open<S: Statement>(bytes: &[u8], keys: &[PublicKey]) -> Result<S, SignedError> {
    open_by_many(bytes, keys, 1)
}

/// The statement of an envelope that has the signatures of at least so many of the keys, which differ from each other.
///
/// # Errors
/// As [`open`].
pub fn open_by_many<S: Statement>(bytes: &[u8], keys: &[PublicKey], threshold: usize) -> Result<S, SignedError> {
    let (envelope, payload) = unwrap::<S>(bytes)?;
    check(&envelope, &payload, keys, threshold)?;
    read(&payload)
}

/// The statement of an envelope that is signed with the key that the statement itself names, as a first word between
/// strangers is: it proves no more than that its writer has that key.
///
/// # Errors
/// As [`open`].
pub fn open_by_its_own<S: Statement>(bytes: &[u8], key: impl Fn(&S) -> PublicKey) -> Result<S, SignedError> {
    open_by_its_own_many(bytes, |statement| (vec![key(statement)], 1))
}

/// The statement of an envelope that has as many signatures of the keys that it itself names as it says it needs.
///
/// # Errors
/// As [`open`].
pub fn open_by_its_own_many<S: Statement>(
    bytes: &[u8],
    keys: impl Fn(&S) -> (Vec<PublicKey>, usize),
) -> Result<S, SignedError> {
    let (envelope, payload) = unwrap::<S>(bytes)?;
    let statement = read(&payload)?;
    let (keys, threshold) = keys(&statement);
    check(&envelope, &payload, &keys, threshold)?;
    Ok(statement)
}

fn check(envelope: &Envelope, payload: &[u8], keys: &[PublicKey], threshold: usize) -> Result<(), SignedError> {
    let signed = keys.iter().filter(|key| is_signed(envelope, payload, key)).count();
    if signed >= threshold.max(1) {
        return Ok(());
    }
    let names: Vec<String> = keys.iter().map(PublicKey::fingerprint).collect();
    let expected = names.join(" or ");
    let expected = if threshold > 1 { format!("{threshold} of {expected}") } else { expected };
    Err(SignedError::Signature { expected })
}

fn unwrap<S: Statement>(bytes: &[u8]) -> Result<(Envelope, Vec<u8>), SignedError> {
    let name = S::NAME;
    if bytes.len() > S::MAX_BYTES {
        return Err(SignedError::TooLong { name, bytes: bytes.len(), most: S::MAX_BYTES });
    }
    let none = |reason: String| SignedError::NoEnvelope { name, reason };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| none(error.to_string()))?;
    if envelope.payload_type != S::MEDIA_TYPE {
        let found: String = envelope.payload_type.escape_default().take(80).collect();
        return Err(none(format!("it says that it is {found}")));
    }
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(none(format!("it has more than {MAX_SIGNATURES} signatures")));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|error| none(error.to_string()))?;
    Ok((envelope, payload))
}

fn is_signed(envelope: &Envelope, payload: &[u8], key: &PublicKey) -> bool {
    let message = message(&envelope.payload_type, payload);
    let mut signatures = envelope.signatures.iter().filter_map(|signature| STANDARD.decode(&signature.sig).ok());
    signatures.any(|signature| key.has_signed(&message, &signature))
}

fn read<S: Statement>(payload: &[u8]) -> Result<S, SignedError> {
    let read = serde_json::from_slice(payload);
    read.map_err(|error| SignedError::Statement { name: S::NAME, reason: error.to_string() })
}

/// What is signed: DSSE's pre-authentication encoding.
fn message(media_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {media_type} {} ", media_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Word {
        text: String,
        key: PublicKey,
    }

    impl Statement for Word {
        const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.word+json";
        const NAME: &'static str = "word";
        const MAX_BYTES: usize = 2048;
    }

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Other {
        text: String,
    }

    impl Statement for Other {
        const MEDIA_TYPE: &'static str = "application/vnd.edgeblip.other+json";
        const NAME: &'static str = "other word";
        const MAX_BYTES: usize = 2048;
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_text(&format!("{seed:02x}").repeat(32)).unwrap()
    }

    fn word() -> Word {
        Word { text: "a cat".to_owned(), key: key(1).public() }
    }

    #[test]
    fn what_is_signed_is_stated_by_the_standard() {
        // The example of protocol.md.
        assert_eq!(
            message("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn one_signature_of_those_that_are_known_is_enough() {
        let bytes = sign(&word(), &[&key(1), &key(2)]);
        for keys in [vec![key(1).public()], vec![key(3).public(), key(2).public()]] {
            assert_eq!(open(&bytes, &keys), Ok(word()));
        }
        assert_eq!(open_by_its_own(&bytes, |word: &Word| word.key), Ok(word()));
        let stranger = open::<Word>(&bytes, &[key(3).public()]);
        assert_eq!(stranger, Err(SignedError::Signature { expected: key(3).public().fingerprint() }));
        assert!(matches!(open::<Word>(&bytes, &[]), Err(SignedError::Signature { .. })));
        let others = sign(&word(), &[&key(2)]);
        assert!(matches!(open_by_its_own(&others, |word: &Word| word.key), Err(SignedError::Signature { .. })));
    }

    #[test]
    fn a_statement_passes_for_no_other_kind() {
        let bytes = sign(&word(), &[&key(1)]);
        assert!(matches!(open::<Other>(&bytes, &[key(1).public()]), Err(SignedError::NoEnvelope { .. })));
        let relabelled = String::from_utf8(bytes).unwrap().replace("edgeblip.word", "edgeblip.other");
        assert!(matches!(open::<Other>(relabelled.as_bytes(), &[key(1).public()]), Err(SignedError::Signature { .. })));
    }

    #[test]
    fn no_byte_can_be_changed() {
        let bytes = sign(&word(), &[&key(1)]);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            // The name of a key is a hint and is not signed; all else is.
            if let Ok(read) = open::<Word>(&changed, &[key(1).public()]) {
                assert_eq!(read, word());
                let text = String::from_utf8_lossy(&bytes);
                let hint = text.find("keyid").unwrap();
                let is_hint = (hint..hint + "keyid\":\"".len() + 64).contains(&place);
                assert!(is_hint || place == bytes.len() - 1, "{place}");
            }
        }
        for length in 0..bytes.len() - 1 {
            assert!(open::<Word>(&bytes[..length], &[key(1).public()]).is_err());
        }
    }

    #[test]
    fn a_page_and_a_flood_are_no_statement() {
        let open = |bytes: &[u8]| open::<Word>(bytes, &[key(1).public()]).unwrap_err();
        assert!(matches!(open(b"<html>Please log in</html>"), SignedError::NoEnvelope { .. }));
        assert!(matches!(open(&[b' '; 4096]), SignedError::TooLong { .. }));
        let mut many: Vec<&SecretKey> = Vec::new();
        let key = key(1);
        many.resize(6, &key);
        let text = String::from_utf8(sign(&word(), &many)).unwrap();
        let hints: Vec<String> = (0..20).map(|_| r#"{"sig":""}"#.to_owned()).collect();
        let start = text.find('[').unwrap();
        let flood = format!("{}[{}]}}", &text[..start], hints.join(","));
        assert!(open(flood.as_bytes()).to_string().contains("more than 16 signatures"));
    }
}
