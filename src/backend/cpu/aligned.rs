//! Memory for kernels: zeroed f32 buffers that start on a cache line, and a view that several tasks may write to.
#![allow(unsafe_code)] // The allocator is called with an alignment, and tasks write disjoint parts of one buffer.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::heap::{ALIGNMENT, Heap};
use crate::error::{Result, err};

/// An owned f32 buffer of fixed length, aligned to [`ALIGNMENT`] bytes, all zero when made by [`Heap::zeroed`].
pub struct AlignedBuf {
    ptr: NonNull<f32>,
    len: usize,
    heap: Heap,
}

// SAFETY: the buffer owns its memory alone, as a Box<[f32]> would.
unsafe impl Send for AlignedBuf {}
// SAFETY: a shared reference gives only shared access to the floats.
unsafe impl Sync for AlignedBuf {}

impl Heap {
    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// `OutOfMemory` if the size overflows or the allocator refuses.
    pub fn zeroed(&self, len: usize) -> Result<AlignedBuf> {
        if len == 0 {
            return Ok(AlignedBuf { ptr: NonNull::dangling(), len, heap: Self::default() });
        }
        let layout = AlignedBuf::layout(len).ok_or_else(|| err!(OutOfMemory, "a buffer of {len} f32 is too large"))?;
        match self.block(layout) {
            Some(block) => Ok(AlignedBuf { ptr: block.cast(), len, heap: self.clone() }),
            None => Err(err!(OutOfMemory, "no memory for a buffer of {len} f32")),
        }
    }
}

impl AlignedBuf {
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.checked_mul(size_of::<f32>())?, ALIGNMENT).ok()
    }

    /// Bytes that the buffer holds.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<f32>()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.len).filter(|_| self.len > 0) {
            // SAFETY: `ptr` came from this heap with this layout.
            unsafe { self.heap.free(self.ptr.cast(), layout) }
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `ptr` is aligned and holds `len` initialised floats (or `len` is 0 and it dangles).
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the buffer is borrowed mutably.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl core::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "AlignedBuf({} f32)", self.len)
    }
}

/// A block of bytes that is a part of the program, aligned to [`ALIGNMENT`] bytes: the weights of a network.
#[repr(C, align(64))]
pub struct Block<const N: usize>(pub [u8; N]);

impl<const N: usize> Block<N> {
    /// `len` floats from byte `at` on. Where they do not lie inside, or `at` is no multiple of 4, the program does not
    /// build.
    pub const fn floats(&'static self, at: usize, len: usize) -> &'static [f32] {
        const { assert!(cfg!(target_endian = "little"), "the floats of a block are little-endian") };
        assert!(at.is_multiple_of(4) && at <= N && len <= (N - at) / 4, "the floats are not inside the block");
        // SAFETY: inside the block, whose begin is aligned for floats, as is a multiple of their size behind it; any
        // bits are a float.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr().add(at).cast::<f32>(), len) }
    }
}

/// Floats that do not change any more: packed or read when a network was made, or a part of the program.
pub enum Floats {
    /// In memory that was taken for them.
    Owned(AlignedBuf),
    /// In the program, perhaps in flash.
    Static(&'static [f32]),
}

impl From<AlignedBuf> for Floats {
    fn from(values: AlignedBuf) -> Self {
        Self::Owned(values)
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Owned(values) => values,
            Self::Static(values) => values,
        }
    }
}

impl core::fmt::Debug for Floats {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Floats({} f32)", self.len())
    }
}

/// A mutable slice that is shared by tasks, each of which writes a part that no other task touches. It is a pointer
/// and a length; making one is safe, writing through one is for the kernels.
#[derive(Clone, Copy, Debug)]
pub struct SharedMut<'a> {
    ptr: *mut f32,
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a borrowed slice; who writes through it (an unsafe act) answers for disjointness.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Shares `slice` among tasks for as long as it is borrowed.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// No memory.
    pub const fn empty() -> Self {
        Self { ptr: NonNull::dangling().as_ptr(), len: 0, _borrow: PhantomData }
    }

    /// Shares raw memory, such as a part of an arena whose other parts are read meanwhile.
    ///
    /// # Safety
    /// `ptr` must be valid for `len` floats for reads and writes during `'a`, and nobody else may touch them.
    pub unsafe fn from_raw(ptr: *mut f32, len: usize) -> Self {
        Self { ptr, len, _borrow: PhantomData }
    }

    /// Floats in the slice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the slice is empty.
    #[cfg(any(test, feature = "bench"))]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The start of the slice.
    pub fn as_ptr(&self) -> *mut f32 {
        self.ptr
    }

    /// The part `start..start + len` as a slice; empty if it does not lie inside.
    ///
    /// # Safety
    /// No other task may read or write this part while the slice lives.
    // The borrow is `'a`'s, not `self`'s: the caller promises disjointness.
    pub unsafe fn part(&self, start: usize, len: usize) -> &'a mut [f32] {
        match start.checked_add(len) {
            // SAFETY: inside the slice that was borrowed for 'a; the caller promises that nobody else uses it.
            Some(end) if end <= self.len => unsafe { core::slice::from_raw_parts_mut(self.ptr.add(start), len) },
            _ => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn zeroed_aligned_and_writable() {
        for len in [0, 1, 15, 16, 17, 4097] {
            let mut b = Heap::default().zeroed(len).unwrap();
            assert_eq!((b.len(), b.bytes()), (len, 4 * len));
            assert!(b.iter().all(|v| *v == 0.0));
            assert!(len == 0 || b.as_ptr().addr().is_multiple_of(ALIGNMENT));
            b.fill(1.0);
            assert!(b.iter().all(|v| *v == 1.0));
        }
    }

    #[test]
    fn too_large_is_an_error() {
        for len in [usize::MAX, usize::MAX / 4, usize::MAX / 8] {
            assert_eq!(Heap::default().zeroed(len).map(|_| ()).map_err(|e| e.kind()), Err(ErrorKind::OutOfMemory));
        }
    }

    #[test]
    fn parts_outside_are_empty() {
        let mut data = [0.0; 8];
        let s = SharedMut::new(&mut data);
        // SAFETY: one thread, one part at a time.
        unsafe {
            s.part(2, 3).fill(1.0);
            assert!(s.part(6, 3).is_empty() && s.part(usize::MAX, 2).is_empty());
        }
        assert_eq!(data, [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
