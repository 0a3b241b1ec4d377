//! What stands between C and the library: every function goes through [`call`] or [`void`], every handle is a
//! [`Handle`].
//!
//! A panic is caught here and becomes a status. A handle knows whether a call is using it, so that a call from within a
//! callback or from a second thread is refused instead of undefined, and whether a panic went through it.

use alloc::boxed::Box;
use alloc::format;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use crate::status::undiffuse_status::{self, *};
use crate::status::{Failure, Outcome, undiffuse_error};
use crate::unwind;

/// Runs the inner side of a function that returns a status. `error` is where the caller wants the error object, or
/// NULL.
///
/// # Safety
/// `error` is NULL or may be written to.
pub(crate) unsafe fn call(
    error: *mut *mut undiffuse_error,
    body: impl FnOnce() -> Outcome<undiffuse_status>,
) -> undiffuse_status {
    let ended = unwind::stop(|| {
        crate::inject::point();
        body()
    });
    match ended {
        Ok(Ok(status)) => status,
        // SAFETY: the caller's promise.
        ended => unsafe { failed(error, ended) },
    }
}

/// What [`call`] does after a failure, once for all functions.
///
/// # Safety
/// As [`call`].
#[cold]
#[inline(never)]
unsafe fn failed(
    error: *mut *mut undiffuse_error,
    ended: Result<Outcome<undiffuse_status>, unwind::Payload>,
) -> undiffuse_status {
    let failure = match ended {
        Ok(Ok(status)) => return status,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let text = payload.text();
            payload.drop();
            Failure::new(UNDIFFUSE_PANIC, format!("a bug in the library, please report it: {text}"))
        }
    };
    let status = failure.status;
    if !error.is_null() {
        // Even here something may go wrong; the caller then gets the status alone.
        let object = unwind::stop(|| {
            let before = crate::reserve::drawn();
            let object = Box::new(undiffuse_error::new(failure));
            crate::reserve::check(before).map(|()| Box::into_raw(object))
        });
        let object = object.unwrap_or_else(|payload| {
            payload.drop();
            Ok(core::ptr::null_mut())
        });
        let object = object.unwrap_or(core::ptr::null_mut());
        // SAFETY: the caller's promise.
        unsafe { error.write(object) };
    }
    status
}

/// [`call`] for a body without a status of its own.
///
/// # Safety
/// As [`call`].
pub(crate) unsafe fn ok(error: *mut *mut undiffuse_error, body: impl FnOnce() -> Outcome<()>) -> undiffuse_status {
    // SAFETY: the caller's promise.
    unsafe { call(error, || body().map(|()| UNDIFFUSE_OK)) }
}

/// Runs the inner side of a function that returns nothing.
pub(crate) fn void(body: impl FnOnce()) {
    if let Err(payload) = unwind::stop(|| {
        crate::inject::point();
        body()
    }) {
        payload.drop();
    }
}

/// What a `T *` of the header points at.
pub(crate) struct Handle<T> {
    /// How many calls read it; -1 while one writes.
    users: AtomicIsize,
    poisoned: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `users` lets either one writer or any number of readers at the value.
unsafe impl<T: Send + Sync> Sync for Handle<T> {}

impl<T> Handle<T> {
    pub fn new(value: T) -> Self {
        Self { users: AtomicIsize::new(0), poisoned: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Asked from inside: a call that was here before may have failed until it left.
    fn check(&self, name: &str) -> Outcome<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Failure::new(
                UNDIFFUSE_POISONED,
                format!("an earlier call on this {name} failed within the library"),
            ));
        }
        Ok(())
    }

    /// To read, beside other readers.
    pub fn read(&self, name: &str) -> Outcome<Reading<'_, T>> {
        let enter =
            self.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| n.checked_add(1).filter(|n| *n > 0));
        enter.map_err(|_| busy(name))?;
        let entered = Reading(self);
        self.check(name)?;
        crate::inject::point();
        Ok(entered)
    }

    /// To write, alone.
    pub fn write(&self, name: &str) -> Outcome<Writing<'_, T>> {
        let enter = self.users.compare_exchange(0, -1, Ordering::Acquire, Ordering::Relaxed);
        enter.map_err(|_| busy(name))?;
        let entered = Writing(self);
        self.check(name)?;
        crate::inject::point();
        Ok(entered)
    }

    fn leave(&self, readers: isize) {
        if unwind::panicking() {
            self.poisoned.store(true, Ordering::Release);
        }
        self.users.fetch_sub(readers, Ordering::Release);
    }
}

fn busy(name: &str) -> Failure {
    Failure::new(UNDIFFUSE_BUSY, format!("another call is using this {name}"))
}

/// A handle that is being read.
pub(crate) struct Reading<'a, T>(&'a Handle<T>);

impl<T> Deref for Reading<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: while there are readers nobody writes.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> Drop for Reading<'_, T> {
    fn drop(&mut self) {
        self.0.leave(1);
    }
}

/// A handle that is being written.
pub(crate) struct Writing<'a, T>(&'a Handle<T>);

impl<T> Deref for Writing<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this is the only user.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Writing<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        self.0.leave(-1);
    }
}

