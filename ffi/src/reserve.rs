//! What stands in when malloc refuses.
//!
//! Rust ends the process when a small block is refused: a string, a list, the box of a handle. A library must not do
//! that to its host, so libundiffuse allocates through [`Reserve`]: from malloc, and where malloc refuses a small
//! block, from some megabytes of zeros that no page of memory stands behind until then. A call that drew on them gives
//! out no handle ([`crate::guard::Out::give`]): it drops what it made and returns UNDIFFUSE_OUT_OF_MEMORY. So no block
//! outlives its call, and the reserve is whole again for the next.
//!
//! What is large asks for its memory in a way that can fail, and is refused before it gets here, by size or by
//! alignment.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::status::undiffuse_status::UNDIFFUSE_OUT_OF_MEMORY;
use crate::status::{Failure, Outcome};

/// Bytes of the reserve. A network of some thousand layers needs less for what is small in it.
const BYTES: usize = 4 << 20;
/// The largest block that it gives.
const LARGEST: usize = 256 << 10;
/// What blocks begin at a multiple of. Workspaces and weights ask for more.
const ALIGNMENT: usize = 16;

/// One block more in [`Spare::state`].
const OUT: u64 = 1 << 32;

/// The memory of a reserve, and what is out of it. The library has one; its test has another, since whatever draws on
/// the library's makes each call that is under way refuse its result.
#[repr(C, align(16))]
struct Spare {
    area: UnsafeCell<MaybeUninit<[u8; BYTES]>>,
    /// How many blocks are out, above [`OUT`]; below, how many bytes were given since none was.
    state: AtomicU64,
    /// How often it has helped.
    drawn: AtomicUsize,
}

// SAFETY: parts of the area are handed out, each to one owner.
unsafe impl Sync for Spare {}

static SPARE: Spare = Spare::new();

/// How often the reserve has helped so far, in any thread.
pub(crate) fn drawn() -> usize {
    SPARE.drawn.load(Ordering::Relaxed)
}

/// That the reserve has not helped since `before`.
pub(crate) fn check(before: usize) -> Outcome<()> {
    if drawn() == before {
        return Ok(());
    }
    Err(Failure::new(UNDIFFUSE_OUT_OF_MEMORY, "malloc refused memory for something small"))
}

impl Spare {
    const fn new() -> Spare {
        let area = UnsafeCell::new(MaybeUninit::uninit());
        Spare { area, state: AtomicU64::new(0), drawn: AtomicUsize::new(0) }
    }

    /// A block of the reserve; null if it is not for such a block, or spent.
    #[cold]
    #[inline(never)]
    fn draw(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT || layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        let size = layout.size().next_multiple_of(ALIGNMENT) as u64;
        let state = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state % OUT + size <= BYTES as u64).then_some(state + OUT + size)
        });
        let Ok(state) = state else { return std::ptr::null_mut() };
        self.drawn.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the block ends within the area.
        unsafe { self.area.get().cast::<u8>().add((state % OUT) as usize) }
    }

    /// Whether a block is of the reserve.
    fn has(&self, block: *mut u8) -> bool {
        block.addr().wrapping_sub(self.area.get().addr()) < BYTES
    }

    /// Takes a block of the reserve back: its bytes are given again when no block is out.
    #[cold]
    #[inline(never)]
    fn put_back(&self) {
        let taken = |state: u64| if state < 2 * OUT { 0 } else { state - OUT };
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| Some(taken(state)));
    }
}

// SAFETY: blocks are the system's or lie apart in the area; it does not panic.
unsafe impl GlobalAlloc for Spare {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, here and below.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { self.draw(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let mut block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() {
            block = self.draw(layout);
            if !block.is_null() {
                // SAFETY: the block has so many bytes.
                unsafe { block.write_bytes(0, layout.size()) };
            }
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.has(block) {
            return self.put_back();
        }
        // SAFETY: as above, and it is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let ours = self.has(block);
        if !ours {
            // SAFETY: as above, and it is the system's.
            let moved = unsafe { System.realloc(block, layout, new_size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller promises that the new size is one for this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as above. A block of the system's would have got memory before, if there were any.
        let moved = if ours { unsafe { self.alloc(new) } } else { self.draw(new) };
        if !moved.is_null() {
            // SAFETY: both have as many bytes and lie apart; the old one is given back once.
            unsafe {
                std::ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
        }
        moved
    }
}

/// The allocator of libundiffuse; see the module.
pub struct Reserve;

// SAFETY: the calls of an allocator. Nothing is inlined, since there are thousands of callers.
unsafe impl GlobalAlloc for Reserve {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, here and below.
        unsafe { SPARE.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { SPARE.alloc_zeroed(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { SPARE.dealloc(block, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { SPARE.realloc(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn blocks_lie_apart_and_the_reserve_is_whole_again_when_all_are_back() {
        static OWN: Spare = Spare::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        let blocks: Vec<usize> = (0..3).map(|_| OWN.draw(layout).addr()).collect();
        assert!(blocks.windows(2).all(|w| w[1] - w[0] == 112), "{blocks:?}");
        assert_eq!(OWN.drawn.load(Ordering::Relaxed), 3);
        blocks.iter().for_each(|_| OWN.put_back());
        assert_eq!(OWN.draw(layout).addr(), blocks[0]);

        // Growing keeps the content; a block of the reserve becomes one of the system's, which has memory now.
        let block = OWN.area.get().cast::<u8>();
        // SAFETY: the block just drawn, which nobody else has.
        unsafe {
            block.write_bytes(7, 100);
            let grown = OWN.realloc(block, layout, 1000);
            assert!(!OWN.has(grown));
            assert!((0..100).all(|i| *grown.add(i) == 7));
            OWN.dealloc(grown, Layout::from_size_align(1000, 8).unwrap());
        }
        assert_eq!(OWN.state.load(Ordering::Relaxed), 0);

        // What is large or wants a cache line, and what is more than there is, is refused.
        assert!(OWN.draw(Layout::from_size_align(LARGEST + 1, 8).unwrap()).is_null());
        assert!(OWN.draw(Layout::from_size_align(64, 64).unwrap()).is_null());
        let large = Layout::from_size_align(LARGEST, 8).unwrap();
        let given = (0..100).filter(|_| !OWN.draw(large).is_null()).count();
        assert_eq!(given, BYTES / LARGEST);
        (0..given).for_each(|_| OWN.put_back());
        assert!(!OWN.draw(large).is_null());
        OWN.put_back();
    }
}
