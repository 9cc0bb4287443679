//! Ed25519 keys.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, from_hex};

/// Who may be recognised by a signature. As text it is 64 small hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

/// Who signs. Its text is 64 hexadecimal digits, which no one else may read.
pub struct SecretKey(SigningKey);

/// A text that is no key.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("this is no Ed25519 key: one is written as 64 digits, 0 to 9 and a to f")]
pub struct KeyError;

/// The system has no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no key can be made: the system gives no random bytes: {0}")]
pub struct RandomnessError(getrandom::Error);

impl PublicKey {
    /// How signatures name it: SHA-256 of its 32 bytes.
    pub fn id(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// What two people read to each other to know that they mean the same key: 80 bits of its name.
    pub fn fingerprint(&self) -> String {
        let id = self.id().to_string();
        let groups: Vec<&str> = (0..5).filter_map(|group| id.get(4 * group..4 * group + 4)).collect();
        groups.join("-")
    }

    /// Whether a message was signed with its secret half. Strict: neither weak keys nor a second form of a signature
    /// pass. Source: RFC 8032, section 5.1.7, with the checks of `verify_strict` of ed25519-dalek.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl SecretKey {
    /// A new one.
    ///
    /// # Errors
    /// A system without randomness.
    pub fn generate() -> Result<SecretKey, RandomnessError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(RandomnessError)?;
        Ok(SecretKey(SigningKey::from_bytes(&seed)))
    }

    /// From its text.
    ///
    /// # Errors
    /// A text that is no key.
    pub fn from_text(text: &str) -> Result<SecretKey, KeyError> {
        let seed = from_hex(text.trim_end()).and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError)?;
        Ok(SecretKey(SigningKey::from_bytes(&seed)))
    }

    /// Its text, with a line end. Whoever has it can sign.
    pub fn to_text(&self) -> String {
        format!("{}\n", Digest::from(self.0.to_bytes()))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret half of {:?}", self.public())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest::from(self.0.to_bytes()).fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        let bytes: [u8; 32] = from_hex(text).and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError)?;
        // Anyone can sign for a weak key, and a key of two spellings would have two names.
        let is_canonical = key.to_edwards().compress().to_bytes() == bytes;
        if key.is_weak() || !is_canonical { Err(KeyError) } else { Ok(PublicKey(key)) }
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<PublicKey, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const SECRET: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = SecretKey::from_text(SECRET).unwrap();
        assert_eq!(secret.public().to_string(), PUBLIC);
        assert_eq!(secret.sign(&[0x72]).to_vec(), from_hex(SIGNATURE).unwrap());
        assert!(secret.public().has_signed(&[0x72], &from_hex(SIGNATURE).unwrap()));
        assert!(!secret.public().has_signed(&[0x73], &from_hex(SIGNATURE).unwrap()));
        assert!(!secret.public().has_signed(&[0x72], &from_hex(SIGNATURE).unwrap()[..63]));
        assert_eq!(SecretKey::from_text(&secret.to_text()).unwrap().public(), secret.public());
    }

    #[test]
    fn weak_keys_and_other_texts_are_no_keys() {
        // The neutral element: every message has a signature by it.
        let neutral = format!("01{}", "00".repeat(31));
        for text in ["", "3d40", &PUBLIC.to_uppercase(), &neutral, &"ff".repeat(32)] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError), "{text}");
        }
    }
}
