//! Structs that grow: the first field is their size as the caller knows it.

use alloc::format;
use core::mem::MaybeUninit;

use crate::guard::{null, output};
use crate::status::{Failure, Outcome};

/// Sizes above this are taken for garbage, since the bytes up to it are read.
const LARGEST: usize = 4096;

/// A struct of the header whose first field is `struct_size`.
///
/// # Safety
/// It is `repr(C)`, its first field is a `usize`, and any bytes are a valid value of it: integers, floats, pointers,
/// optional function pointers, `MaybeUninit`.
pub(crate) unsafe trait VersionedStruct: Copy {
    /// What messages call it.
    const NAME: &'static str;

    /// The defaults, with `struct_size` set.
    fn defaults() -> Self;
}

/// Says that a struct follows [`VersionedStruct`] and gives its defaults.
macro_rules! sized {
    ($name:ident { $($field:ident: $value:expr),* $(,)? }) => {
        // SAFETY: repr(C) with struct_size first, and only fields for which any bytes are valid; see its definition.
        unsafe impl $crate::options::VersionedStruct for $name {
            const NAME: &'static str = stringify!($name);

            fn defaults() -> Self {
                Self { struct_size: size_of::<Self>(), $($field: $value),* }
            }
        }
    };
}
pub(crate) use sized;

/// The caller's size, checked. `bytes` is where the struct begins.
///
/// # Safety
/// `bytes` may be read for a `usize` and, if that is a size, for so many bytes.
unsafe fn check_size<T: VersionedStruct>(bytes: *const u8) -> Outcome<usize> {
    // SAFETY: the caller's promise; aligned or not.
    let size = unsafe { bytes.cast::<usize>().read_unaligned() };
    let whole = size >= 2 * size_of::<usize>() && size <= LARGEST && size.is_multiple_of(size_of::<usize>());
    if !whole {
        return Err(Failure::argument(format!(
            "{}.struct_size is {size}, expected {}: set it by the init function or to sizeof of the struct",
            T::NAME,
            size_of::<T>()
        )));
    }
    Ok(size)
}

/// Reads the caller's options: what a smaller, older struct lacks is the default, what a larger, newer one has more
/// must be zero.
///
/// # Safety
/// NULL, or a struct of the size that it states.
pub(crate) unsafe fn options<T: VersionedStruct>(pointer: *const T) -> Outcome<T> {
    // SAFETY: the caller's promise.
    unsafe { options_or(pointer, None) }
}

/// [`options`], but NULL stands for the defaults.
///
/// # Safety
/// As [`options`].
pub(crate) unsafe fn options_or_defaults<T: VersionedStruct>(pointer: *const T) -> Outcome<T> {
    // SAFETY: the caller's promise.
    unsafe { options_or(pointer, Some(T::defaults())) }
}

unsafe fn options_or<T: VersionedStruct>(pointer: *const T, if_null: Option<T>) -> Outcome<T> {
    if pointer.is_null() {
        return if_null.ok_or_else(|| null(T::NAME));
    }
    let bytes = pointer.cast::<u8>();
    // SAFETY: the caller's promise.
    let size = unsafe { check_size::<T>(bytes) }?;
    for at in size_of::<T>()..size {
        // SAFETY: inside the struct's stated size.
        if unsafe { bytes.add(at).read() } != 0 {
            return Err(Failure::argument(format!(
                "{} has {size} bytes, this library knows {}, and those beyond are not zero: the program uses an option of a newer version",
                T::NAME,
                size_of::<T>()
            )));
        }
    }
    let mut value = MaybeUninit::new(T::defaults());
    // SAFETY: as many bytes as both have; any bytes are a valid value.
    unsafe {
        core::ptr::copy_nonoverlapping(bytes, value.as_mut_ptr().cast::<u8>(), size.min(size_of::<T>()));
        Ok(value.assume_init())
    }
}

/// Fills the first `size` bytes of the caller's struct with the defaults and zeros, and sets its `struct_size` to
/// `size`.
///
/// # Safety
/// NULL, or `size` bytes that may be written.
pub(crate) unsafe fn init<T: VersionedStruct>(pointer: *mut T, size: usize) -> Outcome<()> {
    if pointer.is_null() {
        return Err(null(T::NAME));
    }
    // SAFETY: the size lies in readable memory, this variable.
    unsafe { check_size::<T>((&raw const size).cast()) }?;
    // SAFETY: the caller's promise.
    unsafe { write_prefix(pointer.cast(), size, &T::defaults()) };
    Ok(())
}

/// Fills the caller's struct as far as it knows its fields; `struct_size` stays what it was.
///
/// # Safety
/// NULL, or a struct of the size that it states, that may be written.
pub(crate) unsafe fn give<T: VersionedStruct>(pointer: *mut T, value: &T) -> Outcome<()> {
    // SAFETY: the caller's promise. The output is checked only for what `options` checks too.
    unsafe {
        output(pointer.cast::<u8>(), T::NAME)?;
        let size = check_size::<T>(pointer.cast())?;
        write_prefix(pointer.cast(), size, value);
    }
    Ok(())
}

