//! The host's threads.

use alloc::format;
use alloc::sync::Arc;
use core::ffi::c_void;

use undiffuse::backend::threads::{Serial, Threads};

use crate::options::{options, sized};
use crate::status::{Failure, Outcome};

/// One task of a parallel-for; `index` is its number. It does not return early and throws nothing.
pub type undiffuse_task_fn = Option<unsafe extern "C" fn(task_data: *mut c_void, index: usize)>;

/// Calls `task(task_data, i)` for every i below `count`, on any threads, at the same time where it can, and returns
/// when all calls have returned. `count` is at most `thread_count`. It is called some hundred times during one network
/// call, so it should not start threads. If several sessions that use it run at once it is called from several threads
/// at once, and must then not wait for another call of it. Tasks that it leaves out are noticed: the call of the
/// library returns UNDIFFUSE_CALLBACK unless others did the work.
pub type undiffuse_parallel_for_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, count: usize, task: undiffuse_task_fn, task_data: *mut c_void)>;

/// Your threads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_threads {
    /// sizeof(undiffuse_threads).
    pub struct_size: usize,
    /// Passed to the function. It must live until every session that was made with it is freed.
    pub user_data: *mut c_void,
    /// How many tasks can run at once, the calling thread counted: 1 to 256.
    pub thread_count: usize,
    /// NULL runs everything on the calling thread.
    pub parallel_for: undiffuse_parallel_for_fn,
}

sized!(undiffuse_threads { user_data: core::ptr::null_mut(), thread_count: 1, parallel_for: None });

/// The largest number of threads.
pub(crate) const MOST: usize = 256;

struct Host {
    user_data: *mut c_void,
    count: usize,
    parallel_for: unsafe extern "C" fn(*mut c_void, usize, undiffuse_task_fn, *mut c_void),
}

// SAFETY: the header asks for a function that any thread may call.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Threads for Host {
    fn count(&self) -> usize {
        self.count
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        unsafe extern "C" fn task(data: *mut c_void, _: usize) {
            // SAFETY: the address of `work` below, which waits for all tasks.
            let work = unsafe { &*data.cast::<&(dyn Fn() + Sync)>() };
            if let Err(payload) = crate::unwind::stop(work) {
                // The layer's count of finished tasks tells.
                payload.drop();
            }
        }
        // SAFETY: as the header says. The function waits for its tasks, so `work` outlives them.
        unsafe { (self.parallel_for)(self.user_data, self.count, Some(task), (&raw const work).cast_mut().cast()) }
    }
}

/// The threads of a session's options: the host's, or so many of the library's own, 0 for as many as the process may
/// run.
///
/// # Safety
/// NULL or a valid struct.
pub(crate) unsafe fn threads(host: *const undiffuse_threads, count: usize) -> Outcome<Arc<dyn Threads>> {
    if host.is_null() {
        return own(count);
    }
    // SAFETY: the caller's promise.
    let host = unsafe { options(host) }?;
    if !(1..=MOST).contains(&host.thread_count) {
        let count = host.thread_count;
        return Err(Failure::argument(format!("undiffuse_threads.thread_count is {count}, expected 1 to {MOST}")));
    }
    Ok(match host.parallel_for {
        Some(parallel_for) => Arc::new(Host { user_data: host.user_data, count: host.thread_count, parallel_for }),
        None => Arc::new(Serial),
    })
}

#[cfg(feature = "threads")]
fn own(count: usize) -> Outcome<Arc<dyn Threads>> {
    use undiffuse::backend::cpu::pool::Pool;
    Ok(match count {
        0 => Arc::new(Pool::with_all_cores()?),
        1 => Arc::new(Serial),
        n => Arc::new(Pool::new(n)?),
    })
}

#[cfg(not(feature = "threads"))]
fn own(count: usize) -> Outcome<Arc<dyn Threads>> {
    use crate::status::undiffuse_status::UNDIFFUSE_UNSUPPORTED;
    if count > 1 {
        return Err(Failure::new(
            UNDIFFUSE_UNSUPPORTED,
            format!("{count} threads, but this build has none of its own"),
        ));
    }
    Ok(Arc::new(Serial))
}

/// The same number of threads without starting any: for counting bytes.
struct Counted(usize);

impl Threads for Counted {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        work();
    }
}

/// How many threads run at once here.
pub(crate) fn cores() -> usize {
    #[cfg(feature = "std")]
    return std::thread::available_parallelism().map_or(1, |n| n.get());
    #[cfg(not(feature = "std"))]
    return 1;
}

/// [`threads`] that start none.
///
/// # Safety
/// As [`threads`].
pub(crate) unsafe fn counted(host: *const undiffuse_threads, count: usize) -> Outcome<Arc<dyn Threads>> {
    if !host.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { threads(host, count) };
    }
    let count = match count {
        _ if cfg!(not(feature = "threads")) => 1,
        0 => cores().min(MOST),
        n if n <= MOST => n,
        n => return Err(Failure::argument(format!("{n} threads, expected 0 to {MOST}"))),
    };
    Ok(Arc::new(Counted(count)))
}
