//! The wire format of protocol buffers, read without copying: as much of it as ONNX files use.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Result, ensure, err};

/// What stands behind the number of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn cut() -> crate::Error {
        err!(InvalidArgument, "the file is cut within a field of its protocol buffer")
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for i in 0..10 {
            let (&byte, rest) = self.0.split_first().ok_or_else(Self::cut)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            ensure!(i < 9 || bits <= 1, InvalidArgument, "the file has a number of more than 64 bits");
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(err!(InvalidArgument, "the file has a number of more than 10 bytes"))
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or_else(Self::cut)?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// The next field's number and what it holds; `None` at the end of the message.
    pub fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = key >> 3;
        ensure!(field > 0 && field < 1 << 29, InvalidArgument, "no ONNX file: it has a field of number {field}");
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(self.chunk()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Self::cut())?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(Self::cut)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Fixed32(self.chunk()?),
            other => {
                return Err(err!(InvalidArgument, "no ONNX file: field {field} has the wire type {other}"));
            }
        };
        Ok(Some((field, wire)))
    }
}

impl<'a> Wire<'a> {
    fn is(self, what: &str) -> crate::Error {
        let got = match self {
            Self::Varint(_) => "a number",
            Self::Fixed64(_) => "8 bytes",
            Self::Bytes(_) => "a run of bytes",
            Self::Fixed32(_) => "4 bytes",
        };
        err!(InvalidArgument, "the file has {got} where {what} is expected")
    }

    pub fn bytes(self, what: &str) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.is(what)),
        }
    }

    pub fn text(self, what: &str) -> Result<&'a str> {
        let bytes = self.bytes(what)?;
        core::str::from_utf8(bytes).map_err(|_| err!(InvalidArgument, "the file has a {what} that is no UTF-8 text"))
    }

    pub fn number(self, what: &str) -> Result<u64> {
        match self {
            Self::Varint(n) => Ok(n),
            other => Err(other.is(what)),
        }
    }

    /// A signed number, as protocol buffers' int64 and int32 have it.
    pub fn signed(self, what: &str) -> Result<i64> {
        Ok(self.number(what)?.cast_signed())
    }

    pub fn float(self, what: &str) -> Result<f32> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            other => Err(other.is(what)),
        }
    }

    /// Adds a repeated number, one or a packed run of them.
    pub fn numbers(self, what: &str, to: &mut Vec<i64>) -> Result<()> {
        match self {
            Self::Varint(n) => to.push(n.cast_signed()),
            Self::Bytes(bytes) => {
                let mut rest = Fields(bytes);
                while !rest.0.is_empty() {
                    to.push(rest.varint()?.cast_signed());
                }
            }
            other => return Err(other.is(what)),
        }
        Ok(())
    }

    /// Adds a repeated float, one or a packed run of them.
    pub fn floats(self, what: &str, to: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Fixed32(bytes) => to.push(f32::from_le_bytes(bytes)),
            Self::Bytes(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<4>();
                ensure!(rest.is_empty(), InvalidArgument, "the file has {} bytes of floats", bytes.len());
                to.extend(chunks.iter().map(|b| f32::from_le_bytes(*b)));
            }
            other => return Err(other.is(what)),
        }
        Ok(())
    }

    /// Adds a repeated double, one or a packed run of them.
    pub fn doubles(self, what: &str, to: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Fixed64(bytes) => to.push(f64::from_le_bytes(bytes) as f32),
            Self::Bytes(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<8>();
                ensure!(rest.is_empty(), InvalidArgument, "the file has {} bytes of doubles", bytes.len());
                to.extend(chunks.iter().map(|b| f64::from_le_bytes(*b) as f32));
            }
            other => return Err(other.is(what)),
        }
        Ok(())
    }
}

/// A name as it is shown: at most 120 characters of it.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wire_type_is_read_and_the_rest_is_refused() {
        let bytes = [0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 0, 0, 0x80, 0x3f];
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.next().unwrap(), Some((1, Wire::Varint(150))));
        assert_eq!(fields.next().unwrap(), Some((2, Wire::Fixed64(1u64.to_le_bytes()))));
        assert_eq!(fields.next().unwrap(), Some((3, Wire::Bytes(b"hi"))));
        assert_eq!(fields.next().unwrap(), Some((4, Wire::Fixed32(1f32.to_le_bytes()))));
        assert_eq!(fields.next().unwrap(), None);
        for cut in [1, 2, 5, 13, 14, 18] {
            let mut fields = Fields::new(&bytes[..cut]);
            let refused =
                core::iter::from_fn(|| fields.next().transpose()).find_map(core::result::Result::err).unwrap();
            assert!(refused.message().contains("cut"), "{cut}");
        }
        // A group, number 0, a number of 11 bytes, one of 65 bits.
        for bad in [&[0x0b][..], &[0x00, 0], &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]] {
            assert!(Fields::new(bad).next().is_err(), "{bad:?}");
        }
        assert!(Fields::new(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]).next().is_err());
        let mut minus = Vec::new();
        Wire::Bytes(&[5, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).numbers("n", &mut minus).unwrap();
        assert_eq!(minus, [5, -1]);
    }
}
