//! Vectors whose memory may be refused: what is as large as a user's data comes from here, and a refusal is an error.

use alloc::vec::Vec;
use core::fmt::Display;

use crate::error::{Result, err};

/// An empty vector with room for `len` values of `what`.
///
/// # Errors
/// `OutOfMemory`.
pub(crate) fn room<T>(what: impl Display, len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| err!(OutOfMemory, "no memory for {len} values of {what}"))?;
    Ok(values)
}

/// `len` copies of `value`.
///
/// # Errors
/// `OutOfMemory`.
pub(crate) fn filled<T: Clone>(what: impl Display, len: usize, value: T) -> Result<Vec<T>> {
    let mut values = room(what, len)?;
    values.resize(len, value);
    Ok(values)
}

/// `len` zeros, or what else is the default.
///
/// # Errors
/// `OutOfMemory`.
pub(crate) fn zeros<T: Clone + Default>(what: impl Display, len: usize) -> Result<Vec<T>> {
    filled(what, len, T::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_no_memory_holds_is_an_error_that_names_it() {
        let e = zeros::<f64>("a cloud", usize::MAX / 4).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert!(e.message().ends_with("values of a cloud"), "{e}");
        assert_eq!(filled("a few", 3, 7u8).unwrap(), [7, 7, 7]);
        let room = room::<u8>("some", 3).unwrap();
        assert!(room.is_empty() && room.capacity() >= 3);
    }
}
