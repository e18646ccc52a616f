//! What an administrator hands to a host that is to become a client: a secret that enrols once, and whom to trust with it.
//!
//! As a text it is the secret and the digest of the authority's certificate, both hexadecimal, with a `-` between them. Invariant: the
//! secret is not shown by `Debug`; a digest of it cannot be turned back, for it is 128 random bits.

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use std::fmt;
use std::str::FromStr;

/// See the module documentation.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Enrols the client that it was made for, once.
    pub secret: [u8; 16],
    /// The certificate of the authority that the appliance must show ([`Digest::of_certificate`]).
    pub authority: Digest,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", u128::from_be_bytes(self.secret), self.authority)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(secret, authority {})", self.authority)
    }
}

impl FromStr for Token {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let reason = "expected what `understudyd enroll` printed: 32 hexadecimal digits, '-', and 64 of them";
            FormatError::invalid("token", reason)
        };
        let (secret, authority) = text.trim().split_once('-').ok_or_else(wrong)?;
        Ok(Self { secret: hex(secret).ok_or_else(wrong)?, authority: Digest(hex(authority).ok_or_else(wrong)?) })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| high << 4 | low).collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let token = Token { secret: *b"0123456789abcdef", authority: Digest([0xa5; 32]) };
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        assert_eq!(format!(" {token}\n").parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains("3031"), "the secret is not for logs");
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        let token = Token { secret: [7; 16], authority: Digest([1; 32]) }.to_string();
        for wrong in
            ["", "-", &token[1..], &token[..token.len() - 1], &token.replace('-', ""), &token.replace('0', "g")]
        {
            let error = wrong.parse::<Token>().unwrap_err().to_string();
            assert!(error.contains("understudyd enroll"), "{wrong}: {error}");
        }
    }
}