/// A type of the header whose content C does not see.
pub(crate) trait Opaque {
    type Inner;
    /// What messages call it.
    const NAME: &'static str;
    fn of(handle: Handle<Self::Inner>) -> Self;
    fn handle(&self) -> &Handle<Self::Inner>;
}

/// Says what a handle's inside is: `opaque!(name, "what messages call it", Inner)`. The struct itself is written out,
/// since cbindgen does not look into macros.
macro_rules! opaque {
    ($name:ident, $what:literal, $inner:ty) => {
        impl $crate::guard::Opaque for $name {
            type Inner = $inner;
            const NAME: &'static str = $what;
            fn of(handle: $crate::guard::Handle<$inner>) -> Self {
                Self(handle)
            }
            fn handle(&self) -> &$crate::guard::Handle<$inner> {
                &self.0
            }
        }
    };
}
pub(crate) use opaque;

/// A `const T *` argument.
///
/// # Safety
/// NULL, or from this library and not freed during `'a`.
pub(crate) unsafe fn read<'a, T: Opaque + 'a>(pointer: *const T) -> Outcome<Reading<'a, T::Inner>> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(T::NAME))?.handle().read(T::NAME)
}

/// A `const T *` argument that may be NULL.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn read_optional<'a, T: Opaque + 'a>(pointer: *const T) -> Outcome<Option<Reading<'a, T::Inner>>> {
    // SAFETY: the caller's promise.
    if pointer.is_null() { Ok(None) } else { unsafe { read(pointer) }.map(Some) }
}

/// A `T *` argument.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn write<'a, T: Opaque + 'a>(pointer: *mut T) -> Outcome<Writing<'a, T::Inner>> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(T::NAME))?.handle().write(T::NAME)
}

/// Frees a handle. One that a call is using is left alone: that is a mistake of the caller's, and a leak is the least
/// harm.
///
/// # Safety
/// NULL, or from this library and not freed yet.
pub(crate) unsafe fn free_handle<T: Opaque>(pointer: *mut T) {
    // SAFETY: the caller's promise.
    if unsafe { pointer.as_ref() }.is_some_and(|t| t.handle().users.load(Ordering::Acquire) == 0) {
        // SAFETY: likewise.
        unsafe { free(pointer) };
    }
}

/// Frees what `Box` made.
///
/// # Safety
/// NULL, or from `Box::into_raw` and not freed yet.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

pub(crate) fn null(name: &str) -> Failure {
    Failure::argument(format!("{name} is NULL"))
}

/// An output argument, which must not be NULL. It is written once all has gone well.
///
/// # Safety
/// NULL or writable during `'a`.
pub(crate) unsafe fn output<'a, T>(pointer: *mut T, name: &str) -> Outcome<Out<'a, T>> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Failure::argument(format!("{name} is NULL or not aligned")));
    }
    Ok(Out { at: pointer, drawn: crate::reserve::drawn(), of: core::marker::PhantomData })
}

/// A place to write a result to.
pub(crate) struct Out<'a, T> {
    at: *mut T,
    /// How often the reserve had helped before the call.
    drawn: usize,
    of: core::marker::PhantomData<&'a mut T>,
}

impl<T> Out<'_, T> {
    pub fn set(self, value: T) {
        // SAFETY: `output` was promised that it may be written.
        unsafe { self.at.write(value) };
    }
}

impl<T> Out<'_, *mut T> {
    /// Gives the caller an object, unless malloc refused something on the way: then it is dropped.
    pub fn give(self, object: T) -> Outcome<()> {
        let object = Box::new(object);
        crate::reserve::check(self.drawn)?;
        self.set(Box::into_raw(object));
        Ok(())
    }
}

impl<T: Opaque> Out<'_, *mut T> {
    /// Gives the caller a handle of `inner`, as [`Out::give`].
    pub fn give_handle(self, inner: T::Inner) -> Outcome<()> {
        self.give(T::of(Handle::new(inner)))
    }
}

/// An array argument. NULL stands for none where `len` is 0.
///
/// # Safety
/// NULL, or `len` values that nobody changes during `'a`.
pub(crate) unsafe fn slice<'a, T: Copy>(pointer: *const T, len: usize, name: &str) -> Outcome<&'a [T]> {
    check_array(pointer, len, name)?;
    // SAFETY: the caller's promise; the length was checked.
    Ok(if len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(pointer, len) } })
}

/// An array argument to write to.
///
/// # Safety
/// NULL, or `len` initialised values that nobody else uses during `'a`.
pub(crate) unsafe fn slice_mut<'a, T: Copy>(pointer: *mut T, len: usize, name: &str) -> Outcome<&'a mut [T]> {
    check_array(pointer, len, name)?;
    // SAFETY: the caller's promise; the length was checked.
    Ok(if len == 0 { &mut [] } else { unsafe { core::slice::from_raw_parts_mut(pointer, len) } })
}

