//! Where values lie during a run: views of buffers in one arena.
//!
//! A value of `[C, H, W]` is `batch * H * W` rows of C floats (channels last), `stride` floats apart; the batch is the
//! outermost index of the rows. A view may be some channels of a wider buffer.
#![allow(unsafe_code)] // Slices of one arena: the plan keeps what is alive at the same time apart.

use core::marker::PhantomData;

use super::aligned::SharedMut;
use super::heap::ALIGNMENT;
use crate::error::{Result, ensure, err};
use crate::tensor::Dims;

/// Floats that buffers are rounded up to, so that every one begins on a cache line.
pub(super) const LINE: usize = ALIGNMENT / size_of::<f32>();

/// A number of floats rounded up to whole cache lines.
pub(super) fn lines(floats: usize) -> Result<usize> {
    floats.checked_next_multiple_of(LINE).ok_or_else(|| err!(OutOfMemory, "a buffer of {floats} f32 is too large"))
}

/// Some channels of a buffer, as rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Which buffer of the plan.
    pub buffer: usize,
    /// The first channel, in floats from the row's begin.
    pub start: usize,
    /// Floats from one row to the next.
    pub stride: usize,
    /// Channels: floats of a row that are of this value.
    pub channels: usize,
    /// Rows of the image; 1 for other values.
    pub height: usize,
    /// Columns of the image, or tokens, or 1.
    pub width: usize,
    /// Whether its values are bf16, two in a float. It is then a whole dense buffer, and `start`, `stride` and
    /// `channels` count values.
    pub half: bool,
}

impl View {
    /// A whole buffer for a value of these dimensions.
    pub fn dense(buffer: usize, dims: Dims) -> Self {
        let (height, width) = match *dims.as_slice() {
            [_, h, w] => (h, w),
            _ => (1, dims.positions()),
        };
        Self { buffer, start: 0, stride: dims.channels(), channels: dims.channels(), height, width, half: false }
    }

    /// Channels `start .. start + len` of this view.
    pub fn slice(self, start: usize, len: usize) -> Self {
        Self { start: self.start + start, channels: len, ..self }
    }

    /// Positions of one sample.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Whether the rows follow one another without a gap.
    pub fn is_dense(&self) -> bool {
        self.stride == self.channels
    }
}

/// The arena of one run.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    base: *mut f32,
    len: usize,
    batch: usize,
    /// Where each buffer begins, for one sample.
    offsets: &'a [usize],
    /// Where the memory begins that each step has for itself.
    fixed: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a borrowed slice; those who take parts of it (unsafe acts) answer for disjointness.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above.
unsafe impl Sync for Memory<'_> {}

impl<'a> Memory<'a> {
    /// Lays `offsets` (multiples of [`LINE`]) out in `workspace` for a batch; `arena` is the size of all buffers for
    /// one sample, and `own` floats follow them for the step that runs.
    pub fn new(workspace: &'a mut [f32], batch: usize, offsets: &'a [usize], arena: usize, own: usize) -> Result<Self> {
        let skip = workspace.as_ptr().align_offset(ALIGNMENT);
        let (len, have) = (workspace.len(), workspace.len().saturating_sub(skip));
        let at = arena.checked_mul(batch).ok_or_else(|| err!(OutOfMemory, "a batch of {batch} is too large"))?;
        ensure!(
            at.checked_add(own).is_some_and(|need| need <= have),
            OutOfMemory,
            "the workspace has {len} values, expected {} more",
            at.saturating_add(own).saturating_sub(have)
        );
        let base = workspace.as_mut_ptr().wrapping_add(skip);
        Ok(Self { base, len: at + own, batch, offsets, fixed: at, _borrow: PhantomData })
    }

    /// The same for a step that has for itself what is behind `end` floats, where all that is alive ends.
    pub fn behind(self, end: usize) -> Self {
        Self { fixed: end.min(self.fixed), ..self }
    }

    /// The floats of `samples` samples of a view from sample `first` on: where they begin and how many they are.
    /// Nothing if they are not inside the arena.
    fn span(&self, v: &View, first: usize, samples: usize) -> (usize, usize) {
        let begin = || {
            let at = self.offsets.get(v.buffer)?.checked_mul(self.batch)?;
            let within = v.start.checked_add(first.checked_mul(v.positions())?.checked_mul(v.stride)?)?;
            at.checked_add(if v.half { within / 2 } else { within })
        };
        let len = (v.positions() * samples).saturating_sub(1).saturating_mul(v.stride).saturating_add(v.channels);
        let len = if v.half { len.div_ceil(2) } else { len };
        match begin() {
            Some(begin) if begin.checked_add(len).is_some_and(|end| end <= self.fixed) => (begin, len),
            _ => (0, 0),
        }
    }

