//! The host's memory.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::NonNull;

use undiffuse::backend::cpu::heap::{ALIGNMENT, Allocator, Heap};

use crate::options::{options, sized};
use crate::status::undiffuse_status::UNDIFFUSE_OUT_OF_MEMORY;
use crate::status::{Failure, Outcome};

/// Allocates `size` bytes, above 0, aligned to `alignment`, a power of two (64); the content is unspecified. Returns
/// NULL on failure: the call of the library then returns UNDIFFUSE_OUT_OF_MEMORY after freeing what it allocated.
pub type undiffuse_allocate_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, size: usize, alignment: usize) -> *mut c_void>;

/// Frees a block of the allocate function, with the same size and alignment; never NULL.
pub type undiffuse_deallocate_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, block: *mut c_void, size: usize, alignment: usize)>;

/// Your allocator.
///
/// What goes through it: the packed weights of a model and, while it is loaded, the weights of one layer as they are
/// read; the workspace of a session. What does not: handles, tables of schedules, copies of measured values, the
/// factors of operators, texts and (from a file) a read buffer of at most 1 MiB. Those come from malloc, when handles
/// are made: a session allocates nothing after undiffuse_session_new.
///
/// Both functions are called on the threads that call the library, and must be ready to be called from several at once
/// if you use several. They must not call the library. `user_data` must live until every object that was made with the
/// allocator is freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_allocator {
    /// sizeof(undiffuse_allocator).
    pub struct_size: usize,
    /// Passed to both functions.
    pub user_data: *mut c_void,
    /// Must not be NULL.
    pub allocate: undiffuse_allocate_fn,
    /// Must not be NULL.
    pub deallocate: undiffuse_deallocate_fn,
}

sized!(undiffuse_allocator { user_data: core::ptr::null_mut(), allocate: None, deallocate: None });

struct Host {
    user_data: *mut c_void,
    allocate: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    deallocate: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, usize),
}

// SAFETY: the header asks for functions that any thread may call.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

// SAFETY: the header asks for what the trait asks for; the heap checks the alignment.
unsafe impl Allocator for Host {
    fn allocate(&self, bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: as the header says.
        NonNull::new(unsafe { (self.allocate)(self.user_data, bytes, ALIGNMENT) }.cast())
    }

    unsafe fn free(&self, block: NonNull<u8>, bytes: usize) {
        // SAFETY: as the header says; the block is the host's.
        unsafe { (self.deallocate)(self.user_data, block.as_ptr().cast(), bytes, ALIGNMENT) }
    }
}

/// Memory for one call: `len` zeros.
pub(crate) fn scratch(len: usize) -> Outcome<Vec<f32>> {
    let mut scratch = Vec::new();
    if scratch.try_reserve_exact(len).is_err() {
        return Err(Failure::new(UNDIFFUSE_OUT_OF_MEMORY, format!("no memory for {len} values of scratch")));
    }
    scratch.resize(len, 0.0);
    Ok(scratch)
}

/// The heap of an option: NULL is the system's.
///
/// # Safety
/// NULL or a valid struct.
pub(crate) unsafe fn heap(allocator: *const undiffuse_allocator) -> Outcome<Heap> {
    if allocator.is_null() {
        return Ok(Heap::default());
    }
    // SAFETY: the caller's promise.
    let a = unsafe { options(allocator) }?;
    let (Some(allocate), Some(deallocate)) = (a.allocate, a.deallocate) else {
        return Err(Failure::argument("undiffuse_allocator: allocate or deallocate is NULL"));
    };
    Ok(Heap::of(Arc::new(Host { user_data: a.user_data, allocate, deallocate })))
}
