//! Networks of other code bases against their reference in float64: outputs at four levels and gradients, on both
//! backends.

use crate::golden::{self, ROOT_3, relative_l2, stored};
use crate::pcg;
use crate::seeded::Seeded;
use serde_json::Value;
use undiffuse::Cancel;
use undiffuse::backend::cpu::{Cpu, CpuOptions, Path};
use undiffuse::backend::reference::Reference;
use undiffuse::backend::{Backend, Network};
use undiffuse::graph::vjp::vjp;
use undiffuse::graph::{Graph, Role};
use undiffuse::model::ModelConfig;
use undiffuse::tensor::Dims;

const INPUT_SEED: u64 = 41;
/// The bound that the project promises for a call.
const BOUND: f64 = 1e-5;
/// The bound that it promises for a gradient.
const GRADIENT_BOUND: f64 = 1e-4;

/// The numbers of a list, or of a list of rows.
fn floats(v: &Value) -> Vec<f32> {
    match v {
        Value::Array(all) => all.iter().flat_map(floats).collect(),
        one => vec![one.as_f64().unwrap() as f32],
    }
}

/// A case's configuration.
fn config(case: &Value) -> ModelConfig {
    ModelConfig::from_json(&case["config"].to_string()).unwrap_or_else(|e| panic!("{}: {e}", case["name"]))
}

/// A case's network.
fn graph(case: &Value) -> Graph {
    let (name, config) = (&case["name"], config(case));
    let shape = floats(&case["shape"]);
    let graph = config.build(Some([shape[1] as usize, shape[2] as usize])).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(graph.dims(graph.inputs()[0].value).channels(), shape[0] as usize, "{name}");
    assert_eq!(graph.parameter_count() as u64, case["parameters"].as_u64().unwrap(), "{name}");
    graph
}

/// Tokens as rows, as they are drawn, in the network's order.
fn channels_first(rows: &[f32], dims: Dims) -> Vec<f32> {
    let (c, n) = (dims.channels(), dims.positions());
    let sample = |s: &[f32]| (0..c * n).map(|i| s[i % n * c + i / n]).collect::<Vec<_>>();
    rows.chunks_exact(c * n).flat_map(sample).collect()
}

/// The inputs of a graph for all samples: of the network, or with its cotangent of one sample.
fn inputs(number: usize, case: &Value, graph: &Graph) -> Vec<Vec<f32>> {
    let batch = case["t"].as_array().unwrap().len();
    let mut next = 0;
    let draw = |port: &undiffuse::graph::Port| {
        let n = batch * graph.dims(port.value).elements();
        let stream = |i: usize| 100 * number as u64 + i as u64;
        match port.name.as_str() {
            "sample" => pcg::uniform(INPUT_SEED, stream(0), n, ROOT_3),
            "timestep" => floats(&case["t"]),
            "cotangent" => pcg::uniform(INPUT_SEED, stream(99), n, 1.0),
            name => match &case["inputs"][name] {
                Value::Array(_) => floats(&case["inputs"][name]),
                _ => {
                    next += 1;
                    let drawn = pcg::uniform(INPUT_SEED, stream(next), n, 1.0);
                    if port.role == Role::Tokens { channels_first(&drawn, graph.dims(port.value)) } else { drawn }
                }
            },
        }
    };
    graph.inputs().iter().map(draw).collect()
}

/// Runs the first `batch` samples of a case by this graph.
fn run(backend: &dyn Backend, case: &Value, graph: &Graph, inputs: &[Vec<f32>], batch: usize) -> Vec<Vec<f32>> {
    let (seeded, config) = (Seeded::new(graph), config(case));
    let read = |n: &str, d: &Dims, out: &mut [f32]| {
        seeded.read(n, d, out)?;
        config.adapt(n, d.as_slice(), out);
        Ok(())
    };
    let network: Box<dyn Network> = backend.compile(graph, &read).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
    let mut outputs: Vec<Vec<f32>> = network.outputs().iter().map(|d| vec![f32::NAN; batch * d.elements()]).collect();
    let ins: Vec<&[f32]> = inputs.iter().zip(network.inputs()).map(|(x, d)| &x[..batch * d.elements()]).collect();
    let mut outs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut workspace = vec![f32::NAN; network.workspace_len(batch).unwrap()];
    network.run(batch, &ins, &mut outs, &mut workspace, &Cancel::new()).unwrap();
    outputs
}

fn check(backend: &dyn Backend) {
    check_within([BOUND, GRADIENT_BOUND], backend);
}

/// Holds outputs and gradients to bounds.
fn check_within([bound, gradient_bound]: [f64; 2], backend: &dyn Backend) {
    let (cases, bytes) = (golden::json("families.json"), std::fs::read(golden::path("families.safetensors")).unwrap());
    let mut failed = Vec::new();
    for (number, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let graph = graph(case);
        let all = inputs(number, case, &graph);
        let batch = case["t"].as_array().unwrap().len();
        let got = run(backend, case, &graph, &all, batch);
        let want = stored(&bytes, name);
        let n = want.len() / batch;
        let each = got[0].chunks(n).zip(want.chunks(n)).map(|(g, w)| relative_l2(g, w));
        let error = each.fold(0.0, f64::max);
        let gradient = vjp(&graph, 0, 0).unwrap();
        let got = run(backend, case, &gradient, &inputs(number, case, &gradient), 1);
        let slope = relative_l2(&got[1], &stored(&bytes, &format!("{name}, gradient")));
        println!("{}: {name}: {error:.1e}, gradient {slope:.1e}", backend.name());
        if !(error <= bound && slope <= gradient_bound) {
            failed.push(format!("{name}: {error:.1e}, gradient {slope:.1e}"));
        }
    }
    assert!(failed.is_empty(), "{}: {failed:#?}", backend.name());
}

#[test]
fn networks_and_gradients_on_the_reference_backend() {
    check(&Reference);
}

#[test]
fn networks_and_gradients_on_every_path_of_the_cpu_backend() {
    for path in Path::ALL {
        match Cpu::with_options(CpuOptions { path: Some(path), threads: Some(2), ..CpuOptions::default() }) {
            Ok(cpu) => check(&cpu),
            Err(e) => println!("skipped: {e}"),
        }
    }
}

#[test]
fn a_samples_bits_depend_on_nothing_but_itself() {
    let cases = golden::json("families.json");
    for (number, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
        let graph = graph(case);
        let all = inputs(number, case, &graph);
        let cpu = |threads| {
            Cpu::with_options(CpuOptions { path: None, threads: Some(threads), ..CpuOptions::default() }).unwrap()
        };
        let one = run(&cpu(1), case, &graph, &all, 1);
        for threads in [1, 2, 3] {
            for batch in [1, 3, 4] {
                let got = run(&cpu(threads), case, &graph, &all, batch);
                assert_eq!(got[0][..one[0].len()], one[0], "{}: {threads} threads, batch {batch}", case["name"]);
            }
        }
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::{BOUND, GRADIENT_BOUND, check_within};
    use undiffuse::backend::wgpu::{Wgpu, WgpuOptions, adapters};

    #[test]
    #[ignore = "long: `.ci/run long`"]
    fn networks_and_gradients_on_the_wgpu_backend() {
        let Some(adapter) = adapters().into_iter().find(|a| a.unusable.is_none()) else {
            println!("skipped: no Vulkan adapter");
            return;
        };
        check_within([BOUND, GRADIENT_BOUND], &Wgpu::open(Some(adapter.index), WgpuOptions::default()).unwrap());
    }
}