fn check_array<T>(pointer: *const T, len: usize, name: &str) -> Outcome<()> {
    if len == 0 {
        return Ok(());
    }
    if pointer.is_null() {
        return Err(Failure::argument(format!("{name} is NULL, expected {len} values")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(format!("{name} is not aligned for its type")));
    }
    if len.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::new(UNDIFFUSE_SHAPE, format!("{name} has {len} values, which no memory holds")));
    }
    Ok(())
}

/// That none of the arrays that a call writes shares memory with another array of it.
pub(crate) fn check_apart(read: &[(&str, &[f32])], written: &[(&str, *const f32, usize)]) -> Outcome<()> {
    let range = |p: *const f32, len: usize| p.addr()..p.addr().saturating_add(len.saturating_mul(size_of::<f32>()));
    for (i, &(name, at, len)) in written.iter().enumerate() {
        let one = range(at, len);
        let others = read.iter().map(|(n, s)| (*n, range(s.as_ptr(), s.len())));
        let later = written.iter().skip(i + 1).map(|&(n, p, l)| (n, range(p, l)));
        for (other, two) in others.chain(later) {
            if one.start < two.end && two.start < one.end {
                return Err(Failure::argument(format!("{name} and {other} overlap")));
            }
        }
    }
    Ok(())
}

/// A string argument, UTF-8 and ended by a NUL byte.
///
/// # Safety
/// NULL, or such a string that nobody changes during `'a`.
pub(crate) unsafe fn string<'a>(pointer: *const c_char, name: &str) -> Outcome<&'a str> {
    if pointer.is_null() {
        return Err(null(name));
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_str().map_err(|_| Failure::argument(format!("{name} is not UTF-8")))
}

/// A text argument of so many bytes, or up to a NUL byte where `len` is 0.
///
/// # Safety
/// NULL, or such a text that nobody changes during `'a`.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, len: usize, name: &str) -> Outcome<&'a str> {
    if len == 0 {
        // SAFETY: the caller's promise.
        return unsafe { string(pointer, name) };
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(pointer.cast::<u8>(), len, name) }?;
    core::str::from_utf8(bytes).map_err(|_| Failure::argument(format!("{name} is not UTF-8")))
}

/// Fills the caller's buffer by the convention of the header: NULL asks for the length, a buffer must be long enough.
///
/// # Safety
/// `buffer` is NULL or holds `*len` values that may be written, `len` may be read and written.
pub(crate) unsafe fn fill<T: Copy>((name, buffer): (&str, *mut T), len: *mut usize, values: &[T]) -> Outcome<()> {
    // SAFETY: the caller's promise.
    let out = unsafe { output(len, "len") }?;
    // SAFETY: as above, and aligned.
    let room = unsafe { len.read() };
    if !buffer.is_null() {
        if room < values.len() {
            out.set(values.len());
            return Err(Failure::new(
                UNDIFFUSE_BUFFER_TOO_SMALL,
                format!("{name} holds {room} values, expected {}", values.len()),
            ));
        }
        check_array(buffer, values.len(), name)?;
        // SAFETY: the buffer has room for as many, and is not the library's.
        unsafe { core::ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len()) };
    }
    out.set(values.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_one_writer_or_any_readers_and_none_after_a_panic() {
        let handle = Handle::new(7);
        let status = |r: Outcome<()>| r.unwrap_err().status;
        {
            let one = handle.read("thing").unwrap();
            let two = handle.read("thing").unwrap();
            assert_eq!((*one, *two), (7, 7));
            assert_eq!(status(handle.write("thing").map(|_| ())), UNDIFFUSE_BUSY);
        }
        {
            let mut writer = handle.write("thing").unwrap();
            *writer = 8;
            assert_eq!(status(handle.read("thing").map(|_| ())), UNDIFFUSE_BUSY);
            assert_eq!(status(handle.write("thing").map(|_| ())), UNDIFFUSE_BUSY);
        }
        let panicked = unwind::stop(|| {
            let _reader = handle.read("thing").unwrap();
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        for _ in 0..2 {
            assert_eq!(status(handle.read("thing").map(|_| ())), UNDIFFUSE_POISONED);
            assert_eq!(status(handle.write("thing").map(|_| ())), UNDIFFUSE_POISONED);
        }
        // Refused calls have left, so that it can be freed.
        assert_eq!(handle.users.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_call_that_enters_beside_one_that_panics_is_refused_or_reads_what_was_whole() {
        for _ in 0..50 {
            let handle = Handle::new([0u32; 2]);
            std::thread::scope(|s| {
                s.spawn(|| {
                    let _ = unwind::stop(|| {
                        let mut writer = handle.write("thing").unwrap();
                        writer[0] = 1;
                        std::panic::resume_unwind(Box::new("on purpose"));
                    });
                });
                s.spawn(|| {
                    for _ in 0..20 {
                        match handle.read("thing") {
                            Ok(value) => assert_eq!(*value, [0, 0], "a half-written value was read"),
                            Err(e) => assert!([UNDIFFUSE_BUSY, UNDIFFUSE_POISONED].contains(&e.status)),
                        }
                    }
                });
            });
            assert_eq!(handle.read("thing").map(|_| ()).unwrap_err().status, UNDIFFUSE_POISONED);
        }
    }
}
