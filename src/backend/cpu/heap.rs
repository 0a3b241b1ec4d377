//! Where packed weights get their memory: the system, or an allocator of the host.
#![allow(unsafe_code)] // An allocator's promises cannot be checked.

use alloc::alloc::{GlobalAlloc, Layout, alloc_zeroed, dealloc};
use alloc::sync::Arc;
use core::ptr::NonNull;

/// Bytes that every block is aligned to: one cache line and one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// Gives and takes back blocks of memory. Implement it to give the memory of a host program.
///
/// # Safety
/// A block that [`allocate`](Self::allocate) gave holds so many bytes, begins at a multiple of [`ALIGNMENT`], is valid
/// for reads and writes, and is nobody else's until it is given back. Both functions may be called from several threads
/// at once.
pub unsafe trait Allocator: Send + Sync {
    /// A block of `bytes` bytes, above 0; its content is unspecified. `None` where there is none to be had.
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>>;

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from [`allocate`](Self::allocate) of this allocator with the same `bytes`, and is not used any
    /// more.
    unsafe fn free(&self, block: NonNull<u8>, bytes: usize);
}

/// The global allocator of a program that takes no memory: it has none to give. Whatever asks for some is refused.
///
/// ```
/// use undiffuse::embed::NoHeap;
///
/// // #[global_allocator]
/// static HEAP: NoHeap = NoHeap;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeap;

// SAFETY: a null pointer is a refusal, and what was never given is never taken back.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// Gives buffers, of the system's memory unless told otherwise. A clone is the same heap.
#[derive(Clone, Default)]
pub struct Heap(Option<Arc<dyn Allocator>>);

impl Heap {
    /// Buffers of the host's memory. Each keeps the allocator alive.
    pub fn of(allocator: Arc<dyn Allocator>) -> Self {
        Self(Some(allocator))
    }

    /// A block that holds zeros. `layout` is not empty.
    pub(super) fn block(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.size() > 0);
        let Some(allocator) = &self.0 else {
            // SAFETY: the layouts of buffers are not empty.
            return NonNull::new(unsafe { alloc_zeroed(layout) });
        };
        let block = allocator.allocate(layout.size())?;
        // A host that breaks its promise is caught where that costs nothing.
        if !block.addr().get().is_multiple_of(ALIGNMENT) {
            // SAFETY: just allocated, of this size, and not used.
            unsafe { allocator.free(block, layout.size()) };
            return None;
        }
        // SAFETY: the block holds so many bytes and is ours.
        unsafe { block.write_bytes(0, layout.size()) };
        Some(block)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from [`Heap::block`] of this heap with the same layout and is not used any more.
    pub(super) unsafe fn free(&self, block: NonNull<u8>, layout: Layout) {
        match &self.0 {
            // SAFETY: the caller's promise.
            Some(allocator) => unsafe { allocator.free(block, layout.size()) },
            // SAFETY: the caller's promise.
            None => unsafe { dealloc(block.as_ptr(), layout) },
        }
    }
}

impl core::fmt::Debug for Heap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.0.is_some() { "Heap(the host's)" } else { "Heap(the system's)" })
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use alloc::boxed::Box;

    use super::*;
    use crate::backend::cpu::{Cpu, CpuOptions};
    use crate::backend::{Backend, Network, ParamSource};
    use crate::cancel::Cancel;
    use crate::error::{ErrorKind, Result};
    use crate::graph::GraphBuilder;
    use crate::tensor::Dims;

    /// Counts what is out, fails from call `left` on, and may give blocks that are not aligned.
    struct Counting {
        bytes: AtomicUsize,
        calls: AtomicUsize,
        most: usize,
        crooked: bool,
    }

    impl Counting {
        fn new(most: usize) -> Arc<Self> {
            Arc::new(Self { bytes: AtomicUsize::new(0), calls: AtomicUsize::new(0), most, crooked: false })
        }

        fn layout(bytes: usize) -> Layout {
            Layout::from_size_align(bytes + ALIGNMENT, ALIGNMENT).unwrap()
        }
    }

    // SAFETY: blocks come from the system's allocator with room for the offset; `crooked` breaks only the alignment,
    // which is what the test is about.
    unsafe impl Allocator for Counting {
        fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
            if self.calls.fetch_add(1, Ordering::Relaxed) >= self.most {
                return None;
            }
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            // SAFETY: the layout is not empty.
            let block = NonNull::new(unsafe { alloc_zeroed(Self::layout(bytes)) })?;
            // SAFETY: inside the block, which has ALIGNMENT bytes more.
            Some(if self.crooked { unsafe { block.add(4) } } else { block })
        }

        unsafe fn free(&self, block: NonNull<u8>, bytes: usize) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            // SAFETY: the offset that `allocate` added is taken off.
            let block = if self.crooked { unsafe { block.sub(4) } } else { block };
            // SAFETY: from `allocate` with this layout.
            unsafe { dealloc(block.as_ptr(), Self::layout(bytes)) }
        }
    }

    fn compile(allocator: Arc<Counting>) -> Result<Box<dyn Network>> {
        let mut g = GraphBuilder::new();
        let x = g.input("x", &[2])?;
        let h = g.linear("a", x, 3, true)?;
        let y = g.linear("b", h, 1, false)?;
        g.output("y", y)?;
        let ones: &dyn ParamSource = &|_: &str, _: &Dims, out: &mut [f32]| {
            out.fill(1.0);
            Ok(())
        };
        let cpu = Cpu::with_options(CpuOptions { threads: Some(1), ..Default::default() })?;
        cpu.with_heap(Heap::of(allocator)).compile(&g.finish()?, ones)
    }

    #[test]
    fn weights_lie_in_the_hosts_memory() {
        let host = Counting::new(usize::MAX);
        let network = compile(Arc::clone(&host)).unwrap();
        assert!(host.bytes.load(Ordering::Relaxed) >= network.weight_bytes());
        let mut workspace = alloc::vec![0.0; network.workspace_len(1).unwrap()];
        let mut y = [0.0];
        network.run(1, &[&[3.0, 4.0]], &mut [&mut y], &mut workspace, &Cancel::new()).unwrap();
        assert_eq!(y, [24.0]);
        drop(network);
        assert_eq!(host.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_refused_block_is_an_error_and_leaves_nothing() {
        let host = Counting::new(usize::MAX);
        drop(compile(Arc::clone(&host)).unwrap());
        let calls = host.calls.load(Ordering::Relaxed);
        assert!(calls >= 4);
        for most in 0..calls {
            let host = Counting::new(most);
            let e = compile(Arc::clone(&host)).map(|_| ()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e}");
            assert_eq!(host.bytes.load(Ordering::Relaxed), 0, "refused call {most}");
        }
    }

    #[test]
    fn a_block_that_is_not_aligned_is_given_back() {
        let host = Arc::new(Counting {
            bytes: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            most: usize::MAX,
            crooked: true,
        });
        let e = Heap::of(host.clone()).zeroed(16).map(|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert_eq!(host.bytes.load(Ordering::Relaxed), 0);
    }
}
