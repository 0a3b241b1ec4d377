//! No driver of a GPU is opened before one is asked for. A process of its own, because a loaded driver stays.

use undiffuse::backend::Choice;
use undiffuse::backend::cpu::CpuOptions;
use undiffuse::backend::wgpu::{Wgpu, WgpuOptions, adapters};
use undiffuse::pipeline::{Pipeline, PipelineOptions};

/// Whether the loader of Vulkan is in this process, where the system says so.
fn loader_is_here() -> Option<bool> {
    std::fs::read_to_string("/proc/self/maps").ok().map(|maps| maps.contains("libvulkan"))
}

#[test]
fn the_cpu_touches_no_driver() {
    let Some(before) = loader_is_here() else {
        println!("skipped: no /proc/self/maps");
        return;
    };
    assert!(!before);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/pretrained/digits.safetensors");
    let backend = "cpu".parse::<Choice>().unwrap().open(&CpuOptions::default()).unwrap();
    let pipeline = Pipeline::open(path, backend.as_ref(), &PipelineOptions::default()).unwrap();
    pipeline.denoiser(1, &[]).unwrap();
    assert_eq!(loader_is_here(), Some(false));
    // That the test would see it.
    match adapters().into_iter().find(|a| a.unusable.is_none()) {
        Some(adapter) => {
            let _open = Wgpu::open(Some(adapter.index), WgpuOptions::default()).unwrap();
            assert_eq!(loader_is_here(), Some(true));
        }
        None => println!("skipped: no Vulkan adapter, so nothing shows that a loader would be seen"),
    }
}
