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

#[repr(align(16))]
struct Area(UnsafeCell<MaybeUninit<[u8; BYTES]>>);

// SAFETY: parts of it are handed out, each to one owner.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new(MaybeUninit::uninit()));

/// How many blocks are out, above `OUT`; below, how many bytes were given since none was.
static STATE: AtomicU64 = AtomicU64::new(0);
const OUT: u64 = 1 << 32;

/// How often the reserve has helped.
static DRAWN: AtomicUsize = AtomicUsize::new(0);

/// How often the reserve has helped so far, in any thread.
pub(crate) fn drawn() -> usize {
    DRAWN.load(Ordering::Relaxed)
}

/// That the reserve has not helped since `before`.
pub(crate) fn check(before: usize) -> Outcome<()> {
    if drawn() == before {
        return Ok(());
    }
    Err(Failure::new(UNDIFFUSE_OUT_OF_MEMORY, "malloc refused memory for something small"))
}

/// The allocator of libundiffuse; see the module.
pub struct Reserve;

impl Reserve {
    /// A block of the reserve; null if it is not for such a block, or spent.
    #[cold]
    #[inline(never)]
    fn draw(layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT || layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        let size = layout.size().next_multiple_of(ALIGNMENT) as u64;
        let state = STATE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state % OUT + size <= BYTES as u64).then_some(state + OUT + size)
        });
        let Ok(state) = state else { return std::ptr::null_mut() };
        DRAWN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the block ends within the area.
        unsafe { AREA.0.get().cast::<u8>().add((state % OUT) as usize) }
    }

    /// Whether a block is of the reserve.
    fn has(block: *mut u8) -> bool {
        block.addr().wrapping_sub(AREA.0.get().addr()) < BYTES
    }

    /// Takes a block of the reserve back: its bytes are given again when no block is out.
    #[cold]
    #[inline(never)]
    fn put_back() {
        let taken = |state: u64| if state < 2 * OUT { 0 } else { state - OUT };
        let _ = STATE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| Some(taken(state)));
    }
}

// SAFETY: blocks are the system's or lie apart in the area; it does not panic. Nothing is inlined, since there are
// thousands of callers.
unsafe impl GlobalAlloc for Reserve {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, here and below.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { Self::draw(layout) } else { block }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let mut block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() {
            block = Self::draw(layout);
            if !block.is_null() {
                // SAFETY: the block has so many bytes.
                unsafe { block.write_bytes(0, layout.size()) };
            }
        }
        block
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if Self::has(block) {
            return Self::put_back();
        }
        // SAFETY: as above, and it is the system's.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let ours = Self::has(block);
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
        let moved = if ours { unsafe { self.alloc(new) } } else { Self::draw(new) };
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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn blocks_lie_apart_and_the_reserve_is_whole_again_when_all_are_back() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        let before = drawn();
        let blocks: Vec<usize> = (0..3).map(|_| Reserve::draw(layout).addr()).collect();
        assert!(blocks.windows(2).all(|w| w[1] - w[0] == 112), "{blocks:?}");
        assert_eq!(drawn() - before, 3);
        assert_eq!(check(before).unwrap_err().status, UNDIFFUSE_OUT_OF_MEMORY);
        blocks.iter().for_each(|_| Reserve::put_back());
        assert_eq!(Reserve::draw(layout).addr(), blocks[0]);

        // Growing keeps the content; a block of the reserve becomes one of the system's, which has memory now.
        let block = AREA.0.get().cast::<u8>();
        // SAFETY: the block just drawn, which nobody else has.
        unsafe {
            block.write_bytes(7, 100);
            let grown = Reserve.realloc(block, layout, 1000);
            assert!(!Reserve::has(grown));
            assert!((0..100).all(|i| *grown.add(i) == 7));
            Reserve.dealloc(grown, Layout::from_size_align(1000, 8).unwrap());
        }
        assert_eq!(STATE.load(Ordering::Relaxed), 0);

        // What is large or wants a cache line, and what is more than there is, is refused.
        assert!(Reserve::draw(Layout::from_size_align(LARGEST + 1, 8).unwrap()).is_null());
        assert!(Reserve::draw(Layout::from_size_align(64, 64).unwrap()).is_null());
        let large = Layout::from_size_align(LARGEST, 8).unwrap();
        let given = (0..100).filter(|_| !Reserve::draw(large).is_null()).count();
        assert_eq!(given, BYTES / LARGEST);
        (0..given).for_each(|_| Reserve::put_back());
        assert!(!Reserve::draw(large).is_null());
        Reserve::put_back();
    }
}
