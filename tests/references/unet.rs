//! Every block family and configuration key of UNet2DModel, and the exact ddpm-cifar10-32 network, against diffusers in
//! float64.

use crate::golden;
use crate::pcg;
use serde_json::Value;
use undiffuse::Cancel;
use undiffuse::backend::cpu::Path;
use undiffuse::backend::cpu::{Cpu, CpuOptions};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network};
use undiffuse::graph::Graph;
use undiffuse::model::unet2d::{self, UNet2DConfig};

use crate::golden::{ROOT_3, relative_l2, stored};
use crate::seeded::Seeded;

/// The stream of inputs, as in make_unet.py.
const INPUT_SEED: u64 = 21;
/// The bound that the project promises.
const BOUND: f64 = 1e-5;

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The network of a case and its inputs for all images.
struct Drawn {
    graph: Graph,
    inputs: Vec<Vec<f32>>,
    images: usize,
}

impl Drawn {
    fn new(index: usize, case: &Value) -> Self {
        let name = case["name"].as_str().unwrap();
        let config = UNet2DConfig::from_json(&case["config"].to_string()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let size = floats(&case["size"]);
        let graph = unet2d::build(&config, [size[0] as usize, size[1] as usize]);
        let graph = graph.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(graph.parameter_count() as u64, case["parameters"].as_u64().unwrap(), "{name}");
        let t = floats(&case["t"]);
        let images = t.len();
        let len = |i: usize| graph.inputs().get(i).map_or(0, |p| images * graph.dims(p.value).elements());
        let class = match (case.get("class_labels"), case.get("class_vectors")) {
            (Some(labels), _) => floats(labels),
            (None, Some(_)) => pcg::uniform(INPUT_SEED, 1000 + index as u64, len(2), 1.0),
            (None, None) => Vec::new(),
        };
        assert_eq!(class.len(), len(2), "{name}");
        let mut inputs = vec![pcg::uniform(INPUT_SEED, index as u64, len(0), ROOT_3), t, class];
        inputs.truncate(graph.inputs().len());
        Self { graph, inputs, images }
    }

    /// A backend's network of a graph that has the weights of this one.
    fn compile(&self, backend: &dyn Backend, graph: &Graph) -> Box<dyn Network> {
        let seeded = Seeded::new(&self.graph);
        backend.compile(graph, &|n: &str, d: &_, out: &mut [f32]| seeded.read(n, d, out)).unwrap()
    }
}

/// Runs image `i` of these inputs.
fn run(network: &dyn Network, inputs: &[Vec<f32>], i: usize) -> Vec<Vec<f32>> {
    let mut outputs: Vec<Vec<f32>> = network.outputs().iter().map(|d| vec![0.0; d.elements()]).collect();
    let ins: Vec<&[f32]> =
        inputs.iter().zip(network.inputs()).map(|(x, d)| &x[i * d.elements()..][..d.elements()]).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![0.0; network.workspace_len(1).unwrap()];
    network.run(1, &ins, &mut outs, &mut workspace, &Cancel::new()).unwrap();
    outputs
}

/// Runs the last `images` of a case on a backend, one by one, and gives the worst relative L2 error.
fn worst(backend: &dyn Backend, index: usize, case: &Value, images: usize) -> f64 {
    let drawn = Drawn::new(index, case);
    let network = drawn.compile(backend, &drawn.graph);
    let want = stored(&std::fs::read(golden::path("unet.safetensors")).unwrap(), case["name"].as_str().unwrap());
    let n = network.outputs()[0].elements();
    let last = drawn.images.saturating_sub(images)..drawn.images;
    last.map(|i| relative_l2(&run(&*network, &drawn.inputs, i)[0], &want[i * n..][..n])).fold(0.0, f64::max)
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
    let cpu = |path| match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(2), ..CpuOptions::default() })
    {
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
    use super::{ALL, BOUND, Drawn, INPUT_SEED, LARGE, check_within, golden, pcg, relative_l2, run};
    use undiffuse::backend::Backend;
    use undiffuse::backend::cpu::Cpu;
    use undiffuse::backend::reference::Reference;
    use undiffuse::backend::wgpu::{Precision, Wgpu, WgpuOptions, adapters};
    use undiffuse::graph::vjp::vjp;

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
    #[ignore = "long: `.ci/run long`"]
    fn ddpm_cifar10_32_on_the_wgpu_backend() {
        for (precision, bound) in [(Precision::F32, BOUND), (Precision::F16, HALF_BOUND)] {
            if let Some(backend) = open(precision) {
                check_within(bound, &backend, 1, |name| name == LARGE);
            }
        }
    }

    /// Holds outputs and gradients of the last image of each case to those of another backend.
    fn check_gradients(oracle: &dyn Backend, wanted: impl Fn(&str) -> bool) {
        let bounds = [(Precision::F32, BOUND), (Precision::F16, HALF_BOUND)];
        let backends: Vec<_> = bounds.into_iter().filter_map(|(p, bound)| open(p).zip(Some(bound))).collect();
        let cases = golden::json("unet.json");
        let mut failed = Vec::new();
        for (index, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
            let name = case["name"].as_str().unwrap();
            if backends.is_empty() || !wanted(name) {
                continue;
            }
            let mut drawn = Drawn::new(index, case);
            let gradient = vjp(&drawn.graph, 0, 0).unwrap();
            let cotangent = gradient.dims(gradient.inputs().last().unwrap().value).elements() * drawn.images;
            drawn.inputs.push(pcg::uniform(INPUT_SEED, 2000 + index as u64, cotangent, 1.0));
            let last = drawn.images - 1;
            let want = run(&*drawn.compile(oracle, &gradient), &drawn.inputs, last);
            for (backend, bound) in &backends {
                let network = drawn.compile(backend, &gradient);
                let got = run(&*network, &drawn.inputs, last);
                let errors: Vec<f64> = got.iter().zip(&want).map(|(g, w)| relative_l2(g, w)).collect();
                let text = format!("{name} on {}: {:.1e}, gradient {:.1e}", network.describe(), errors[0], errors[1]);
                println!("{text}");
                if errors.iter().any(|e| e.is_nan() || e > bound) {
                    failed.push(text);
                }
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    #[ignore = "long: `.ci/run long`"]
    fn gradients_of_every_family_on_the_wgpu_backend() {
        check_gradients(&Reference, |name| name != LARGE);
    }

    #[test]
    #[ignore = "long: `.ci/run long`"]
    fn the_gradient_of_ddpm_cifar10_32_on_the_wgpu_backend() {
        // Plain loops would take a minute. The cpu backend has its own tests.
        check_gradients(&Cpu::new().unwrap(), |name| name == LARGE);
    }
}
