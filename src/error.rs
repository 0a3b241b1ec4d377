//! The one error type of the library.
//!
//! A message names the thing, what was expected and what was got, so that it can be shown to a person as it is. Code
//! that must react to an error looks at [`Error::kind`].

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

/// `Result` with this library's [`Error`].
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What kind of thing went wrong. More kinds may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or option is out of its range, or two of them contradict each other.
    InvalidArgument,
    /// A buffer or tensor has not the shape or length that the call needs.
    Shape,
    /// A model, scheduler or pipeline configuration is malformed or holds an unknown key or value.
    Config,
    /// A weight file is malformed, or a tensor in it is missing, unexpected, misshapen or not finite.
    Weights,
    /// The input is well formed, but this build or backend cannot do it.
    Unsupported,
    /// Reading or writing a file failed.
    Io,
    /// The caller asked to stop.
    Cancelled,
    /// Memory could not be had, or a workspace is too small.
    OutOfMemory,
    /// A callback of the caller reported a failure.
    Callback,
    /// A network, callback or evidence returned NaN or infinity.
    NonFinite,
    /// A GPU or its driver is missing, failed or was lost.
    Device,
}

/// An error: its [`ErrorKind`] and one line of text for a person.
///
/// Without the feature `messages` the text is a fixed one, with the names of values in braces where these would stand,
/// and nothing is put in front of it: making an error then takes no memory and a program needs no code that formats
/// numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    lengths: Option<[usize; 2]>,
}

impl Error {
    /// Makes an error. `message` is one line without a full stop: the thing, what was expected, what was got.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: Cow::Owned(message.into()), lengths: None }
    }

    /// An error with a fixed text, which takes no memory.
    #[cfg(not(feature = "messages"))]
    pub(crate) const fn fixed(kind: ErrorKind, message: &'static str) -> Self {
        Self { kind, message: Cow::Borrowed(message), lengths: None }
    }

    /// The same, knowing the length that something has and the one that was expected.
    pub(crate) fn with_lengths(self, got: usize, expected: usize) -> Self {
        Self { lengths: Some([got, expected]), ..self }
    }

    /// Of a workspace that is too short, its length and the one that is needed, in `f32` values, with or without the
    /// feature `messages`; `None` for other errors.
    pub fn lengths(&self) -> Option<[usize; 2]> {
        self.lengths
    }

    /// The kind, for code.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text, for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Puts `context` in front of the text, for example the file that was being read.
    #[must_use]
    #[cfg(feature = "messages")]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self { lengths: self.lengths, ..formatted(self.kind, format_args!("{context}: {}", self.message)) }
    }

    /// The same error: only with the feature `messages` is `context` put in front of the text.
    #[must_use]
    #[inline(always)]
    #[cfg(not(feature = "messages"))]
    pub fn context(self, _context: impl fmt::Display) -> Self {
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Error {}

#[cfg(feature = "std")]
impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let kind = if e.kind() == std::io::ErrorKind::OutOfMemory { ErrorKind::OutOfMemory } else { ErrorKind::Io };
        Self::new(kind, alloc::format!("{e}"))
    }
}

/// What [`err`] calls: there are over a thousand such places, of which none is on a hot path, so none has its own copy.
#[cfg(feature = "messages")]
#[cold]
#[inline(never)]
pub(crate) fn formatted(kind: ErrorKind, message: fmt::Arguments<'_>) -> Error {
    Error::new(kind, alloc::fmt::format(message))
}

/// Makes an [`Error`] of the named kind: `err!(Shape, "x has {n} values, expected {m}")`.
#[cfg(feature = "messages")]
macro_rules! err {
    ($kind:ident, $($arg:tt)*) => {
        $crate::error::formatted($crate::error::ErrorKind::$kind, format_args!($($arg)*))
    };
}

/// As with the feature `messages`, but the text is the literal as it stands; the values are looked at by the compiler
/// alone.
#[cfg(not(feature = "messages"))]
macro_rules! err {
    ($kind:ident, $text:literal $($arg:tt)*) => {{
        if false {
            let _ = format_args!($text $($arg)*);
        }
        $crate::error::Error::fixed($crate::error::ErrorKind::$kind, $text)
    }};
}

/// Returns early with an [`Error`] unless the condition holds:
/// `ensure!(n > 0, InvalidArgument, "count is 0, expected at least 1")`.
macro_rules! ensure {
    ($cond:expr, $kind:ident, $($arg:tt)*) => {
        if !$cond {
            return Err($crate::error::err!($kind, $($arg)*));
        }
    };
}

/// Where the first NaN or infinity of `values` stands.
///
/// Finite blocks, the usual case, are passed over by a loop without a branch, which compiles to vector instructions. It
/// is called in many places, so it is no part of any.
#[inline(never)]
pub(crate) fn first_non_finite(values: &[f32]) -> Option<usize> {
    const BLOCK: usize = 256;
    const EXPONENT: u32 = 0x7f80_0000;
    let starts = (0..values.len()).step_by(BLOCK);
    starts.zip(values.chunks(BLOCK)).find_map(|(start, block)| {
        let any = block.iter().fold(false, |any, v| any | (v.to_bits() & EXPONENT == EXPONENT));
        let at = if any { block.iter().position(|v| !v.is_finite()) } else { None };
        at.map(|i| start + i)
    })
}

/// Refuses NaN and infinity, kind `NonFinite`, naming the element. For the program and the C ABI.
#[doc(hidden)]
#[inline(never)]
pub fn check_finite(what: &str, values: &[f32]) -> Result<()> {
    match first_non_finite(values) {
        None => Ok(()),
        Some(i) => Err(err!(
            NonFinite,
            "{what} holds {} at element {i}, expected finite numbers",
            values.get(i).copied().unwrap_or(f32::NAN)
        )),
    }
}

#[allow(unused_imports)]
pub(crate) use {ensure, err};

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn the_first_value_that_is_not_finite_is_found_wherever_it_stands() {
        for len in [0, 1, 255, 256, 257, 1000] {
            let mut values = vec![f32::MAX; len];
            assert_eq!(first_non_finite(&values), None);
            for i in (0..len).rev() {
                values[i] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
                assert_eq!(first_non_finite(&values), Some(i), "of {len}");
            }
        }
        let e = check_finite("x", &[0.0, f32::NEG_INFINITY]).unwrap_err();
        assert_eq!(
            (e.kind(), e.message()),
            (ErrorKind::NonFinite, "x holds -inf at element 1, expected finite numbers")
        );
    }
}