/// # Safety
/// `to` may be written for `size` bytes, at least a `usize`.
unsafe fn write_prefix<T: VersionedStruct>(to: *mut u8, size: usize, value: &T) {
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's promise.
    unsafe {
        core::ptr::copy_nonoverlapping((&raw const *value).cast::<u8>(), to, known);
        to.add(known).write_bytes(0, size - known);
        to.cast::<usize>().write_unaligned(size);
    }
}

/// An option of the type `enum` as C wrote it, which may be any number.
pub(crate) trait CEnum: Copy + 'static {
    /// What messages call it.
    const NAME: &'static str;
    /// Its values.
    const ALL: &'static [Self];
    fn number(self) -> u32;
}

/// Says which values an enum has.
macro_rules! c_enum {
    ($name:ident: $($value:ident),+ $(,)?) => {
        impl $crate::options::CEnum for $name {
            const NAME: &'static str = stringify!($name);
            const ALL: &'static [Self] = &[$(Self::$value),+];
            fn number(self) -> u32 {
                // Complete, or it does not compile.
                match self {
                    $(Self::$value => Self::$value as u32),+
                }
            }
        }
    };
}
pub(crate) use c_enum;

/// The value that C wrote, if it is one.
pub(crate) fn value<E: CEnum>(raw: MaybeUninit<E>) -> Outcome<E> {
    const { assert!(size_of::<E>() == size_of::<u32>()) };
    // SAFETY: the caller of the library initialised the struct, and an enum of the header is a uint32_t.
    let number = unsafe { raw.as_ptr().cast::<u32>().read() };
    let found = E::ALL.iter().copied().find(|e| e.number() == number);
    found.ok_or_else(|| Failure::argument(format!("{number} is no {}", E::NAME)))
}

/// An option that is 0 or 1.
pub(crate) fn flag(value: u32, name: &str) -> Outcome<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::argument(format!("{name} is {value}, expected 0 or 1"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::undiffuse_status::UNDIFFUSE_INVALID_ARGUMENT;

    /// A struct as an older and as this version of the library knows it, and as a newer program does.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Old {
        struct_size: usize,
        a: usize,
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Now {
        struct_size: usize,
        a: usize,
        b: f64,
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct New {
        struct_size: usize,
        a: usize,
        b: f64,
        c: usize,
    }

    sized!(Now { a: 1, b: 2.0 });

    fn read<T>(from: &T) -> Outcome<Now> {
        // SAFETY: a struct of the size that it states, which may be shorter than `Now`: only a pointer is made of it.
        unsafe { options((&raw const *from).cast()) }
    }

    #[test]
    fn older_and_newer_structs_are_read_as_far_as_both_know_them() {
        let old = read(&Old { struct_size: size_of::<Old>(), a: 5 }).unwrap();
        assert_eq!((old.a, old.b), (5, 2.0));
        let mut new = New { struct_size: size_of::<New>(), a: 5, b: 6.0, c: 0 };
        let now = read(&new).unwrap();
        assert_eq!((now.a, now.b), (5, 6.0));
        new.c = 1;
        assert_eq!(read(&new).map(|_| ()).unwrap_err().status, UNDIFFUSE_INVALID_ARGUMENT);
        for size in [0, 8, 13, LARGEST + 8, usize::MAX] {
            let old = read(&Old { struct_size: size, a: 5 });
            assert_eq!(old.map(|_| ()).unwrap_err().status, UNDIFFUSE_INVALID_ARGUMENT, "{size}");
        }
    }

    #[test]
    fn older_and_newer_structs_are_written_to_their_own_end() {
        let now = Now { struct_size: size_of::<Now>(), a: 3, b: 4.0 };
        let (mut old, mut new) =
            (Old { struct_size: size_of::<Old>(), a: 0 }, New { struct_size: size_of::<New>(), a: 0, b: 0.0, c: 9 });
        // SAFETY: structs of the sizes that they state.
        unsafe {
            give((&raw mut old).cast(), &now).unwrap();
            give((&raw mut new).cast(), &now).unwrap();
        }
        assert_eq!((old.struct_size, old.a), (size_of::<Old>(), 3));
        assert_eq!((new.struct_size, new.a, new.b, new.c), (size_of::<New>(), 3, 4.0, 0));
        // SAFETY: as many bytes as said.
        unsafe { init::<Now>((&raw mut new).cast(), size_of::<New>()) }.unwrap();
        assert_eq!((new.struct_size, new.a, new.b, new.c), (size_of::<New>(), 1, 2.0, 0));
    }
}
