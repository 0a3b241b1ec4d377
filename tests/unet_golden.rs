//! Every block family and configuration key of UNet2DModel, and the exact ddpm-cifar10-32 network, against diffusers in float64.

use serde_json::Value;
use undiffuse::Cancel;
use undiffuse::backend::Backend;
use undiffuse::backend::cpu::isa::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::model::unet2d::{self, UNet2DConfig};

#[path = "common/golden.rs"]
mod golden;
#[path = "common/pcg.rs"]
mod pcg;
use golden::{ROOT_3, relative_l2, stored};
#[path = "common/seeded.rs"]
mod seeded;
use seeded::Seeded;

/// The stream of inputs, as in make_unet.py.
const INPUT_SEED: u64 = 21;
/// The bound that the project promises.
const BOUND: f64 = 1e-5;

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// Runs the last `images` of a case on a backend, one by one, and gives the worst relative L2 error.
fn worst(backend: &dyn Backend, index: usize, case: &Value, images: usize) -> f64 {
    let name = case["name"].as_str().unwrap();
    let config = UNet2DConfig::from_json(&case["config"].to_string()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let size = floats(&case["size"]);
    let graph = unet2d::build(&config, [size[0] as usize, size[1] as usize]).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(graph.parameter_count() as u64, case["parameters"].as_u64().unwrap(), "{name}");
    let seeded = Seeded::new(&graph);
    let network = backend.compile(&graph, &|n: &str, d: &_, out: &mut [f32]| seeded.read(n, d, out)).unwrap();

    let t = floats(&case["t"]);
    let x_len = network.inputs()[0].elements();
    let x = pcg::uniform(INPUT_SEED, index as u64, t.len() * x_len, ROOT_3);
    let class_len = network.inputs().get(2).map(|d| d.elements());
    let class = match (case.get("class_labels"), case.get("class_vectors")) {
        (Some(labels), _) => floats(labels),
        (None, Some(_)) => pcg::uniform(INPUT_SEED, 1000 + index as u64, t.len() * class_len.unwrap(), 1.0),
        (None, None) => Vec::new(),
    };
    assert_eq!(class.len(), t.len() * class_len.unwrap_or(0), "{name}");
    let want = stored(&std::fs::read(golden::path("unet.safetensors")).unwrap(), name);
    let y_len = network.outputs()[0].elements();
    let mut workspace = vec![0.0; network.workspace_len(1).unwrap()];
    let mut worst = 0f64;
    for i in t.len().saturating_sub(images)..t.len() {
        let mut y = vec![0.0; y_len];
        let mut inputs = vec![&x[i * x_len..][..x_len], &t[i..][..1]];
        if let Some(n) = class_len {
            inputs.push(&class[i * n..][..n]);
        }
        network.run(1, &inputs, &mut [&mut y], &mut workspace, &Cancel::new()).unwrap();
        worst = worst.max(relative_l2(&y, &want[i * y_len..][..y_len]));
    }
    worst
}

fn check(backend: &dyn Backend, images: usize, wanted: impl Fn(&str) -> bool) {
    check_within(BOUND, backend, images, wanted);
}

fn check_within(bound: f64, backend: &dyn Backend, images: usize, wanted: impl Fn(&str) -> bool) {
    let cases = golden::json("unet.json");
    let mut failed = Vec::new();
    let mut seen = 0;
    for (index, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        if !wanted(name) {
            continue;
        }
        seen += 1;
        let error = worst(backend, index, case, images);
        println!("{}: {name}: {error:.2e}", backend.name());
        if error.is_nan() || error > bound {
            failed.push(format!("{name}: {error:e}"));
        }
    }
    assert!(seen > 0);
    assert!(failed.is_empty(), "{}: relative L2 error over {bound:e}: {failed:?}", backend.name());
}

const LARGE: &str = "ddpm_cifar10_32";
const ALL: usize = usize::MAX;

#[test]
fn tiny_networks_of_every_family_on_the_reference_backend() {
    check(&Reference, ALL, |name| name != LARGE);
}

#[test]
fn ddpm_cifar10_32_on_the_reference_backend() {
    // One image, because plain loops take ten seconds for it.
    check(&Reference, 1, |name| name == LARGE);
}

/// The cpu backend on each path that this CPU has.
fn paths() -> Vec<Cpu> {
    let cpu = |path| match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(2) }) {
        Ok(cpu) => Some(cpu),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    };
    Path::ALL.into_iter().filter_map(cpu).collect()
}

#[test]
fn tiny_networks_of_every_family_on_every_path_of_the_cpu_backend() {
    for cpu in paths() {
        println!("{}", cpu.path());
        check(&cpu, ALL, |name| name != LARGE);
    }
}

#[test]
fn ddpm_cifar10_32_on_the_cpu_backend() {
    check(&Cpu::new().unwrap(), ALL, |name| name == LARGE);
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::{ALL, BOUND, LARGE, check_within};
    use undiffuse::backend::wgpu::{Precision, Wgpu, WgpuOptions, adapters};

    /// The bound that the project promises for half precision.
    const HALF_BOUND: f64 = 5e-3;

    /// The first adapter that has what the precision asks for.
    fn open(precision: Precision) -> Option<Wgpu> {
        let fits = |f16| f16 || precision == Precision::F32;
        let Some(adapter) = adapters().into_iter().find(|a| a.unusable.is_none() && fits(a.f16)) else {
            println!("skipped: no Vulkan adapter for {precision:?}");
            return None;
        };
        Some(Wgpu::open(Some(adapter.index), WgpuOptions { precision, ..WgpuOptions::default() }).unwrap())
    }

    #[test]
    fn tiny_networks_of_every_family_on_the_wgpu_backend() {
        for (precision, bound) in [(Precision::F32, BOUND), (Precision::F16, HALF_BOUND)] {
            if let Some(backend) = open(precision) {
                check_within(bound, &backend, ALL, |name| name != LARGE);
            }
        }
    }

    #[test]
    fn ddpm_cifar10_32_on_the_wgpu_backend() {
        for (precision, bound) in [(Precision::F32, BOUND), (Precision::F16, HALF_BOUND)] {
            if let Some(backend) = open(precision) {
                check_within(bound, &backend, 1, |name| name == LARGE);
            }
        }
    }
}
