//! What there is to run networks on.

use alloc::format;
use alloc::string::ToString;
use core::ffi::c_char;
use core::mem::MaybeUninit;

use undiffuse::backend::cpu::{Cpu, CpuOptions};

use crate::enums::undiffuse_backend::{self, *};
use crate::guard::{ok, output};
use crate::model::not_built_in;
use crate::options::{give, sized, value};
use crate::status::{Failure, Outcome, undiffuse_error, undiffuse_status};

/// One device of a backend.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct undiffuse_device_info {
    /// sizeof(undiffuse_device_info); you set it before the call.
    pub struct_size: usize,
    /// Number of threads that it runs at once; 0 where that does not apply.
    pub thread_count: usize,
    /// What it is, such as "cpu avx512": UTF-8, NUL-terminated, truncated if it is longer.
    pub name: [c_char; 128],
}

sized!(undiffuse_device_info { thread_count: 0, name: [0; 128] });

/// Writes to *count how many devices a backend has; 0 for one that is built in but finds none on this machine.
///
/// No GPU driver is loaded unless you ask for a GPU backend. Status: UNDIFFUSE_UNSUPPORTED for a backend that is not
/// built in. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_device_count(
    backend: MaybeUninit<undiffuse_backend>,
    count: *mut u32,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe {
        ok(error, || {
            let out = output(count, "count")?;
            out.set(devices(backend)?);
            Ok(())
        })
    }
}

fn devices(backend: MaybeUninit<undiffuse_backend>) -> Outcome<u32> {
    match value(backend)? {
        UNDIFFUSE_BACKEND_CPU => Ok(1),
        UNDIFFUSE_BACKEND_REFERENCE if cfg!(feature = "reference") => Ok(1),
        #[cfg(feature = "wgpu")]
        UNDIFFUSE_BACKEND_WGPU => Ok(undiffuse::backend::wgpu::adapters().len() as u32),
        other => Err(not_built_in(other)),
    }
}

/// Writes information about device `index` of a backend, counted from 0, to *info, whose struct_size you set. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_device_get_info(
    backend: MaybeUninit<undiffuse_backend>,
    index: u32,
    info: *mut undiffuse_device_info,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: as above.
    unsafe {
        ok(error, || {
            let count = devices(backend)?;
            if index >= count {
                return Err(Failure::argument(format!("device {index} does not exist, there are {count}")));
            }
            let mut i = <undiffuse_device_info as crate::options::VersionedStruct>::defaults();
            let name = match value(backend)? {
                UNDIFFUSE_BACKEND_CPU => {
                    i.thread_count = crate::threads::cores();
                    let options = CpuOptions { threads: Some(1), ..CpuOptions::default() };
                    format!("cpu {}", Cpu::with_options(options)?.path())
                }
                #[cfg(feature = "wgpu")]
                UNDIFFUSE_BACKEND_WGPU => {
                    let list = undiffuse::backend::wgpu::adapters();
                    let adapter = list.get(index as usize).ok_or_else(|| Failure::argument("the device has gone"))?;
                    format!("{} ({})", adapter.name, adapter.interface)
                }
                _ => {
                    i.thread_count = 1;
                    "reference".to_string()
                }
            };
            let room = i.name.len() - 1;
            i.name.iter_mut().zip(name.bytes().take(room)).for_each(|(to, b)| *to = b as c_char);
            give(info, &i)
        })
    }
}
