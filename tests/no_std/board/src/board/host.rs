//! The computer that builds: prints what the boards must print. With a packed file as its argument, what that model
//! needs on a board.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use undiffuse::backend::cpu::{Cpu, CpuOptions, Path, WeightType};
use undiffuse::chain::Chain;
use undiffuse::pipeline::{Pipeline, PipelineOptions};
use undiffuse::sampler::SamplerOptions;

use crate::samples::{self, Board};

static ARMED: AtomicBool = AtomicBool::new(false);
static HEAP: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts, and refuses everything once it is armed, as that of the boards does.
struct Armed;

// SAFETY: calls go to the system's allocator unchanged, or get nothing.
unsafe impl GlobalAlloc for Armed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ARMED.load(Relaxed) {
            return std::ptr::null_mut();
        }
        MOST.fetch_max(HEAP.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on, here and below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Armed = Armed;

struct Host;

impl Board for Host {
    fn print(&self, text: &str) {
        print!("{text}");
    }

    fn arm(&self, armed: bool) {
        ARMED.store(armed, Relaxed);
    }
}

pub fn main() -> undiffuse::Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(path) = arguments.next() {
        return needs(&std::fs::read(path)?, &arguments.next().unwrap_or("f32".into()));
    }
    // On x86-64 this is the portable path alone, since that is what all boards have; on AArch64 also NEON.
    let mut arena = vec![0.0; samples::ARENA];
    samples::all(&Host, &mut arena, &[Path::Portable, Path::Neon])
}

/// Prints what a packed model takes on a board, for one sample. What stands on the heap beside weights is pointers and
/// lengths, so that a board of 32 bits needs less of it than is counted here.
fn needs(bytes: &[u8], weights: &str) -> undiffuse::Result<()> {
    let weights: WeightType = weights.parse()?;
    let options = CpuOptions { path: Some(Path::Portable), threads: Some(1), weights };
    let before = HEAP.load(Relaxed);
    MOST.store(before, Relaxed);
    let pipeline = Pipeline::from_bytes(bytes, &Cpu::with_options(options)?, &PipelineOptions::default())?;
    let sampler = pipeline.sampler(&SamplerOptions::default())?;
    let (heap, most) = (HEAP.load(Relaxed) - before, MOST.load(Relaxed) - before);
    let mut memory = vec![0.0; pipeline.workspace_bytes(1)?.div_ceil(4)];
    let workspace = 4 * memory.len();
    let denoiser = pipeline.denoiser_in_memory(1, &[], memory.as_mut_slice())?;
    let chain = 4 * Chain::builder(denoiser, &sampler, ()).workspace_len()?;
    println!("parameters           {}", pipeline.parameter_count());
    println!("operations a call    {}", pipeline.flops());
    println!("flash, the file      {} bytes", bytes.len());
    println!("heap, kept           {heap} bytes, of which weights {}", pipeline.weight_bytes());
    println!("heap, while made     {most} bytes");
    println!("workspace, network   {workspace} bytes");
    println!("workspace, chain     {chain} bytes");
    Ok(())
}
