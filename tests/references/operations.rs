//! Single operations and their gradients against PyTorch in float64, on the reference and cpu backends, and the cpu
//! backend in batches and threads.

use crate::golden::{self, ROOT_3, relative_l2, stored};
use crate::layout_suite::{Layout, cases};
use crate::pcg;
use crate::seeded::Seeded;
use undiffuse::Cancel;
use undiffuse::backend::cpu::{Cpu, CpuOptions, Path};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network};
use undiffuse::graph::Graph;
use undiffuse::graph::fuse::{fuse, fuse_backward};
use undiffuse::graph::vjp::vjp;

const INPUT_SEED: u64 = 31;
const BATCH: usize = 2;
/// The relative L2 error of any f32 backend; the oracle's is below 1e-7.
const BOUND: f64 = 1e-6;

/// The inputs of `graph`, and last the cotangent where it is a gradient's.
fn inputs(number: usize, graph: &Graph) -> Vec<Vec<f32>> {
    let draw = |(i, port): (usize, &undiffuse::graph::Port)| {
        let n = BATCH * graph.dims(port.value).elements();
        let stream = |i: usize| 10 * number as u64 + i as u64;
        match port.name.as_str() {
            "class" => (0..n).map(|i| i as f32).collect(),
            "cotangent" => pcg::uniform(INPUT_SEED, stream(9), n, 1.0),
            _ => pcg::uniform(INPUT_SEED, stream(i), n, ROOT_3),
        }
    };
    graph.inputs().iter().enumerate().map(draw).collect()
}

fn run(backend: &dyn Backend, graph: &Graph, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let seeded = Seeded::new(graph);
    let network: Box<dyn Network> =
        backend.compile(graph, &|n: &str, d: &_, out: &mut [f32]| seeded.read(n, d, out)).unwrap();
    let mut outputs: Vec<Vec<f32>> = network.outputs().iter().map(|d| vec![f32::NAN; BATCH * d.elements()]).collect();
    let ins: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![f32::NAN; network.workspace_len(BATCH).unwrap()];
    network.run(BATCH, &ins, &mut outs, &mut workspace, &Cancel::new()).unwrap();
    outputs
}

/// The output and, where there is one, the gradient of a case.
fn both(backend: &dyn Backend, number: usize, case: &Layout, rewrite: fn(&Graph) -> Graph) -> Vec<Vec<f32>> {
    let graph = case.graph();
    let graph = rewrite(&if case.gradient { vjp(&graph, 0, 0).unwrap() } else { graph });
    run(backend, &graph, &inputs(number, &graph))
}

fn check(backend: &dyn Backend, rewrite: fn(&Graph) -> Graph) {
    check_within(BOUND, backend, rewrite);
}

fn check_within(bound: f64, backend: &dyn Backend, rewrite: fn(&Graph) -> Graph) {
    let bytes = std::fs::read(golden::path("operations.safetensors")).unwrap();
    let mut failed = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let got = both(backend, number, case, rewrite);
        for (got, name) in got.iter().zip([case.name.to_string(), format!("{}, gradient", case.name)]) {
            let error = relative_l2(got, &stored(&bytes, &name));
            println!("{}: {name}: {error:.1e}", backend.name());
            if error.is_nan() || error > bound {
                failed.push(format!("{name}: {error:.1e}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}: {failed:#?}", backend.name());
}

#[test]
fn operations_and_gradients_are_pytorchs_on_the_reference_backend() {
    check(&Reference, |g| g.clone());
    check(&Reference, |g| fuse(&fuse_backward(g).unwrap()).unwrap());
}

#[test]
fn operations_and_gradients_are_pytorchs_on_every_path_of_the_cpu_backend() {
    for path in Path::ALL {
        for threads in [1, 2, 3] {
            match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(threads), ..CpuOptions::default() }) {
                Ok(cpu) => check(&cpu, |g| g.clone()),
                Err(e) => println!("skipped: {e}"),
            }
        }
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::{check_within, fuse, fuse_backward};
    use undiffuse::backend::wgpu::{Precision, Wgpu, WgpuOptions, adapters};

    #[test]
    fn operations_and_gradients_are_pytorchs_on_the_wgpu_backend() {
        for (precision, bound) in [(Precision::F32, 2e-6), (Precision::F16, 5e-3)] {
            let fits = |f16| f16 || precision == Precision::F32;
            let Some(adapter) = adapters().into_iter().find(|a| a.unusable.is_none() && fits(a.f16)) else {
                println!("skipped: no Vulkan adapter for {precision:?}");
                continue;
            };
            let options = WgpuOptions { precision, ..WgpuOptions::default() };
            let backend = Wgpu::open(Some(adapter.index), options).unwrap();
            check_within(bound, &backend, |g| g.clone());
            check_within(bound, &backend, |g| fuse(&fuse_backward(g).unwrap()).unwrap());
        }
    }
}