    /// A view's floats from the first row's begin to the last row's end, to read.
    ///
    /// # Safety
    /// Nobody may write to the view's rows while the slice lives, nor to what lies between them, which may be other
    /// values' floats. So it is for steps whose result has a buffer of its own; the others make pointers only (see
    /// [`Elementwise`](super::steps::elementwise)).
    pub unsafe fn read(&self, v: &View) -> &'a [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.read_samples(v, 0, self.batch) }
    }

    /// [`Memory::read`] of `samples` samples from sample `first` on.
    ///
    /// # Safety
    /// As [`Memory::read`].
    pub unsafe fn read_samples(&self, v: &View, first: usize, samples: usize) -> &'a [f32] {
        let (begin, len) = self.span(v, first, samples);
        // SAFETY: `span` lies in the arena; the caller answers for aliasing.
        unsafe { core::slice::from_raw_parts(self.base.add(begin), len) }
    }

    /// A view's floats to write, by several tasks.
    ///
    /// # Safety
    /// Nobody else may use the view's floats meanwhile.
    pub unsafe fn write(&self, v: &View) -> SharedMut<'a> {
        // SAFETY: the caller's promise.
        unsafe { self.write_samples(v, 0, self.batch) }
    }

    /// [`Memory::write`] of `samples` samples from sample `first` on.
    ///
    /// # Safety
    /// As [`Memory::write`].
    pub unsafe fn write_samples(&self, v: &View, first: usize, samples: usize) -> SharedMut<'a> {
        let (begin, len) = self.span(v, first, samples);
        // SAFETY: `span` lies in the arena; the caller answers for aliasing.
        unsafe { SharedMut::from_raw(self.base.add(begin), len) }
    }

    /// `len` floats from `begin` on of the memory that the running step has for itself, see
    /// [`Step::own`](super::steps::Step::own). Nothing if they are not inside it.
    ///
    /// # Safety
    /// Nobody else may use them meanwhile.
    pub unsafe fn own(&self, begin: usize, len: usize) -> SharedMut<'a> {
        match self.fixed.checked_add(begin) {
            // SAFETY: inside the workspace; the caller answers for aliasing.
            Some(at) if at.checked_add(len).is_some_and(|end| end <= self.len) => unsafe {
                SharedMut::from_raw(self.base.add(at), len)
            },
            _ => SharedMut::empty(),
        }
    }
}

/// The caller's output slices, shared by workers that write different samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices<'a> {
    list: *const *mut [f32],
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: they are borrowed slices; who writes through them (an unsafe act) answers for disjointness.
unsafe impl Send for Slices<'_> {}
// SAFETY: as above.
unsafe impl Sync for Slices<'_> {}

impl<'a> Slices<'a> {
    /// Shares the slices for as long as they are borrowed.
    pub fn new(slices: &'a mut [&mut [f32]]) -> Self {
        // A reference to a slice and a pointer to it have the same layout; pointers may be copied.
        Self { list: slices.as_mut_ptr().cast(), len: slices.len(), _borrow: PhantomData }
    }

    /// A slice; an empty one for a number that is none of theirs.
    pub fn get(&self, i: usize) -> SharedMut<'a> {
        if i >= self.len {
            return SharedMut::empty();
        }
        // SAFETY: slice i is there and is borrowed for 'a; nobody has made a reference of it meanwhile.
        unsafe {
            let slice = *self.list.add(i);
            SharedMut::from_raw(slice.cast::<f32>(), slice.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_lie_where_the_plan_says_and_never_outside() {
        let mut workspace = [0.0; 16 * 10 + 15];
        let offsets = [0, 16];
        assert!(Memory::new(&mut workspace, 3, &offsets, 48, 32).is_err());
        let m = Memory::new(&mut workspace, 3, &offsets, 32, 32).unwrap();
        let v = View { buffer: 1, start: 2, stride: 5, channels: 3, height: 1, width: 3, half: false };
        // SAFETY: one thread, one view at a time.
        unsafe {
            assert_eq!(m.read(&v).len(), 8 * 5 + 3);
            assert_eq!(m.read(&v).as_ptr().addr(), m.base.addr() + 4 * (3 * 16 + 2));
            assert_eq!(m.base.addr() % ALIGNMENT, 0);
            assert_eq!(m.read_samples(&v, 1, 2).as_ptr().addr(), m.base.addr() + 4 * (3 * 16 + 2 + 15));
            assert_eq!(m.own(16, 16).as_ptr().addr(), m.base.addr() + 4 * (3 * 32 + 16));
            assert_eq!(m.own(16, 16).len(), 16);
            assert!(m.own(17, 16).is_empty());
            assert!(m.read(&View { buffer: 2, ..v }).is_empty());
            assert!(m.read(&View { width: 30, ..v }).is_empty());
        }
    }
}
